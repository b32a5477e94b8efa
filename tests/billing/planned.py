"""What tests of plans share: a hard and a soft plan, and calls under them as a gateway makes them."""

from datetime import datetime

from django.utils import timezone

from billing.agreements import Allowance, agreements_of, allowance_at
from billing.models import Account, Plan
from billing.plans import make_plan
from billing.pricing import Shape

FEE = 3_000_000_000
SCOPE = "house/model"


def hard(code: str = "small", *, fee: int = FEE, included: int = 100, scope: str = SCOPE) -> Plan:
    return make_plan(scope=scope, code=code, name=code, fee_nanos=fee, unit="call", included_units=included, quota="hard", by="test")


def soft(code: str = "soft", *, fee: int = FEE, included: int = 100, overage: int = 1000, scope: str = SCOPE) -> Plan:
    return make_plan(
        scope=scope, code=code, name=code, fee_nanos=fee, unit="call", included_units=included, quota="soft", by="test",
        overage=Shape(unit_nanos=overage),
    )  # fmt: skip


def allowance_of(account: Account, *, moment: datetime | None = None) -> Allowance:
    found = allowance_at(agreements_of(account.pk), meter=SCOPE, unit="call", moment=moment or timezone.now())
    assert found is not None
    return found
