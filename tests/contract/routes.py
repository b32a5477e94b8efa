"""The table of every REST address: what each method sends, and how it treats strangers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Route:
    """One address: its path, what each method sends, and how it treats strangers."""

    path: str
    methods: Mapping[str, Any] = field(default_factory=lambda: {"GET": None})
    names: tuple[str, ...] = ()  # The ids in the path; none: it shows the caller's own alone.
    is_open: bool = False  # Works without a key.
    is_live_only: bool = False  # 403 for a test key.
    queries: Mapping[str, str] = field(default_factory=dict)  # Of a method that needs one.
    test_status: int = 200  # What a test key's changes get, where it is no plain success.
    own_status: int = 200  # Of the caller's own, where it is no plain success.
    own_statuses: Mapping[str, int] = field(default_factory=dict)  # The same of a method.


# A version's files, as a form.
UPLOAD = (
    b'--b\r\nContent-Disposition: form-data; name="unit"\r\n\r\nrow\r\n'
    b'--b\r\nContent-Disposition: form-data; name="unit_price"\r\n\r\n0.001\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"; filename="../../x"\r\n\r\nonnx\r\n--b--\r\n'
)
ROUTES = {
    "openapi": Route("/v1/openapi.json", is_open=True),
    "keys": Route("/v1/keys", {"GET": None, "POST": {"name": "made", "livemode": False}}),
    "key_revocation": Route("/v1/keys/revoke", {"POST": {"key": "nonsense"}}, is_open=True, own_status=401),
    "key": Route("/v1/keys/{key}", {"GET": None, "PATCH": {"name": "mine now", "monthly_cap": "0"}, "DELETE": None}, ("key",)),
    "key_rotation": Route("/v1/keys/{key}/rotate", {"POST": {"grace": "0"}}, ("key",)),
    "models": Route(
        "/v1/models", {"GET": None, "POST": {"name": "made", "title": "Made", "summary": "Made here.", "task": "t"}}, test_status=403
    ),
    "model": Route("/v1/models/{model}", {"GET": None, "PATCH": {"title": "Mine now"}}, names=("model",), test_status=403),
    "model_openapi": Route("/v1/models/{model}/openapi.json", names=("model",)),
    "versions": Route("/v1/models/{model}/versions", {"GET": None, "POST": UPLOAD}, names=("model",), test_status=403),
    "version": Route("/v1/models/{model}/versions/1", {"GET": None, "PATCH": {"share_percent": 5}}, names=("model",), test_status=403),
    "version_live": Route("/v1/models/{model}/versions/2/live", {"POST": {"share_percent": 1}}, names=("model",), test_status=403),
    "version_price": Route("/v1/models/{model}/versions/1/price", {"POST": {"unit_price": "0"}}, names=("model",), test_status=403),
    "version_retirement": Route("/v1/models/{model}/versions/1/retire", {"POST": {}}, names=("model",), test_status=403),
    "model_plans": Route(
        "/v1/models/{model}/plans",
        {"GET": None, "POST": {"name": "Made", "code": "made", "fee": "1", "unit": "token", "included_units": 9, "quota": "hard"}},
        names=("model",),
        is_live_only=True,
    ),
    "model_plan": Route("/v1/models/{model}/plans/{plan}", names=("model", "plan"), is_live_only=True),
    "model_plan_retirement": Route("/v1/models/{model}/plans/{plan}/retire", {"POST": None}, names=("model", "plan"), is_live_only=True),
    "gateway_only": Route("/v1/models/farebox/sentiment/predict", is_open=True, own_status=405),
    "organization": Route("/v1/organization"),
    "balance": Route("/v1/balance", is_live_only=True),
    "credit_grants": Route("/v1/credit-grants", is_live_only=True),
    "budgets": Route("/v1/budgets", is_live_only=True),
    "budget": Route("/v1/budgets/{key}_day", {"GET": None, "PATCH": {"limit": "0", "thresholds": []}}, ("key",), is_live_only=True),
    "usage": Route("/v1/usage"),
    "requests": Route("/v1/requests"),
    "request": Route("/v1/requests/{request}", names=("request",)),
    "predictions": Route("/v1/predictions"),
    "prediction": Route("/v1/predictions/{prediction}", names=("prediction",)),
    "prediction_cancellation": Route("/v1/predictions/{prediction}/cancel", {"POST": None}, ("prediction",)),
    "batches": Route("/v1/batches", {"GET": None, "POST": {"input_data": "one line"}}, queries={"POST": "?model={model}"}),
    "batch": Route("/v1/batches/{batch}", names=("batch",)),
    "batch_results": Route("/v1/batches/{batch}/results", names=("batch",)),
    "batch_cancellation": Route("/v1/batches/{batch}/cancel", {"POST": None}, ("batch",)),
    "webhooks": Route("/v1/webhooks", {"GET": None, "POST": {"url": "https://hooks.example/made"}}, is_live_only=True),
    "webhook": Route(
        "/v1/webhooks/{webhook}", {"GET": None, "PATCH": {"description": "mine now"}, "DELETE": None}, ("webhook",), is_live_only=True
    ),
    "webhook_rotation": Route("/v1/webhooks/{webhook}/rotate", {"POST": None}, ("webhook",), is_live_only=True),
    "webhook_test": Route("/v1/webhooks/{webhook}/test", {"POST": None}, ("webhook",), is_live_only=True),
    "webhook_deliveries": Route("/v1/webhooks/{webhook}/deliveries", names=("webhook",), is_live_only=True),
    "webhook_resend": Route(
        "/v1/webhooks/{webhook}/deliveries/{delivery}/resend", {"POST": None}, ("webhook", "delivery"), is_live_only=True
    ),
    "invoices": Route("/v1/invoices", is_live_only=True),
    "invoice_upcoming": Route("/v1/invoices/upcoming", is_live_only=True),
    "invoice": Route("/v1/invoices/{invoice}", names=("invoice",), is_live_only=True),
    "top_ups": Route("/v1/top-ups", {"GET": None, "POST": {"amount": "25.00"}}, is_live_only=True, own_statuses={"POST": 409}),
    "top_up": Route("/v1/top-ups/{top_up}", names=("top_up",), is_live_only=True),
    "payment_methods": Route("/v1/payment-methods", is_live_only=True),
    "payment_method": Route("/v1/payment-methods/{card}", {"DELETE": None}, ("card",), is_live_only=True),
    "invoice_proof": Route("/v1/invoices/{invoice}/receipts/{request}", names=("invoice", "request"), is_live_only=True),
    "revenue": Route("/v1/revenue", is_live_only=True),
    "payouts": Route("/v1/payouts", is_live_only=True),
    "payout": Route("/v1/payouts/{payout}", names=("payout",), is_live_only=True),
    "plans": Route("/v1/plans", is_live_only=True),
    "plan": Route("/v1/plans/{plan}", names=("plan",), is_live_only=True),
    "plan_quote": Route("/v1/plans/{other_plan}/quote", names=("other_plan",), is_live_only=True),
    "subscriptions": Route(
        "/v1/subscriptions", {"GET": None, "POST": {"plan": "{other_plan}"}}, is_live_only=True, own_statuses={"POST": 400}
    ),
    "subscription": Route("/v1/subscriptions/{subscription}", {"GET": None, "DELETE": None}, ("subscription",), is_live_only=True),
    "subscription_resumption": Route("/v1/subscriptions/{subscription}/resume", {"POST": None}, ("subscription",), is_live_only=True),
    "receipts": Route("/v1/receipts", is_live_only=True),
    "receipt": Route("/v1/receipts/{request}", names=("request",), is_live_only=True),
    "nowhere": Route("/v1/nothing/here", is_open=True, own_status=404),
}
