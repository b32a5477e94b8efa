"""What a rebate takes back of providers' shares: they earned on a charge that was higher than the month's rate in the end."""

from django.db.models import Max, Q, QuerySet, Sum

from billing import ledger
from billing.ids import uuid7
from billing.models import Account, InvoiceLine, UsagePosting
from billing.periods import month_of


def take_back_share(account: Account, line: InvoiceLine, *, rebate_nanos: int) -> None:
    """Post each provider's part of a rebate on an invoice's line: as much of it as their share is of the charge, rounded down. In a transaction.

    Else whoever sells at a volume price could have a friend pay the highest rate, which the site gives back, and keep the share of it.
    """
    rows = UsagePosting.objects.filter(account=account, period=line.invoice.starts_at, sku=line.sku, price=line.price_id)
    came_late = Q(kind=UsagePosting.Kind.USAGE, hour__lt=line.invoice.starts_at)
    if line.late_from is None:
        rows = rows.exclude(came_late)
    else:
        rows = rows.filter(came_late, hour__gte=line.late_from, hour__lt=month_of(line.late_from)[1])
    charge = int(rows.aggregate(total=Sum("charge_nanos"))["total"] or 0)
    shares = rows.filter(payee__isnull=False).order_by("payee").values_list("payee").annotate(total=Sum("share_nanos"))
    for payee, share in list(shares):
        part = rebate_nanos * int(share) // charge if charge > 0 else 0
        if part > 0:
            _post(rows.filter(payee=payee, kind=UsagePosting.Kind.USAGE).order_by("hour", "number"), part, line)


def _post(rows: QuerySet[UsagePosting], part: int, line: InvoiceLine) -> None:
    first, last = rows.select_related("account", "payee").first(), rows.last()
    assert first is not None
    assert first.payee is not None
    assert last is not None
    payer = first.account
    hour = UsagePosting.objects.filter(account=payer, hour=first.hour, sku=first.sku, price=first.price_id)
    row = UsagePosting(
        id=uuid7(),
        account=payer,
        hour=first.hour,
        sku=first.sku,
        price_id=first.price_id,
        unit=first.unit,
        number=(hour.aggregate(last=Max("number"))["last"] or 0) + 1,
        kind=UsagePosting.Kind.REBATE,
        period=first.period,
        corrects=first,
        events=0,
        units=0,
        charge_nanos=0,
        fee_nanos=part,
        share_nanos=-part,
        payee=first.payee,
        fee_basis_points=first.fee_basis_points,
        range_events=line.events,
        first_event=first.first_event,
        last_event=last.last_event,
        first_seq=first.first_seq,
        last_seq=last.last_seq,
        merkle_root=line.merkle_root,
    )
    amounts = {
        ledger.provider_account_name(first.payee, currency=payer.currency): -part,
        ledger.fund_name(ledger.REVENUE, payer.currency): part,
    }
    row.transaction = ledger.post(kind="usage_rebate", reference=f"usage:{row.pk}", by="system", amounts=amounts, owner=payer)
    row.save(force_insert=True)
