"""Plans at the call: the price and the quota that the caller's organization subscribed to, where it did."""

from datetime import UTC, datetime

from billing.agreements import Agreement, Allowance, allowance_at
from billing.leases import BudgetSpec
from billing.pricing import Terms
from marketplace.gateway.callers import Caller
from marketplace.gateway.versions import ServedVersion


def terms_for(caller: Caller, version: ServedVersion, *, moment: datetime, published: Terms) -> Terms:
    """Return the price of a call that comes in at a moment: its plan's where one covers it, else the published one."""
    if not caller.agreements:
        return published
    allowance = allowance_at(caller.agreements, meter=version.model_path, unit=published.unit, moment=moment)
    return published if allowance is None else allowance.terms


def find_allowance(caller: Caller, terms: Terms) -> Allowance | None:
    """Return what a plan says beside the price that a call was admitted at; None for a published price."""
    found = _find(caller, terms)
    return found[1] if found else None


def quota_for(caller: Caller, terms: Terms) -> BudgetSpec | None:
    """Return the hard quota that a call must fit in that runs now, in units; None where there is none."""
    found = _find(caller, terms) if caller.agreements else None
    return found[0].quota_at(datetime.now(UTC)) if found and found[1].quota else None


def _find(caller: Caller, terms: Terms) -> tuple[Agreement, Allowance] | None:
    for agreement in caller.agreements:
        for allowance in (agreement.first, agreement.rest):
            if allowance.terms.price_id == terms.price_id:
                return agreement, allowance
    return None
