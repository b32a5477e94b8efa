"""The operator's dashboard (django-unfold), one file per area.

Nothing here holds a rule: pages show rows, and each deed is one call of a service, which
records it with the operator's name.
"""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin

from marketplace.admin import audit, billing, catalogue, invoices, keys, meters, payments, payouts, plans, postings, requests, tenants

# Operators sign in where everybody does: Django's own form has no limit on guesses.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.index_title = "Now"

__all__ = ["audit", "billing", "catalogue", "invoices", "keys", "meters", "payments", "payouts", "plans", "postings", "requests", "tenants"]
