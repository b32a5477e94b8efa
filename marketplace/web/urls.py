"""The addresses of the pages. Each line names one function; a test walks them all as a stranger."""

from django.urls import path

from marketplace.web import (
    access,
    dashboard,
    error_docs,
    first_call,
    invoices,
    keys,
    landing,
    mailbox,
    models,
    playground,
    requests,
    stripe_webhooks,
    usage,
)

urlpatterns = [
    path("", landing.show_landing, name="landing"),
    path("playground/key/", playground.give_key, name="playground_key"),
    path("mail/", mailbox.show_mail, name="mail"),
    path("organization/", access.choose_organization, name="choose_organization"),
    path("first-call/", first_call.show_first_call, name="first_call"),
    path("first-call/state/", first_call.show_state, name="first_call_state"),
    path("dashboard/", dashboard.show_dashboard, name="dashboard"),
    path("dashboard/live/", dashboard.show_live, name="dashboard_live"),
    path("keys/", keys.list_keys, name="keys"),
    path("keys/new/", keys.create_key, name="new_key"),
    path("keys/<str:key_id>/", keys.show_key, name="key"),
    path("keys/<str:key_id>/cap/", keys.change_cap, name="key_cap"),
    path("keys/<str:key_id>/rotate/", keys.replace_key, name="key_rotate"),
    path("keys/<str:key_id>/revoke/", keys.end_key, name="key_revoke"),
    path("models/", models.list_models, name="models"),
    path("models/<slug:owner>/<slug:name>/", models.show_model, name="model"),
    path("models/<slug:owner>/<slug:name>/<int:number>/<str:picture>", models.show_picture, name="model_picture"),
    path("requests/", requests.list_requests, name="requests"),
    path("requests/<str:request_id>/", requests.show_request, name="request"),
    path("usage/", usage.show_usage, name="usage"),
    path("invoices/", invoices.list_invoices, name="invoices"),
    path("invoices/<str:number>/", invoices.show_invoice, name="invoice"),
    path("invoices/<str:number>/calls/", invoices.list_events, name="invoice_events"),
    path("stripe/webhooks", stripe_webhooks.receive, name="stripe_webhooks"),
    path("docs/", error_docs.show_docs, name="docs"),
    path("docs/errors/", error_docs.list_errors, name="error_docs"),
    path("docs/errors/<str:code>", error_docs.show_error, name="error_doc"),
]
