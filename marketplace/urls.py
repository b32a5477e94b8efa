"""All addresses that Django answers. The gateway's are routed before it (`asgi.py`)."""

from django.contrib import admin
from django.urls import include, path

from marketplace.admin.money import show_money_page
from marketplace.api.docs import show_api_docs
from marketplace.api.receipt_keys import show_receipt_keys

urlpatterns = [
    path("", include("marketplace.web.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/money/", admin.site.admin_view(show_money_page), name="operator_money"),
    path("admin/", admin.site.urls),
    path("v1/", include("marketplace.api.urls")),
    path(".well-known/farebox-receipts.json", show_receipt_keys, name="receipt_keys"),
    path("docs/api/", show_api_docs, name="api_docs"),
]
