import io
from typing import Any

import pytest
from django.core.management import call_command
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from billing import payout_runs
from billing.ids import public_id
from billing.invoicing import close_period
from billing.models import Account, Card, Payout, Receipt, ReceiptHead
from billing.plans import make_plan
from billing.subscriptions import subscribe
from inference.gate.examine import Examination
from inference.gate.report import Report, passed
from marketplace.models import ApiKey, Organization
from marketplace.problems import PROBLEMS
from marketplace.publishing import go_live, note_examination
from marketplace.webhooks.endpoints import register_endpoint, send_test
from tests.billing.payees import earn, later, onboard
from tests.marketplace.jobs import queue_batch, queue_prediction
from tests.marketplace.uploaded import a_model, submitted
from tests.till import Till

# Answered by the gateway: `tests/flows` calls them.
GATEWAY = {"predict", "estimate", "explain", "create_prediction"}


@pytest.fixture
def document(client: Any, db: None) -> dict[str, Any]:
    reply = client.get("/v1/openapi.json")
    assert reply.status_code == 200
    fields: dict[str, Any] = reply.json()
    return fields


def test_the_document_is_valid_openapi_without_a_warning() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", stdout=io.StringIO())


def test_the_document_includes_the_gateways_operations(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for action in ("predict", "estimate", "explain"):
        post = document["paths"][f"/v1/models/{{owner}}/{{name}}/{action}"]["post"]
        assert post["security"] == [{"key": []}]
        assert {"200", "401", "404", "429"} <= post["responses"].keys()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]

    assert len(names) == len(set(names))
    assert "predict" in names


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for inner in node.values():
                yield from references(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from references(inner)

    for reference in references(document):
        *_, kind, name = reference.split("/")
        assert name in document["components"][kind]


def test_every_documented_refusal_has_its_page(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert any(f"`{code}`" in response["description"] for code in PROBLEMS)
                    assert list(response["content"]) == ["application/problem+json"]


def settle_model(owner: Organization) -> dict[bool, dict[str, Any]]:
    """Give an organization a model with a live version and one that is ready; return the names of both in paths."""
    model = a_model(owner)
    for version in (submitted(model), submitted(model)):
        note_examination(version, Examination(Report(checks=[passed("load", "It loads.")])))
    go_live(model.versions.get(number=1), share_percent=100, by="test")
    return {is_fresh: {"owner": owner.slug, "name": model.name, "version": 1 + is_fresh} for is_fresh in (False, True)}


def _earned(till: Till, account: Account) -> Payout:
    """Have a share earned and sent."""
    onboard(till, account)
    earn(account, 1500)
    (payout,) = payout_runs.pay_providers(now=later(), by="test")
    return payout


def test_every_operation_answers_as_documented(till: Till, document: dict[str, Any], api: Any, key: ApiKey, use: Any) -> None:
    from datetime import UTC, datetime

    use(key)
    call = use(key, at=datetime(2026, 10, 5, tzinfo=UTC))
    hashes = {"hash": bytes(32), "previous": bytes(32), "input_hash": bytes(32), "path": b"", "signature": bytes(64)}
    ReceiptHead.objects.create(account=key.organization.account, seq=1, hash=bytes(32))
    Receipt.objects.create(event_id=call.pk, account=key.organization.account, seq=1, position=0, size=1, key_id="k", **hashes)
    invoice = close_period(key.organization.account, datetime(2026, 10, 1, tzinfo=UTC), now=datetime(2026, 11, 2, tzinfo=UTC))
    doomed = api.post("/v1/keys", {"name": "doomed"}).json()
    endpoint, _ = register_endpoint(key.organization, url="https://hooks.example/", events=["*"], description="", by=key)
    doomed_endpoint, _ = register_endpoint(key.organization, url="https://hooks.example/doomed", events=["*"], description="", by=key)
    plan, begun, own_plan = (
        make_plan(scope=scope, code="p", name="P", fee_nanos=0, unit="token", included_units=9, quota="hard", by="test")
        for scope in ("farebox/sentiment", "*", "acme/relu")
    )
    names = {
        "plan_id": public_id("plan", plan.pk),
        "subscription_id": public_id("sub", subscribe(key.organization.account, begun, by="test").pk),
        "key_id": public_id("key", key.pk),
        "request_id": public_id("req", call.pk),
        "number": invoice.number,
        "prediction_id": public_id("prd", queue_prediction(key, call.version).pk),
        "webhook_id": public_id("whe", endpoint.pk),
        "delivery_id": public_id("whd", send_test(endpoint).deliveries.get().pk),
        "batch_id": public_id("bat", queue_batch(key, call.version, rows=1).pk),
        "owner": "farebox",
        "name": "sentiment",
        "top_up_id": public_id("top", till.top_up(key.organization.account).pk),
        "budget_id": "organization_day",
        "card_id": Card.objects.get().card_id,
        "payout_id": public_id("pay", _earned(till, key.organization.account).pk),
    }
    bodies = {
        "create_subscription": {"plan": public_id("plan", plan.pk)},
        "create_top_up": {"amount": "25.00"},
        "create_key": {"name": "made"},
        "update_key": {"name": "renamed"},
        "update_budget": {"limit": "100.00", "thresholds": [90]},
        "rotate_key": {"grace": "1h"},
        "revoke_leaked_key": {"key": doomed["secret"]},
        "create_batch": {"input_data": "one line"},
        "create_webhook": {"url": "https://hooks.example/made"},
        "update_webhook": {"description": "changed"},
        "create_model": {"name": "made", "title": "Made", "summary": "Made here.", "task": "t"},
        "share_traffic": {"share_percent": 5},
        "set_version_price": {"unit_price": "0"},
        "offer_plan": {
            "name": "Made",
            "code": "made",
            "fee": "1",
            "unit": "row",
            "included_units": 9,
            "quota": "soft",
            "overage_price": {"scheme": "graduated", "tiers": [{"up_to": 5, "unit_price": "2"}, {"up_to": None, "unit_price": "1"}]},
        },
    }
    queries = {"create_batch": "?model=farebox/sentiment"}
    own = settle_model(key.organization)
    answered = []
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            if operation["operationId"] in GATEWAY:
                continue
            spared = {"key_id": doomed["id"], "webhook_id": public_id("whe", doomed_endpoint.pk)} if method == "delete" else {}
            spared |= own[operation["operationId"] == "publish_version"] if operation["tags"] == ["Publishing"] else {}
            if "/models/{owner}/{name}/plans" in path:
                spared |= own[False] | {"plan_id": public_id("plan", own_plan.pk)}
            address = path.format(**names | spared) + queries.get(operation["operationId"], "")
            if operation["operationId"] == "upload_version":
                reply = api.upload(address, {"model": b"onnx", "unit": "row", "unit_price": "0.001"})
            else:
                reply = api.send(method.upper(), address, bodies.get(operation["operationId"]))
            assert str(reply.status_code) in operation["responses"], (operation["operationId"], reply.content)
            assert reply.status_code < 300, (operation["operationId"], reply.content)
            if reply.headers.get("Content-Type") == "application/json":
                schema = operation["responses"][str(reply.status_code)]["content"]["application/json"]["schema"]
                validate(reply.json(), schema, document)
            answered.append(operation["operationId"])
    assert len(answered) == sum(len(operations) for operations in document["paths"].values()) - len(GATEWAY)


def test_every_problem_is_as_documented(document: dict[str, Any], api: Any, client: Any) -> None:
    for reply in (client.get("/v1/keys"), api.get("/v1/keys/none"), api.post("/v1/keys", {"nme": 1}), api.get("/v1/nothing")):
        validate(reply.json(), {"$ref": "#/components/schemas/Problem"}, document)


def validate(instance: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Check an answer against its schema; fields that the schema does not name fail too."""
    registry: Any = Registry().with_resource("urn:document", Resource(contents=document, specification=DRAFT202012))
    rooted = {"$id": "urn:asked", **_absolute(schema)}
    Draft202012Validator(rooted, registry=registry).validate(instance)
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        assert set(instance) <= set(document["components"]["schemas"][name]["properties"])


def _absolute(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: f"urn:document{inner}" if name == "$ref" else _absolute(inner) for name, inner in node.items()}
    return [_absolute(inner) for inner in node] if isinstance(node, list) else node
