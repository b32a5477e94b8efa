"""The audit trail is append-only, whatever the code above does."""

from typing import ClassVar

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from billing.triggers import make_append_only


def install(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:  # noqa: ARG001 (RunPython's signature)
    """Create the triggers."""
    make_append_only(schema_editor, "marketplace_auditevent")


class Migration(migrations.Migration):
    """Creates the triggers; there is no way back to an audit trail that can be edited."""

    dependencies: ClassVar = [("marketplace", "0001_marketplace")]
    operations: ClassVar = [migrations.RunPython(install)]
