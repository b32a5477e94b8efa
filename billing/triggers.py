"""Triggers by which the database itself refuses to change facts or to post what does not balance.

Called from migrations. On SQLite, Django alters a table by copying it, which drops its
triggers: a migration that alters one of these tables must end with `append_only(table)`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from django.apps.registry import Apps
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

APPEND_ONLY: Final = (
    "billing_price",
    "billing_usageevent",
    "billing_usagerefund",
    "billing_ledgertransaction",
    "billing_ledgerentry",
    "billing_creditgrant",
    "billing_invoiceline",
)

_ENTRIES_OF_NEW: Final = "FROM billing_ledgerentry WHERE transaction_id = NEW.id"
_UNBALANCED: Final = f"(SELECT COUNT(*) {_ENTRIES_OF_NEW}) < 2 OR (SELECT SUM(amount_nanos) {_ENTRIES_OF_NEW}) <> 0"
_SEALED: Final = "EXISTS (SELECT 1 FROM billing_ledgertransaction WHERE id = NEW.transaction_id)"

# Name, table, event, condition (None: always), message.
_REFUSALS: Final = (
    *(
        (f"{table}_no_{event.lower()}", table, event, None, f"{table} is append-only")
        for table in APPEND_ONLY
        for event in ("UPDATE", "DELETE")
    ),
    ("billing_ledger_balanced", "billing_ledgertransaction", "INSERT", _UNBALANCED, "ledger entries do not sum to zero"),
    ("billing_ledger_sealed", "billing_ledgerentry", "INSERT", _SEALED, "the ledger transaction is complete"),
)


def install_triggers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create all triggers, replacing those that are there. A refusal surfaces as IntegrityError."""
    remove_triggers(apps, schema_editor)
    for name, table, event, condition, message in _REFUSALS:
        _create(schema_editor, name, table, event, condition, message)


def make_append_only(schema_editor: BaseDatabaseSchemaEditor, table: str) -> None:
    """Have the database refuse to change or delete a table's rows, for tables of other packages too."""
    for event in ("UPDATE", "DELETE"):
        _create(schema_editor, f"{table}_no_{event.lower()}", table, event, None, f"{table} is append-only")


def append_only(table: str) -> Callable[[Apps, BaseDatabaseSchemaEditor], None]:
    """Return a migration's step after which a new or altered table's rows refuse changes.

    For RunPython, forwards and backwards: on SQLite, Django alters a table by copying it, without its triggers.
    """

    def protect(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:  # noqa: ARG001 (RunPython's signature)
        for event in ("UPDATE", "DELETE"):
            _drop(schema_editor, f"{table}_no_{event.lower()}", table)
        make_append_only(schema_editor, table)

    return protect


def fixed_columns(table: str, columns: Sequence[str]) -> Callable[[Apps, BaseDatabaseSchemaEditor], None]:
    """Return a migration's step after which a table's rows may change, but not in these columns, and not be deleted."""

    def protect(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:  # noqa: ARG001 (RunPython's signature)
        differs = "IS DISTINCT FROM" if schema_editor.connection.vendor == "postgresql" else "IS NOT"
        condition = " OR ".join(f"NEW.{column} {differs} OLD.{column}" for column in columns)
        for event in ("UPDATE", "DELETE"):
            _drop(schema_editor, f"{table}_no_{event.lower()}", table)
        _create(schema_editor, f"{table}_no_update", table, "UPDATE", condition, f"{table} keeps what it promises")
        _create(schema_editor, f"{table}_no_delete", table, "DELETE", None, f"{table} is kept")

    return protect


def _create(schema_editor: BaseDatabaseSchemaEditor, name: str, table: str, event: str, condition: str | None, message: str) -> None:  # noqa: PLR0917 (one trigger, spread out)
    create = _create_on_postgresql if schema_editor.connection.vendor == "postgresql" else _create_on_sqlite
    for statement in create(name, table, event, condition, message):
        schema_editor.execute(statement)


def remove_triggers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:  # noqa: ARG001 (RunPython's signature)
    """Drop all triggers."""
    for name, table, *_ in _REFUSALS:
        _drop(schema_editor, name, table)


def _drop(schema_editor: BaseDatabaseSchemaEditor, name: str, table: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
        schema_editor.execute(f"DROP FUNCTION IF EXISTS {name}()")
    else:
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}")


def _create_on_sqlite(name: str, table: str, event: str, condition: str | None, message: str) -> list[str]:
    when = f"WHEN {condition}" if condition else ""
    return [f"CREATE TRIGGER {name} BEFORE {event} ON {table} {when} BEGIN SELECT RAISE(ABORT, '{message}'); END"]


def _create_on_postgresql(name: str, table: str, event: str, condition: str | None, message: str) -> list[str]:
    refuse = f"RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';"
    body = f"IF {condition} THEN {refuse} END IF; RETURN NEW;" if condition else refuse
    return [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()",
    ]
