"""Rebates: what volume prices charged above the rate that the month reached in the end, given back at its close."""

from datetime import datetime

from django.db.models import Q, QuerySet, Sum

from billing import ledger
from billing.models import Account, CreditGrant, Invoice, InvoiceLine, UsageCounter
from billing.money import Nanos
from billing.prices import terms_of
from billing.pricing import rebate, shape_of
from billing.share_rebates import take_back_share


def give_rebates(account: Account, invoice: Invoice) -> None:
    """Grant what the calls of an invoice's lines were charged too much. In the transaction that closes the month.

    Late calls may have brought their month to a better rate: what that makes less of the lines that were billed
    before is granted as well.
    """
    for line in invoice.lines.select_related("price", "invoice").exclude(price__shape=None):
        terms, month = terms_of(line.price), line.late_from or invoice.starts_at
        counter = UsageCounter.objects.filter(account=account, meter=terms.counted_as, unit=terms.unit, starts_at=month).first()
        lines = _lines_of(account, line, month)
        sums = lines.aggregate(units=Sum("units"), charge=Sum("charge_nanos"))
        units = int(sums["units"])
        whole = rebate(shape_of(terms), units=units, charged_nanos=int(sums["charge"]), month_units=counter.units if counter else units)
        amount = whole - _given(lines)
        if amount > 0:
            ledger.grant_credit(account, Nanos(amount), kind=CreditGrant.Kind.REBATE, reference=_reference(line), by="system")
            take_back_share(account, line, rebate_nanos=amount)


def _lines_of(account: Account, line: InvoiceLine, month: datetime) -> QuerySet[InvoiceLine]:
    """Return all lines of a month's calls at a price: its own, and the late ones so far."""
    own = Q(late_from__isnull=True, invoice__starts_at=month)
    return InvoiceLine.objects.filter(own | Q(late_from=month), invoice__account=account, sku=line.sku, price=line.price_id)


def _given(lines: QuerySet[InvoiceLine]) -> int:
    references = [_reference(line) for line in lines.select_related("invoice")]
    given = CreditGrant.objects.filter(kind=CreditGrant.Kind.REBATE, reference__in=references)
    return int(given.aggregate(total=Sum("amount_nanos"))["total"] or 0)


def _reference(line: InvoiceLine) -> str:
    late = f":{line.late_from:%Y%m}" if line.late_from else ""
    return f"rebate:{line.invoice.number}:{line.price_id}{late}"
