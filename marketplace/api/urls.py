"""The addresses of the REST API, below /v1/. A test fails for one that the isolation matrix lacks."""

from django.urls import path, re_path

from marketplace.api.batches import BatchCancellation, Batches, BatchResults, OneBatch
from marketplace.api.budgets import Budgets, OneBudget
from marketplace.api.catalogue import Model, ModelOpenApi, Models
from marketplace.api.credit_grants import CreditGrants
from marketplace.api.endpoint import GatewayOnly, Nowhere
from marketplace.api.invoices import Invoice, Invoices, UpcomingInvoice
from marketplace.api.keys import Key, KeyRevocation, KeyRotation, Keys
from marketplace.api.model_plans import ModelPlan, ModelPlanRetirement, ModelPlans
from marketplace.api.organization import Balance, Organization
from marketplace.api.payments import PaymentMethod, PaymentMethods, TopUp, TopUps
from marketplace.api.payouts import Payout, Payouts, Revenue
from marketplace.api.plans import Plan, PlanQuote, Plans, Subscription, SubscriptionResumption, Subscriptions
from marketplace.api.predictions import OnePrediction, PredictionCancellation, Predictions
from marketplace.api.receipts import InvoiceProof, Receipt, Receipts
from marketplace.api.requests import LoggedRequest, Requests
from marketplace.api.schema import OpenApiDocument
from marketplace.api.usage import Usage
from marketplace.api.versions import Version, VersionLive, VersionPrice, VersionRetirement, Versions
from marketplace.api.webhooks import Webhook, WebhookDeliveries, WebhookResend, WebhookRotation, Webhooks, WebhookTest

app_name = "api"
urlpatterns = [
    path("openapi.json", OpenApiDocument.as_view(), name="openapi"),
    path("keys", Keys.as_view(), name="keys"),
    path("keys/revoke", KeyRevocation.as_view(), name="key_revocation"),
    path("keys/<str:key_id>", Key.as_view(), name="key"),
    path("keys/<str:key_id>/rotate", KeyRotation.as_view(), name="key_rotation"),
    path("models", Models.as_view(), name="models"),
    path("models/<str:owner>/<str:name>", Model.as_view(), name="model"),
    path("models/<str:owner>/<str:name>/openapi.json", ModelOpenApi.as_view(), name="model_openapi"),
    path("models/<str:owner>/<str:name>/versions", Versions.as_view(), name="versions"),
    path("models/<str:owner>/<str:name>/versions/<int:version>", Version.as_view(), name="version"),
    path("models/<str:owner>/<str:name>/versions/<int:version>/live", VersionLive.as_view(), name="version_live"),
    path("models/<str:owner>/<str:name>/versions/<int:version>/price", VersionPrice.as_view(), name="version_price"),
    path("models/<str:owner>/<str:name>/versions/<int:version>/retire", VersionRetirement.as_view(), name="version_retirement"),
    path("models/<str:owner>/<str:name>/plans", ModelPlans.as_view(), name="model_plans"),
    path("models/<str:owner>/<str:name>/plans/<str:plan_id>", ModelPlan.as_view(), name="model_plan"),
    path("models/<str:owner>/<str:name>/plans/<str:plan_id>/retire", ModelPlanRetirement.as_view(), name="model_plan_retirement"),
    re_path(r"^models/[^/]+/[^/]+/(?:predict|predictions|estimate|explain)$", GatewayOnly.as_view(), name="gateway_only"),
    path("organization", Organization.as_view(), name="organization"),
    path("balance", Balance.as_view(), name="balance"),
    path("credit-grants", CreditGrants.as_view(), name="credit_grants"),
    path("budgets", Budgets.as_view(), name="budgets"),
    path("budgets/<str:budget_id>", OneBudget.as_view(), name="budget"),
    path("top-ups", TopUps.as_view(), name="top_ups"),
    path("top-ups/<str:top_up_id>", TopUp.as_view(), name="top_up"),
    path("payment-methods", PaymentMethods.as_view(), name="payment_methods"),
    path("payment-methods/<str:card_id>", PaymentMethod.as_view(), name="payment_method"),
    path("plans", Plans.as_view(), name="plans"),
    path("plans/<str:plan_id>", Plan.as_view(), name="plan"),
    path("plans/<str:plan_id>/quote", PlanQuote.as_view(), name="plan_quote"),
    path("subscriptions", Subscriptions.as_view(), name="subscriptions"),
    path("subscriptions/<str:subscription_id>", Subscription.as_view(), name="subscription"),
    path("subscriptions/<str:subscription_id>/resume", SubscriptionResumption.as_view(), name="subscription_resumption"),
    path("usage", Usage.as_view(), name="usage"),
    path("requests", Requests.as_view(), name="requests"),
    path("requests/<str:request_id>", LoggedRequest.as_view(), name="request"),
    path("webhooks", Webhooks.as_view(), name="webhooks"),
    path("webhooks/<str:webhook_id>", Webhook.as_view(), name="webhook"),
    path("webhooks/<str:webhook_id>/rotate", WebhookRotation.as_view(), name="webhook_rotation"),
    path("webhooks/<str:webhook_id>/test", WebhookTest.as_view(), name="webhook_test"),
    path("webhooks/<str:webhook_id>/deliveries", WebhookDeliveries.as_view(), name="webhook_deliveries"),
    path("webhooks/<str:webhook_id>/deliveries/<str:delivery_id>/resend", WebhookResend.as_view(), name="webhook_resend"),
    path("predictions", Predictions.as_view(), name="predictions"),
    path("predictions/<str:prediction_id>", OnePrediction.as_view(), name="prediction"),
    path("predictions/<str:prediction_id>/cancel", PredictionCancellation.as_view(), name="prediction_cancellation"),
    path("batches", Batches.as_view(), name="batches"),
    path("batches/<str:batch_id>", OneBatch.as_view(), name="batch"),
    path("batches/<str:batch_id>/results", BatchResults.as_view(), name="batch_results"),
    path("batches/<str:batch_id>/cancel", BatchCancellation.as_view(), name="batch_cancellation"),
    path("invoices", Invoices.as_view(), name="invoices"),
    path("invoices/upcoming", UpcomingInvoice.as_view(), name="invoice_upcoming"),
    path("invoices/<str:number>", Invoice.as_view(), name="invoice"),
    path("invoices/<str:number>/receipts/<str:request_id>", InvoiceProof.as_view(), name="invoice_proof"),
    path("revenue", Revenue.as_view(), name="revenue"),
    path("payouts", Payouts.as_view(), name="payouts"),
    path("payouts/<str:payout_id>", Payout.as_view(), name="payout"),
    path("receipts", Receipts.as_view(), name="receipts"),
    path("receipts/<str:request_id>", Receipt.as_view(), name="receipt"),
    re_path(r"^", Nowhere.as_view(), name="nowhere"),
]
