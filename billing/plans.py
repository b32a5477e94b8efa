"""Make, retire and find plans. What a plan promises never changes: another one is made instead."""

from collections.abc import Sequence
from dataclasses import replace

from django.core.validators import slug_re
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.errors import PlanInvalid, PriceInvalid
from billing.models import EVERYTHING, Plan, Price
from billing.money import CURRENCIES, CURRENCY, MAX_AMOUNT
from billing.prices import set_price, terms_of
from billing.pricing import Shape, Terms, shape_of

# How the meters that units under plans are counted by begin.
PLAN_METERS = ("plan:", "subscription:")
_MAX_UNITS = 10**15
_MAX_RATE = 1_000_000
_CODE_LENGTH = 20


def make_plan(
    *,
    scope: str,
    code: str,
    name: str,
    fee_nanos: int,
    unit: str,
    included_units: int | None,
    quota: str,
    by: str,
    overage: Shape | None = None,
    rate_per_minute: int | None = None,
    currency: str = CURRENCY,
) -> Plan:
    """Make a plan that can be subscribed to from now on.

    Args:
        scope: The meter of what it covers, or `EVERYTHING`.
        code: Its name on bills, unique in the scope and currency: a slug of at most 20 characters.
        name: Its name for people.
        fee_nanos: Of a whole month.
        unit: What it includes; what is sold by other units is not covered.
        included_units: In a whole month; None: without limit.
        quota: "hard": calls beyond are refused. "soft": they cost the overage.
        by: Who makes it.
        overage: The price beyond the included units, of a soft quota with a limit. It has no free units of its own.
        rate_per_minute: Calls a minute under the plan; None: as any other.
        currency: What it is paid in.

    Raises:
        PlanInvalid: the facts do not make a plan, or the code is taken. Nothing was made.
    """
    _check(code=code, name=name, fee_nanos=fee_nanos, unit=unit, included_units=included_units, currency=currency, rate=rate_per_minute)
    shape = _usage_shape(quota, included_units, overage)
    meter = f"plan:{scope}:{code}"
    try:
        with transaction.atomic():
            # The fee's price has the SKU that bills show, and the scope as its meter: who is paid for the scope's calls is
            # paid for the fee. The units' has another SKU, since a SKU is sold by one unit.
            sku = meter if currency == CURRENCY else f"{meter}:{currency}"
            fee = set_price(sku=sku, unit=Price.Unit.MONTH, unit_nanos=fee_nanos, meter=scope, currency=currency)
            usage = set_price(sku=f"{sku}:{unit}", unit=unit, shape=shape, meter=sku, currency=currency)
            return Plan.objects.create(
                scope=scope,
                code=code,
                name=name,
                currency=currency,
                fee_nanos=fee_nanos,
                unit=unit,
                included_units=included_units,
                quota=quota,
                rate_per_minute=rate_per_minute,
                fee_price=fee,
                usage_price=usage,
                created_by=by[:120],
            )
    except PriceInvalid as error:
        raise PlanInvalid(str(error)) from None
    except IntegrityError:
        message = f"There is a plan {code!r} already; what it promises cannot be changed, so give the new one another name."
        raise PlanInvalid(message) from None


def retire_plan(plan: Plan) -> bool:
    """Take nobody new; return whether it took any until now. Who subscribes to it keeps it. Repeating it changes nothing."""
    retired = Plan.objects.filter(pk=plan.pk, retired_at__isnull=True).update(retired_at=timezone.now())
    plan.refresh_from_db(fields=["retired_at"])
    return bool(retired)


def offered_plans(scopes: Sequence[str], *, currency: str) -> list[Plan]:
    """Return the plans of these scopes that can be subscribed to, those of single scopes first, then by their fee."""
    plans = Plan.objects.filter(scope__in=scopes, currency=currency, retired_at__isnull=True).select_related("usage_price")
    return sorted(plans, key=lambda plan: (plan.scope == EVERYTHING, plan.fee_nanos, plan.code))


def overage_terms(plan: Plan) -> Terms | None:
    """Return what units beyond a plan's quota cost; None where there are none beyond, or they are refused."""
    if plan.quota == Plan.Quota.HARD or plan.included_units is None:
        return None
    terms = terms_of(plan.usage_price)
    return replace(terms, shape=replace(shape_of(terms), free_units=0))


def shape_with(shape: Shape, included_units: int | None) -> Shape:
    """Return the price of units under a plan for a stretch of time that includes so many."""
    return shape if included_units is None else replace(shape, free_units=included_units)


def _usage_shape(quota: str, included_units: int | None, overage: Shape | None) -> Shape:
    """Return what units under the plan cost: nothing within the quota, the overage beyond."""
    if quota not in Plan.Quota.values:
        _refuse("A quota is hard or soft.")
    if quota == Plan.Quota.HARD or included_units is None:
        if overage is not None:
            _refuse("Only a soft quota with a limit has an overage price.")
        if quota == Plan.Quota.HARD and included_units is None:
            _refuse("A hard quota needs a number of included units.")
        return Shape()
    if overage is None:
        _refuse("A soft quota with a limit needs an overage price.")
    assert overage is not None
    if overage.free_units or overage.trial_units or overage.minimum_nanos:
        _refuse("An overage price has no free units, trial or minimum: the plan's fee and quota stand for them.")
    return shape_with(overage, included_units)


def _check(*, code: str, name: str, fee_nanos: int, unit: str, included_units: int | None, currency: str, rate: int | None) -> None:
    if not slug_re.fullmatch(code) or len(code) > _CODE_LENGTH:
        _refuse(f"A plan's code is letters, digits, hyphens and underscores, at most {_CODE_LENGTH}.")
    if not name.strip() or len(name) > 80:
        _refuse("A plan has a name of at most 80 characters.")
    if not 0 <= fee_nanos <= MAX_AMOUNT:
        _refuse("The fee is out of range.")
    if unit not in Price.Unit.values or unit == Price.Unit.MONTH:
        _refuse(f"The unit {unit!r} is none of call, token, row, byte.")
    if currency not in CURRENCIES:
        _refuse(f"The currency {currency!r} is none of {', '.join(CURRENCIES)}.")
    if included_units is not None and not 1 <= included_units <= _MAX_UNITS:
        _refuse(f"The included units must be a whole number from 1 to {_MAX_UNITS}.")
    if rate is not None and not 1 <= rate <= _MAX_RATE:
        _refuse(f"The rate must be a whole number from 1 to {_MAX_RATE} calls a minute.")


def _refuse(message: str) -> None:
    raise PlanInvalid(message)
