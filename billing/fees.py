"""Charge a fee: the same facts as a call leaves (event, receipt, hourly sum, budget), so bills and books hold it as they hold calls."""

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from billing.errors import FeeUnpaid
from billing.ids import public_id, uuid7
from billing.ledger import ACCOUNT_SUBJECT, balance
from billing.models import Account, Budget, GatewayProcess, Lease, Price, UsageEvent
from billing.periods import EPOCH
from billing.receipting import WriteReceiptKey
from billing.receipts import Signer
from billing.settling import Settlement, WriteSettlements
from billing.sql import lock_budgets

# Who a fee's event is "from", where a call's says its key.
FEE_SOURCE: Final = "plan"


def lock_credit(account: Account) -> Budget:
    """Lock the account's credit, then the account: in the order that settling and refunding lock them. In a transaction."""
    budget = Budget.objects.get(account=account, subject=ACCOUNT_SUBJECT, starts_at=EPOCH)
    with connection.cursor() as cursor:
        lock_budgets(cursor, [budget.pk])
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    return budget


@transaction.atomic
def charge_fee(account: Account, price: Price, *, sku: str, occurred_at: datetime) -> UsageEvent:
    """Charge one month's unit at a price out of the account's credit; return the fact.

    A lease of its own, taken by the same condition as a gateway's, so it never spends what calls hold.

    Raises:
        FeeUnpaid: the balance has too little left. Nothing was charged.
    """
    budget = lock_credit(account)
    now = timezone.now()
    # Reclaimed from birth: nothing of it is ever in doubt, and no sweep looks at it.
    process = GatewayProcess.objects.create(started_at=now, heartbeat_at=now, delivered_seq=1, closed_at=now, reclaimed_at=now)
    fee = price.unit_nanos
    if fee:
        _lease(budget, process, fee, account=account)
    signer = Signer(settings.RECEIPT_KEY)
    WriteReceiptKey(signer).write([None])
    event_id = uuid7()
    settlement = Settlement(
        process_id=process.pk,
        seq=1,
        event_id=event_id,
        account_id=account.pk,
        price_id=price.pk,
        sku=sku,
        unit=Price.Unit.MONTH,
        units=1,
        charge_nanos=fee,
        livemode=True,
        source=FEE_SOURCE,
        occurred_at=occurred_at,
        replayable=True,
        budget_ids=[budget.pk] if fee else [],
        currency=price.currency,
        call=public_id("req", event_id),
    )
    (settled,) = WriteSettlements(lambda: process.pk, signer=signer).write([settlement])
    if isinstance(settled, Exception):
        raise settled
    Lease.objects.filter(process=process).delete()  # Of 0 by now.
    return UsageEvent.objects.get(pk=event_id)


def _lease(budget: Budget, process: GatewayProcess, amount: int, *, account: Account) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_budget SET leased_nanos = leased_nanos + %s WHERE id = %s AND spent_nanos + leased_nanos + %s <= limit_nanos",
            [amount, budget.pk, amount],
        )
        if not cursor.rowcount:
            raise FeeUnpaid(fee_nanos=amount, left_nanos=balance(account).available)
    Lease.objects.create(budget=budget, process=process, amount_nanos=amount)
