"""The fake Stripe against the real thing: the SDK's own types, its parsers, and Stripe's published examples."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import stripe

from billing.providers.fake import checkout, connect, delivery, payments, refunds, taxes
from billing.providers.fake.parameters import check_form, load_type, parse_form
from billing.providers.fake.routes import ROUTES
from billing.providers.fake.server import API_KEY, serving
from billing.providers.fake.store import Store, shown
from billing.providers.fake.world import Fault, World

ROOT = Path(__file__).resolve().parents[2]
# Where the project's own shared folder lies: beside the repository, or in it.
FIXTURES = [folder / "shared" / "stripe" / "fixtures3.json" for folder in (ROOT.parent, ROOT)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with serving() as running:
        running.faults.silent = True
        yield running


@pytest.fixture
def client(world: World) -> stripe.StripeClient:
    u = world.base_url
    addresses = {"api": u, "connect": u, "files": u, "meter_events": u}
    return stripe.StripeClient(
        API_KEY, max_network_retries=0, base_addresses=cast("Any", addresses), http_client=stripe.RequestsClient(timeout=2)
    )


@pytest.fixture
def customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create({"name": "Ada"}).id


def page(customer: str) -> Any:
    """Parameters of a Checkout session."""
    return {
        "mode": "payment",
        "customer": customer,
        "line_items": [{"quantity": 1, "price_data": {"currency": "usd", "unit_amount": 2500, "product_data": {"name": "Credit"}}}],
        "payment_intent_data": {"setup_future_usage": "off_session", "metadata": {"ours": "1"}},
        "success_url": "http://x/",
    }


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern.pattern}")
def test_every_route_takes_exactly_what_the_sdk_sends(route: Any) -> None:
    shape = load_type(route.type)
    options = set(stripe.RequestOptions.__annotations__)
    required = frozenset(getattr(shape, "__required_keys__", ())) - options

    with pytest.raises(Exception, match="unknown parameter: nonsense"):
        check_form({"nonsense": "1"}, shape)
    for name in required:
        with pytest.raises(Exception, match="Missing required param"):
            check_form({other: "1" for other in required if other != name}, shape)


@pytest.mark.parametrize(
    ("form", "kind", "code"),
    [
        ("amount=x&currency=usd", "_payment_intent_create_params.PaymentIntentCreateParams", "parameter_invalid_integer"),
        ("currency=usd", "_payment_intent_create_params.PaymentIntentCreateParams", "parameter_missing"),
        ("amount=1&currency=usd&shiping[name]=a", "_payment_intent_create_params.PaymentIntentCreateParams", "parameter_unknown"),
        ("amount=1&currency=usd&transfer_data[dest]=a", "_payment_intent_create_params.PaymentIntentCreateParams", "parameter_unknown"),
        ("amount=1&currency=usd&confirm=perhaps", "_payment_intent_create_params.PaymentIntentCreateParams", None),
        ("mode=present", "checkout._session_create_params.SessionCreateParams", None),
        ("line_items[0][price_data][unit_amount]=x", "checkout._session_create_params.SessionCreateParams", None),
    ],
)
def test_wrong_forms_are_refused(form: str, kind: str, code: str | None) -> None:
    from billing.providers.fake.errors import ApiError

    with pytest.raises(ApiError) as refusal:
        check_form(parse_form(form), load_type(kind))

    assert refusal.value.error.get("code") == code or code is None
    assert refusal.value.status == 400


def test_the_sdk_raises_its_own_errors(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.retrieve("cus_none")
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        client.v1.products.list()
    with pytest.raises(stripe.AuthenticationError):
        client.v1.customers.list({}, {"api_key": "sk_live_ours"})


def test_a_key_repeats_its_first_answer_and_refuses_another_body(client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "a"}, {"idempotency_key": "same"})

    assert client.v1.customers.create({"name": "a"}, {"idempotency_key": "same"}).id == first.id
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "b"}, {"idempotency_key": "same"})


def test_a_key_repeats_a_500_too(client: stripe.StripeClient, world: World) -> None:
    world.faults.waiting.append(Fault(kind="error_500"))
    before = len(world.store.all("customer"))

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            client.v1.customers.create({"name": "a"}, {"idempotency_key": "broken"})

    assert len(world.store.all("customer")) == before


def test_a_timeout_after_the_effect_is_found_by_the_same_key(client: stripe.StripeClient, world: World) -> None:
    world.faults.waiting.append(Fault(kind="timeout_after", seconds=2.5))
    before = len(world.store.all("customer"))
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({"name": "late"}, {"idempotency_key": "late"})
    time.sleep(0.7)

    client.v1.customers.create({"name": "late"}, {"idempotency_key": "late"})

    assert len(world.store.all("customer")) == before + 1


def test_an_off_session_payment_that_needs_its_owner_is_a_card_error(client: stripe.StripeClient, world: World, customer: str) -> None:
    session = client.v1.checkout.sessions.create(page(customer))
    checkout.pay_by_card(world, world.store.get("checkout.session", session.id), "3155")
    card = client.v1.customers.payment_methods.list(customer).data[0]

    with pytest.raises(stripe.CardError) as refusal:
        client.v1.payment_intents.create(
            {"amount": 900, "currency": "usd", "customer": customer, "payment_method": card.id, "off_session": True, "confirm": True}
        )

    assert refusal.value.code == "authentication_required"
    assert refusal.value.error.payment_intent.status == "requires_payment_method"  # type: ignore[union-attr]


def test_the_sdk_reads_our_webhooks_and_we_sign_as_it_does(client: stripe.StripeClient, world: World, customer: str) -> None:
    body = json.dumps(shown(world.store.all("event")[0])).encode()
    header = delivery.sign(body, "whsec_x")

    assert client.construct_event(body, header, "whsec_x").object == "event"
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(body + b" ", header, "whsec_x")
    assert header == stripe.WebhookSignature.generate_signature_header(body.decode(), "whsec_x", int(header[2:].split(",")[0]))


def provider_of(client: stripe.StripeClient, world: World) -> str:
    """Return a connected account that may be sent money."""
    made = client.v1.accounts.create({"type": "express", "country": "US", "capabilities": {"transfers": {"requested": True}}})
    connect.complete(world, world.store.get("account", made.id))
    return made.id


def test_only_an_account_that_was_onboarded_is_sent_money_and_only_what_the_platform_has(
    client: stripe.StripeClient, world: World, customer: str
) -> None:
    checkout.pay_by_card(world, world.store.get("checkout.session", client.v1.checkout.sessions.create(page(customer)).id), "4242")
    account = client.v1.accounts.create({"type": "express", "capabilities": {"transfers": {"requested": True}}}).id
    with pytest.raises(stripe.InvalidRequestError, match="capabilities"):
        client.v1.transfers.create({"amount": 100, "currency": "usd", "destination": account})
    connect.complete(world, world.store.get("account", account))
    with pytest.raises(stripe.InvalidRequestError, match="insufficient available funds"):
        client.v1.transfers.create({"amount": 10**9, "currency": "usd", "destination": account})

    transfer = client.v1.transfers.create({"amount": 100, "currency": "usd", "destination": account, "transfer_group": "mine"})

    assert [one.id for one in client.v1.transfers.list({"transfer_group": "mine"})] == [transfer.id]
    assert connect.pay_out(world, world.store.get("account", account), succeeds=True)
    with pytest.raises(stripe.InvalidRequestError, match="Insufficient funds"):  # The bank has it.
        client.v1.transfers.reversals.create(transfer.id, {"amount": 1})


def test_a_connected_accounts_payouts_are_seen_in_its_name_alone(client: stripe.StripeClient, world: World, customer: str) -> None:
    checkout.pay_by_card(world, world.store.get("checkout.session", client.v1.checkout.sessions.create(page(customer)).id), "4242")
    account = provider_of(client, world)
    client.v1.transfers.create({"amount": 100, "currency": "usd", "destination": account})
    payout = connect.pay_out(world, world.store.get("account", account), succeeds=True)
    assert payout is not None

    assert client.v1.payouts.retrieve(payout["id"], {}, {"stripe_account": account}).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="No such payout"):
        client.v1.payouts.retrieve(payout["id"])
    assert payout["id"] not in [getattr(event.data.object, "id", "") for event in client.v1.events.list({"limit": 100})]


def meter_of(client: stripe.StripeClient, event_name: str) -> str:
    """Return a meter as this site makes it."""
    made = client.v1.billing.meters.create(
        {
            "display_name": "Usage",
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
    )
    return made.id


def test_meter_events_count_once_by_identifier_and_within_35_days(client: stripe.StripeClient, customer: str) -> None:
    meter, now = meter_of(client, "once"), int(time.time())
    event: Any = {"event_name": "once", "payload": {"stripe_customer_id": customer, "value": "5"}, "identifier": "a", "timestamp": now}
    client.v1.billing.meter_events.create(event)

    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier"):
        client.v1.billing.meter_events.create(event)
    for far in (now - 36 * 86_400, now + 600):
        with pytest.raises(stripe.InvalidRequestError, match="timestamp"):
            client.v1.billing.meter_events.create({**event, "identifier": f"b{far}", "timestamp": far})
    hour = now // 3600 * 3600
    asked: Any = {"customer": customer, "start_time": hour, "end_time": hour + 3600, "value_grouping_window": "hour"}
    assert [one.aggregated_value for one in client.v1.billing.meters.event_summaries.list(meter, asked).data] == [5]
    with pytest.raises(stripe.InvalidRequestError, match="align"):
        client.v1.billing.meters.event_summaries.list(meter, {**asked, "start_time": hour + 60})
    with pytest.raises(stripe.InvalidRequestError, match="active meter"):
        meter_of(client, "once")


def test_what_a_meter_does_not_count_is_told_by_a_thin_event(client: stripe.StripeClient, world: World, customer: str) -> None:
    meter = meter_of(client, "archived")
    client.v1.billing.meters.deactivate(meter)
    payload = {"stripe_customer_id": customer, "value": "5"}

    client.v1.billing.meter_events.create({"event_name": "archived", "payload": payload}, {"idempotency_key": "k1"})

    told = world.store.all("v2.core.event")[0]
    body = json.dumps(shown(told)).encode()
    note = client.parse_event_notification(body, delivery.sign(body, "whsec_x"), "whsec_x")
    assert note.type == "v1.billing.meter.error_report_triggered"
    event: Any = client.v2.core.events.retrieve(note.id)
    (kind,) = event.data.reason.error_types
    assert (kind.code, kind.sample_errors[0].request.identifier, event.related_object.id) == ("archived_meter", "k1", meter)
    assert note.id in [one.id for one in client.v2.core.events.list({"types": [note.type], "object_id": meter})]


def taxed(client: stripe.StripeClient, world: World, customer: str) -> stripe.tax.Transaction:
    """Record the tax of 8.00 within, of a customer in Germany."""
    taxes.set_address(world, world.store.get("customer", customer), "DE")
    made = client.v1.tax.calculations.create(
        {"currency": "eur", "customer": customer, "line_items": [{"amount": 800, "reference": "l", "tax_behavior": "inclusive"}]}
    )
    return client.v1.tax.transactions.create_from_calculation({"calculation": made.id, "reference": f"of {made.id}"})


def test_taxes_are_within_or_on_top_and_recorded_once(client: stripe.StripeClient, world: World, customer: str) -> None:
    asked: Any = {"currency": "eur", "customer": customer, "line_items": [{"amount": 1000, "reference": "a"}]}
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.tax.calculations.create(asked)
    assert refusal.value.code == "customer_tax_location_invalid"
    taxes.set_address(world, world.store.get("customer", customer), "FR")

    on_top = client.v1.tax.calculations.create(asked)

    assert (on_top.amount_total, on_top.tax_amount_exclusive, on_top.tax_amount_inclusive) == (1200, 200, 0)
    recorded = taxed(client, world, customer)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        client.v1.tax.transactions.create_from_calculation({"calculation": on_top.id, "reference": recorded.reference})
    back: Any = {"mode": "partial", "original_transaction": recorded.id, "flat_amount": -500}
    assert client.v1.tax.transactions.create_reversal({**back, "reference": "r1"}).type == "reversal"
    with pytest.raises(stripe.InvalidRequestError, match="at most what is left"):
        client.v1.tax.transactions.create_reversal({**back, "reference": "r2"})


def test_lists_page_as_the_sdk_expects(client: stripe.StripeClient, customer: str) -> None:
    made = [client.v1.checkout.sessions.create(page(customer)).id for _ in range(5)]

    listed = client.v1.checkout.sessions.list({"customer": customer, "limit": 2})

    assert listed.has_more
    assert [session.id for session in listed.auto_paging_iter()] == made[::-1]


def test_what_happened_survives_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "fake.sqlite3"
    store = Store(file)
    made = payments.create_customer(World(store, base_url="http://x", webhook_url="", webhook_secret="s"), {"name": "Ada"})
    store.keep_answer("key", "print", 200, {"a": 1})
    store.close()

    again = Store(file)
    assert again.get("customer", made["id"])["name"] == "Ada"
    assert again.find_answer("key") == ("print", 200, {"a": 1})
    assert again.waiting_deliveries() == 1
    again.close()


def test_no_object_has_a_field_that_stripes_own_example_lacks(client: stripe.StripeClient, world: World, customer: str) -> None:
    found = next((path for path in FIXTURES if path.is_file()), None)
    if found is None:
        pytest.skip("stripe/fixtures3.json is not in a folder `shared` beside the repository")
    examples = json.loads(found.read_text())["resources"]
    session = checkout.pay_by_card(
        world, world.store.get("checkout.session", client.v1.checkout.sessions.create(page(customer)).id), "0259"
    )
    other = checkout.pay_by_card(world, world.store.get("checkout.session", client.v1.checkout.sessions.create(page(customer)).id), "4242")
    refunds.create_refund(world, {"payment_intent": other["payment_intent"]})
    client.v1.billing_portal.sessions.create({"customer": customer})
    transfer = client.v1.transfers.create(
        {"amount": 100, "currency": "usd", "destination": provider_of(client, world), "transfer_group": "g"}
    )
    client.v1.transfers.reversals.create(transfer.id, {"amount": 30})
    connect.pay_out(world, world.store.get("account", str(transfer.destination)), succeeds=True)
    meter_of(client, "shape")
    taxed(client, world, customer)
    kinds = (
        "billing.meter",
        "tax.calculation",
        "tax.transaction",
        "customer",
        "payment_method",
        "payment_intent",
        "charge",
        "checkout.session",
        "billing_portal.session",
        "refund",
        "dispute",
        "event",
        "account",
        "transfer",
        "transfer_reversal",
        "payout",
    )

    strange = {}
    for kind in kinds:
        for thing in world.store.all(kind):
            example = examples[kind]
            for name, value in shown(thing).items():
                if (kind, name) == ("event", "account"):  # Of connected accounts' events alone; the example is none.
                    continue
                if name not in example:
                    strange[f"{kind}.{name}"] = "is not Stripe's"
                elif value is not None and example[name] is not None and type(value) is not type(example[name]):
                    strange[f"{kind}.{name}"] = f"is {type(value).__name__}"

    assert session["status"] == "complete"
    assert strange == {}
