"""Tell organizations of their invoices: closed, paid, and not paid. Looked for every minute, told once each."""

from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing.ids import public_id
from billing.models import Invoice
from billing.money import render_cents
from billing.periods import render_moment
from marketplace.models import Notice, Organization
from marketplace.webhooks.outbox import emit

# How far back it is looked: whoever stops the site for longer has told nobody for as long.
_REACH: Final = timedelta(days=7)


def look() -> int:
    """Tell of each invoice that was closed, paid or missed lately, once; return how many were told."""
    since = timezone.now() - _REACH
    changed = Invoice.objects.filter(Q(created_at__gte=since) | Q(settled_at__gte=since) | Q(past_due_at__gte=since))
    told = 0
    for invoice in changed.select_related("account__organization").order_by("created_at").iterator(chunk_size=500):
        organization: Organization | None = getattr(invoice.account, "organization", None)
        if organization is None:
            continue
        happened = ["invoice.finalized"]
        if invoice.past_due_at:
            happened.append("invoice.payment_failed")
        if invoice.status == Invoice.Status.PAID:
            happened.append("invoice.paid")
        told += sum(_tell(organization, invoice, event) for event in happened)
    return told


def _tell(organization: Organization, invoice: Invoice, event: str) -> int:
    about = f"{event}:{invoice.number}"
    if Notice.objects.filter(organization=organization, about=about).exists():
        return 0
    with transaction.atomic():
        if not Notice.objects.get_or_create(organization=organization, about=about)[1]:
            return 0
        emit(organization, event, _fields(invoice))
    return 1


def _fields(invoice: Invoice) -> dict[str, Any]:
    return {
        "object": "invoice",
        "id": public_id("inv", invoice.pk),
        "number": invoice.number,
        "status": invoice.status,
        "starts_at": render_moment(invoice.starts_at),
        "ends_at": render_moment(invoice.ends_at),
        "currency": invoice.currency,
        "total": render_cents(invoice.total_cents),
        "tax": render_cents(invoice.tax_cents),
        "due": render_cents(invoice.due_cents),
        "hosted_url": invoice.hosted_url or None,
    }
