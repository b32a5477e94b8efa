"""What an account comes to, without ids and times: two histories that end alike are equal."""

from typing import Any

from billing.ledger import balance
from billing.models import (
    Account,
    Card,
    CreditGrant,
    CreditReversal,
    Customer,
    Dispute,
    InvoiceLine,
    LedgerEntry,
    OutboxRow,
    PaymentRefund,
    StripeEventWork,
    TopUp,
    UsageEvent,
)


def money_of(account: Account) -> dict[str, Any]:
    """Return everything about an account's money that a crash, a fault or an order of events could have changed."""
    now = balance(account)
    own = {"account": account}
    events = UsageEvent.objects.filter(**own)
    return {
        "balance": (now.granted, now.spent, now.held),
        "calls": sorted(events.filter(refund__isnull=True).values_list("sku", "units", "charge_nanos")),
        "grants": sorted(CreditGrant.objects.filter(**own).values_list("kind", "amount_nanos")),
        "reversals": sorted(CreditReversal.objects.filter(**own).values_list("kind", "amount_nanos")),
        "ledger": sorted(LedgerEntry.objects.filter(ledger_account__account=account).values_list("transaction__kind", "amount_nanos")),
        "lines": sorted(
            InvoiceLine.objects.filter(invoice__account=account).values_list("sku", "events", "units", "charge_nanos", "amount_cents")
        ),
        "top_ups": sorted(TopUp.objects.filter(**own).values_list("source", "status", "amount_cents")),
        "refunds": sorted(PaymentRefund.objects.filter(top_up__account=account).values_list("status", "amount_cents")),
        "disputes": sorted(Dispute.objects.filter(top_up__account=account).values_list("status", "amount_cents")),
        "customers": Customer.objects.filter(**own).exclude(customer_id="").count(),
        "is_frozen": Customer.objects.filter(**own, frozen_at__isnull=False).exists(),
        "cards": sorted((card.last4, card.removed_at is None) for card in Card.objects.filter(customer__account=account)),
        "outbox": sorted(OutboxRow.objects.filter(**own).values_list("kind", "state")),
        "inbox": StripeEventWork.objects.filter(outcome="waiting").count(),
    }
