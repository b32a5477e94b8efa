"""Promise 7: no tenant sees another's. A foreign id is answered as an absent one, at every REST address and every way to call a model.

Two organizations have one of everything that has an id. With the key of the one, each address of the site's own URL table is
asked for what is the other's, with each of its methods, and for what there is not: both get the same answer, and nothing changes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Model
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from billing.ids import parse_public_id, public_id, uuid7
from billing.models import Card, Customer, Invoice, Payout, Receipt, TopUp
from billing.periods import month_of
from billing.plans import make_plan
from billing.subscriptions import subscribe
from marketplace.gateway.routing import ACTIONS
from marketplace.models import Batch, Organization, Prediction
from marketplace.proving.calls import FILM, Answer, Caller
from marketplace.proving.findings import Untried, require
from marketplace.proving.site import Site, make_caller, serving
from marketplace.publishing import examine_folder, list_model, publish_version
from marketplace.webhooks.endpoints import register_endpoint, send_test

TRIED: Final = "every REST address that takes an id and every way to call a model, with each method: another's id against an absent one"
_SENTIMENT: Final = settings.STARTER_DIR / "sentiment"
_METHODS: Final = ("get", "post", "put", "patch", "delete")
# 409: such as the quote of a plan that one has already.
_SHOWN: Final = {200, 409}
# A call of this month is in no closed one.
_NOBODYS: Final = {"/v1/invoices/{number}/receipts/{request_id}"}
# What an answer may differ in: which request it was, when, and what is left of the rate limit.
_CHANGING: Final = {"request-id", "date", "ratelimit", "server-timing", "content-length"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization with one of everything."""

    organization: Organization
    secret: str
    ids: Mapping[str, str]  # By the names of the URL table's parameters.
    rows: list[Model]  # What the ids stand for.


def settle_in(site: Site, slug: str) -> Tenant:
    """Give a new organization one of everything that has an id."""
    organization, key, secret = make_caller(slug)
    account, now = organization.account, timezone.now()
    called = Caller(site.ports[0], secret).predict()
    request = parse_public_id("req", called.json().get("id", "")) if called.status == 200 else None
    if request is None:
        message = f"The call to begin with was answered {called.status}."
        raise Untried(message)
    model = list_model(owner=organization, name="private", source=_SENTIMENT, public=False, by="prove")
    version = publish_version(
        model=model, source=_SENTIMENT, unit="token", unit_nanos=200, by="prove", examination=examine_folder(_SENTIMENT)
    )
    shared: dict[str, Any] = {"organization": organization, "key": key, "version": version, "livemode": True, "created_at": now}
    prediction = Prediction.objects.create(**shared, input=b"{}", stored_bytes=1)
    batch = Batch.objects.create(**shared, status="queued", rows=1, input_bytes=1)
    Prediction.objects.create(**shared, batch=batch, line=1, input=b"{}", stored_bytes=1)
    endpoint, _ = register_endpoint(organization, url="https://hooks.example/", events=["*"], description="", by="prove")
    delivery = send_test(endpoint).deliveries.get()
    plan = make_plan(scope=model.path, code="small", name="small", fee_nanos=1000, unit="token", included_units=9, quota="hard", by="prove")
    subscription = subscribe(account, plan, by="prove")
    starts_at, ends_at = month_of(now - timedelta(days=40))
    invoice = Invoice.objects.create(
        number=f"{starts_at:%Y%m}-{organization.pk.hex[-12:]}",
        account=account,
        starts_at=starts_at,
        ends_at=ends_at,
        currency="usd",
        total_cents=1,
    )
    top_up = TopUp.objects.create(account=account, amount_cents=500, currency="usd", source="checkout", by="prove")
    customer = Customer.objects.create(account=account, customer_id=f"cus_{slug}")
    card = Card.objects.create(customer=customer, card_id=f"pm_{slug}", exp_month=1, exp_year=2090, attached_at=now)
    payout = Payout.objects.create(account=account, amount_cents=100, currency="usd", connected_id=f"acct_{slug}", by="prove")
    ids = {
        "key_id": public_id("key", key.pk),
        "budget_id": f"{public_id('key', key.pk)}_day",
        "owner": slug,
        "name": "private",
        "version": "1",
        "request_id": public_id("req", request),
        "prediction_id": public_id("prd", prediction.pk),
        "batch_id": public_id("bat", batch.pk),
        "webhook_id": public_id("whe", endpoint.pk),
        "delivery_id": public_id("whd", delivery.pk),
        "plan_id": public_id("plan", plan.pk),
        "subscription_id": public_id("sub", subscription.pk),
        "number": invoice.number,
        "top_up_id": public_id("top", top_up.pk),
        "card_id": card.card_id,
        "payout_id": public_id("pay", payout.pk),
    }
    receipt = Receipt.objects.get(event_id=request)
    rows: list[Model] = [
        key, model, version, prediction, batch, endpoint, delivery, plan, subscription, invoice, top_up, card, payout, receipt, organization,
    ]  # fmt: skip
    return Tenant(organization, secret, ids, rows)


def absent_ids() -> dict[str, str]:
    """Return ids of nothing, of the same form."""
    return {
        "key_id": public_id("key", uuid7()),
        "budget_id": f"{public_id('key', uuid7())}_day",
        "owner": "tenant-c3",
        "name": "private",
        "version": "1",
        "request_id": public_id("req", uuid7()),
        "prediction_id": public_id("prd", uuid7()),
        "batch_id": public_id("bat", uuid7()),
        "webhook_id": public_id("whe", uuid7()),
        "delivery_id": public_id("whd", uuid7()),
        "plan_id": public_id("plan", uuid7()),
        "subscription_id": public_id("sub", uuid7()),
        "number": f"202001-{uuid7().hex[-12:]}",
        "top_up_id": public_id("top", uuid7()),
        "card_id": "pm_nobody",
        "payout_id": public_id("pay", uuid7()),
    }


def addresses() -> Iterator[tuple[str, str]]:
    """Yield method and path, with `{parameters}`, of every address that takes an id: the URL table's, and the gateway's own."""
    for entry in get_resolver().url_patterns:
        if isinstance(entry, URLResolver) and str(entry.pattern) == "v1/":
            for pattern in entry.url_patterns:
                yield from _methods_of(pattern)
    for action in sorted(ACTIONS):
        yield "POST", f"/v1/models/{{owner}}/{{name}}/{action}"


def _methods_of(pattern: Any) -> Iterator[tuple[str, str]]:
    route = str(pattern.pattern)
    if isinstance(pattern, URLPattern) and "<" in route and not route.startswith("^"):
        path = "/v1/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)
        for method in _METHODS:
            if hasattr(pattern.callback.cls, method):  # type: ignore[attr-defined]  # Each is an APIView.
                yield method.upper(), path


def _ask(site: Site, tenant: Tenant, method: str, path: str, ids: Mapping[str, str]) -> Answer:
    body = FILM if path.rpartition("/")[2] in ACTIONS else {}
    return Caller(site.ports[0], tenant.secret).send(method, path.format(**ids), None if method == "GET" else body)


def _plain(answer: Answer, ids: Mapping[str, str]) -> tuple[int, str, dict[str, str]]:
    """Return what of an answer could tell a foreign id from an absent one."""
    text = answer.body.decode(errors="replace").replace(answer.headers.get("request-id", "-"), "")
    for given in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(given, "") if len(given) > 3 else text
    return answer.status, text, {name: value for name, value in answer.headers.items() if name not in _CHANGING}


def _state(tenant: Tenant) -> dict[str, Any]:
    """Return every column of what a tenant has; but for when its key was last used, which a gateway notes later."""
    state: dict[str, Any] = {}
    for row in tenant.rows:
        values = type(row)._base_manager.filter(pk=row.pk).values().first() or {"it": "is gone"}
        state |= {f"{row._meta.db_table}.{name}": value for name, value in values.items() if name != "last_used_at"}
    return state


def compare(site: Site, ours: Tenant, theirs: Tenant) -> int:
    """Ask for what is theirs and for what there is not; return how many addresses and methods.

    Raises:
        Broken: one told them apart, or something of theirs changed.
        Untried: an address takes an id that we know nothing of, or shows its owner nothing.
    """
    absent, asked, before = absent_ids(), 0, _state(theirs)
    for method, path in addresses():
        if unknown := set(re.findall(r"{(\w+)}", path)) - absent.keys():
            message = f"{path} takes {', '.join(sorted(unknown))}, of which there is no example."
            raise Untried(message)
        foreign, nothing = (_ask(site, ours, method, path, ids) for ids in (theirs.ids, absent))
        require(foreign.status >= 400, f"{method} {path} of another's was answered {foreign.status}")
        told, expected = _plain(foreign, theirs.ids), _plain(nothing, absent)
        require(told == expected, f"{method} {path}: another's was answered {told}, an absent one {expected}")
        asked += 1
    after = _state(theirs)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    require(not changed, f"something of another's has changed: {', '.join(changed)}")
    return asked


def show_owners(site: Site, tenant: Tenant) -> int:
    """See that each address shows its owner what is his, so that a refusal of others means something; return how many."""
    shown = 0
    for method, path in addresses():
        if method == "GET" and path not in _NOBODYS:
            status = _ask(site, tenant, method, path, tenant.ids).status
            if status not in _SHOWN:
                message = f"{path} was answered {status} to its owner."
                raise Untried(message)
            shown += 1
    return shown


def prove() -> str:
    """Try it; return what was seen."""
    with serving(gateways=1) as site:
        ours, theirs = settle_in(site, "tenant-a1"), settle_in(site, "tenant-b2")
        shown = show_owners(site, theirs)
        asked = compare(site, ours, theirs) + compare(site, theirs, ours)
    return f"{asked} requests for another's: each answered as an absent one, nothing changed; {shown} addresses show it to its owner"
