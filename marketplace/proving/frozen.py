"""Promise 8: a price is frozen at admission.

Two gateways serve callers without a pause while the price of what they call changes again and again. Each answer's cost, each
usage event and the account come to the same; and each call pays a price that held while it was under way.
"""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from django.db import transaction
from django.db.models import Sum

from billing.books import check_books
from billing.ids import parse_public_id
from billing.ledger import balance
from billing.models import Price, UsageEvent
from billing.money import to_decimal_string
from billing.prices import set_price
from billing.rerating import rederive_invoices
from marketplace.changes import model_changed
from marketplace.models import Organization
from marketplace.proving.calls import Caller
from marketplace.proving.findings import Untried, require
from marketplace.proving.site import Site, make_caller, serving

_CHANGES: Final = 20
_EVERY_S: Final = 0.4
_GATEWAYS: Final = 2
_CALLERS: Final = 3
# A gateway hears of a change within a second; until then it admits at the price before.
_HEARS_WITHIN: Final = timedelta(seconds=1)
TRIED: Final = (
    f"the price changed {_CHANGES} times, up and down, while {_CALLERS} callers at each of {_GATEWAYS} gateways call without a pause"
)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one caller was told, and when it asked."""

    call: str
    cost: str
    units: int
    began: datetime
    ended: datetime


def _call_while_prices_change(site: Site, secret: str) -> list[_Told]:
    told: list[_Told] = []
    stop, wrong = threading.Event(), list[int]()

    def call_on(port: int) -> None:
        caller = Caller(port, secret)
        while not stop.is_set():
            began = datetime.now(UTC)
            answer = caller.predict()
            if answer.status != 200:
                wrong.append(answer.status)
                continue
            usage = answer.json()["usage"]
            told.append(_Told(answer.json()["id"], usage["cost"], usage["units"], began, datetime.now(UTC)))

    threads = [threading.Thread(target=call_on, args=(port,)) for port in site.ports for _ in range(_CALLERS)]
    for thread in threads:
        thread.start()
    for number in range(_CHANGES):
        time.sleep(_EVERY_S)
        unit_nanos = 100 + 37 * (number + 1) * (1 if number % 2 else 100)
        with transaction.atomic():
            set_price(sku=site.version.sku, unit="token", unit_nanos=unit_nanos, meter=site.version.model.path)
            model_changed(site.version.model)
    time.sleep(_EVERY_S)
    stop.set()
    for thread in threads:
        thread.join()
    if not told or wrong:
        message = f"{len(told)} calls were answered; others: {sorted(set(wrong))}"
        raise Untried(message)
    return told


def _check(organization: Organization, told: list[_Told], sku: str) -> int:
    """Compare answers, events and account; return how many different prices were paid."""
    events = {event.pk: event for event in UsageEvent.objects.filter(account=organization.account).select_related("price")}
    prices = list(Price.objects.filter(sku=sku).order_by("effective_from"))
    ends = {price.pk: after.effective_from for price, after in pairwise(prices)}
    for one in told:
        identity = parse_public_id("req", one.call)
        event = events.get(identity) if identity else None
        require(event is not None, f"the call {one.call} was answered and is not on record")
        assert event is not None
        assert event.price is not None
        price = event.price
        require(one.cost == to_decimal_string(event.charge_nanos), f"a caller was told {one.cost}, and charged {event.charge_nanos} nanos")
        owed = one.units * price.unit_nanos
        require(event.charge_nanos == owed, f"{one.units} units at {price.unit_nanos} nanos were charged {event.charge_nanos}")
        end = ends.get(price.pk)
        held = price.effective_from <= one.ended and (end is None or end >= one.began - _HEARS_WITHIN)
        require(held, f"a call of {one.began} paid a price that held from {price.effective_from} to {end}")
    spent, charged = (
        balance(organization.account).spent,
        int(UsageEvent.objects.filter(account=organization.account).aggregate(total=Sum("charge_nanos"))["total"] or 0),
    )
    require(spent == charged, f"the account has spent {spent} nanos, its calls come to {charged}")
    wrong = [*check_books(), *rederive_invoices()]
    require(not wrong, f"the books: {wrong}")
    return len({event.price_id for event in events.values()})


def prove() -> str:
    """Try it; return what was seen."""
    with serving(gateways=_GATEWAYS) as site:
        organization, _, secret = make_caller("frozen")
        told = _call_while_prices_change(site, secret)
    paid = _check(organization, told, site.version.sku)
    if paid < _CHANGES // 2:
        message = f"Calls were made at {paid} prices only."
        raise Untried(message)
    return f"{len(told)} calls at {paid} prices: each was told and charged what its own price comes to"
