"""What follows from the hourly check of the books: accounts whose books differ are stopped, and the operator is told."""

import logging
from collections.abc import Sequence

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from billing import books, reviewing
from billing.books import Difference
from billing.models import Account
from marketplace import audit
from marketplace.changes import organization_changed
from marketplace.models import Organization, User

log = logging.getLogger(__name__)

# Differences that a mail names; the others are in the log.
_NAMED = 20


def check_books() -> Sequence[Difference] | None:
    """Check the books if nobody has this hour, and act on what was found; None where somebody has."""
    differences = books.check_this_hour()
    if differences:
        act_on(differences)
    return differences


def act_on(differences: Sequence[Difference]) -> None:
    """Stop charging the accounts that differences concern, log each difference as an error, and tell the operator by mail.

    A mail goes out with each account that is stopped, and not again each hour.
    """
    for difference in differences:
        log.error("The books differ: %s", difference)
    with transaction.atomic():
        stopped = reviewing.start_reviews(differences)
        for organization in Organization.objects.filter(account__in=stopped).select_related("account"):
            organization_changed(organization)
            details = {"difference": organization.account.review_words}
            audit.record(organization, action="account.review_started", target=organization, by="books", details=details)
    if stopped:
        _tell(stopped, differences)


@transaction.atomic
def lift_review(organization: Organization, *, reason: str, by: User) -> None:
    """Let an organization be charged again.

    Raises:
        ValueError: it is under no review.
    """
    account = Account.objects.get(pk=organization.account_id)
    if not reviewing.lift_review(account):
        message = "It is under no review."
        raise ValueError(message)
    organization_changed(organization)
    details = {"reason": reason, "difference": account.review_words}
    audit.record(organization, action="account.review_lifted", target=organization, by=by, details=details)


def _tell(stopped: Sequence[Account], differences: Sequence[Difference]) -> None:
    addresses = list(User.objects.filter(is_superuser=True, is_active=True).values_list("email", flat=True))
    names = ", ".join(account.name for account in stopped)
    lines = [
        f"The books do not balance: {len(differences)} differences. These accounts are not charged until you lift their review: {names}.",
        "",
        *(f"- {difference}" for difference in differences[:_NAMED]),
        "",
        f"{settings.SITE_URL}/admin/",
    ]
    if addresses:
        send_mail("The books do not balance", "\n".join(lines), None, addresses)
