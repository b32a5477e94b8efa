"""What the operator gives: credit, and charges back. Both with a reason, both on the record."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing.credits import DEFAULT_PRIORITY
from billing.ledger import grant_credit
from billing.models import CreditGrant, UsageEvent, UsageRefund
from billing.money import Nanos, to_decimal_string
from billing.refunding import refund_event
from marketplace import audit
from marketplace.models import Organization, User


@transaction.atomic
def give_credit(
    organization: Organization,
    *,
    amount_nanos: Nanos,
    reason: str,
    reference: str,
    by: User,
    expires_at: datetime | None = None,
    priority: int = DEFAULT_PRIORITY,
) -> CreditGrant:
    """Give an organization credit that it can spend at once. Safe to repeat: one grant per reference.

    Raises:
        GrantConflict: the reference was used for another amount or organization. Nothing was granted.
        ValueError: the amount or the priority is out of range. Nothing was granted.
    """
    is_new = not CreditGrant.objects.filter(reference=reference).exists()
    grant = grant_credit(
        organization.account,
        amount_nanos,
        kind=CreditGrant.Kind.OPERATOR,
        reference=reference,
        by=by.email,
        expires_at=expires_at,
        priority=priority,
    )
    if is_new:
        details = {"amount": to_decimal_string(amount_nanos), "reason": reason, "reference": reference}
        if expires_at is not None:
            details["expires_at"] = expires_at.isoformat()
        if priority != DEFAULT_PRIORITY:
            details["priority"] = str(priority)
        audit.record(organization, action="credit.granted", target=organization, by=by, details=details)
    return grant


@transaction.atomic
def refund_call(event_id: UUID, *, reason: str, by: User) -> UsageRefund:
    """Give one call's charge back in full. Refunding it again changes nothing.

    Raises:
        UsageEvent.DoesNotExist: there is no such event.
    """
    event = UsageEvent.objects.select_related("account__organization").get(pk=event_id)
    is_new = not UsageRefund.objects.filter(event=event).exists()
    refund = refund_event(event_id, reason=reason, by=by.email)
    if is_new:
        details = {"amount": to_decimal_string(refund.charge_nanos), "reason": reason}
        audit.record(event.account.organization, action="call.refunded", target=event_id, by=by, details=details)
    return refund
