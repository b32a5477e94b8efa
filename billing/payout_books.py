"""The books of what was sent to providers: every posting against the payout or reversal that it is of."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.db.models import Sum

from billing.models import LedgerEntry, Payout, PayoutReversal
from billing.money import NANOS_PER_CENT
from billing.payable import MOVES
from billing.payouts import PAYOUTS

# What was found, and what the facts say, in nanos by row.
Sums = dict[Any, int]


def payout_sums() -> Iterator[tuple[str, Sums, Sums]]:
    """Yield what is compared: what the ledger says of each provider, and of the fund of what was sent, against the rows behind it."""
    sent: Sums = defaultdict(int)
    by_currency: Sums = defaultdict(int)
    payouts = Payout.objects.exclude(status=Payout.Status.FAILED).values_list("account", "currency")
    reversals = PayoutReversal.objects.filter(status=PayoutReversal.Status.DONE).values_list("payout__account", "payout__currency")
    for sign, rows in ((1, payouts), (-1, reversals)):
        for account, currency, cents in rows.annotate(total=Sum("amount_cents")):
            sent[str(account), currency] += sign * int(cents) * NANOS_PER_CENT
            by_currency[currency] += sign * int(cents) * NANOS_PER_CENT
    moves = LedgerEntry.objects.filter(transaction__kind__in=MOVES)
    ledger: Sums = defaultdict(int)
    fund: Sums = defaultdict(int)
    for name, currency, total in moves.values_list("ledger_account__name", "ledger_account__currency").annotate(total=Sum("amount_nanos")):
        if name.partition(":")[0] == PAYOUTS:
            fund[currency] += int(total)
        else:
            ledger[name.split(":")[1], currency] -= int(total)
    yield "payouts", ledger, sent
    yield "payout fund", fund, by_currency
