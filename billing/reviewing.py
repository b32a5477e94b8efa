"""Stop charging accounts whose books differ, until the operator has looked."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing.books import Difference
from billing.models import Account, Budget, CreditNote, Invoice, TopUp

_MAX_WORDS: Final = 300
# Checks that name a row of a payment or a bill, and the column of whose it is.
_TABLES: Final[dict[str, tuple[Any, str]]] = {
    "top-up": (TopUp, "account"),
    "paid invoice": (Invoice, "account"),
    "credit note": (CreditNote, "invoice__account"),
}


def accounts_of(differences: Iterable[Difference]) -> dict[UUID, list[Difference]]:
    """Return the differences by the account whose charges or credit they concern; others, such as a provider's payouts, are left out."""
    by_account: dict[UUID, list[Difference]] = {}
    for difference in differences:
        account = _concerned(difference.what, difference.key)
        if account is not None:
            by_account.setdefault(account, []).append(difference)
    return by_account


def start_reviews(differences: Iterable[Difference]) -> Sequence[Account]:
    """Put the accounts that the differences concern under review; return those that were not and now are.

    An account that the operator let go on with just these differences is let go on.
    """
    stopped = []
    for account_id, concerned in sorted(accounts_of(differences).items()):
        with transaction.atomic():
            account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
            if account.under_review_at is None and account.review_accepted != signature_of(concerned):
                account.under_review_at = timezone.now()
                account.review_words = str(concerned[0])[:_MAX_WORDS]
                account.review_signature = signature_of(concerned)
                account.save(update_fields=["under_review_at", "review_words", "review_signature"])
                stopped.append(account)
    return stopped


def lift_review(account: Account) -> bool:
    """Let an account be charged again; False where it is under no review. The differences that stopped it will not stop it again."""
    lifted = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if lifted.under_review_at is None:
        return False
    lifted.under_review_at, lifted.review_accepted = None, lifted.review_signature
    lifted.save(update_fields=["under_review_at", "review_accepted"])
    return True


def signature_of(differences: Iterable[Difference]) -> str:
    """Return what tells these differences from others: what differs by how much, whatever was used since."""
    words = sorted(f"{one.what}{one.found - one.facts:+d}" for one in differences)
    return " ".join(words)[:_MAX_WORDS]


def _concerned(what: str, key: Any) -> UUID | None:
    if what.startswith("budget "):
        return Budget.objects.filter(pk=key).values_list("account", flat=True).first()
    if what in _TABLES:
        table, column = _TABLES[what]
        found: UUID | None = table.objects.filter(pk=key).values_list(column, flat=True).first()
        return found
    if what == "ledger usage":
        fund, _, owner = str(key).partition(":")
        return _existing(UUID(owner)) if fund == "credit" else None
    if what in {"account limit", "ledger credit"}:
        return _existing(key)
    if what.startswith("rollup ") or what in {"postings", "invoiced postings", "invoice line"}:
        return _existing(key[0])
    return None


def _existing(account_id: UUID) -> UUID | None:
    return account_id if Account.objects.filter(pk=account_id).exists() else None
