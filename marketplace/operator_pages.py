"""How the operator's pages look and what their menu shows: Unfold's configuration, read by the settings."""

from typing import Any, Final

from django.templatetags.static import static
from django.urls import reverse_lazy


def _menu(title: str, *items: tuple[str, str, str]) -> dict[str, Any]:
    """Return a group of the dashboard's menu: label, icon (Material Symbols) and table of each item."""
    links = [{"title": label, "icon": icon, "link": reverse_lazy(f"admin:{table}_changelist")} for label, icon, table in items]
    return {"title": title, "separator": True, "items": links}


OPERATOR_PAGES: Final[dict[str, Any]] = {
    "SITE_TITLE": "Farebox",
    "SITE_HEADER": "Farebox",
    "SITE_SUBHEADER": "Operator",
    "SITE_URL": "/",
    "SITE_SYMBOL": "toll",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("favicon.svg")}],
    "SHOW_HISTORY": False,  # Django's log of form edits; ours is the audit record.
    "DASHBOARD_CALLBACK": "marketplace.admin.dashboard.add_figures",
    "STYLES": [lambda _: static("operator/dashboard.css")],
    "COLORS": {
        "primary": {  # The site's green.
            "50": "#eef8f3",
            "100": "#d8efe4",
            "200": "#b3dfca",
            "300": "#82c9a8",
            "400": "#4dab83",
            "500": "#2b8f66",
            "600": "#0a6b4e",
            "700": "#085840",
            "800": "#074634",
            "900": "#063a2b",
            "950": "#032118",
        },
    },
    "SIDEBAR": {
        "navigation": [
            {
                "title": None,
                "items": [
                    {"title": "Now", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                    {"title": "Money", "icon": "savings", "link": reverse_lazy("operator_money")},
                ],
            },
            _menu(
                "Tenants",
                ("Organizations", "apartment", "marketplace_organization"),
                ("People", "group", "marketplace_user"),
                ("Keys", "key", "marketplace_apikey"),
                ("Requests", "swap_horiz", "marketplace_requestlog"),
                ("Audit", "history", "marketplace_auditevent"),
            ),
            _menu(
                "Catalogue",
                ("Models", "deployed_code", "marketplace_cataloguemodel"),
                ("Versions", "layers", "marketplace_modelversion"),
                ("Prices", "sell", "billing_price"),
                ("Providers’ shares", "percent", "billing_skushare"),
                ("Plans", "event_repeat", "billing_plan"),
                ("Subscriptions", "autorenew", "billing_subscription"),
            ),
            _menu(
                "Money",
                ("Usage events", "receipt", "billing_usageevent"),
                ("Hourly sums", "functions", "billing_usagerollup"),
                ("Refunds", "undo", "billing_usagerefund"),
                ("Budgets", "account_balance_wallet", "billing_budget"),
                ("Credit", "payments", "billing_creditgrant"),
                ("Ledger", "account_balance", "billing_ledgertransaction"),
                ("Usage as posted", "post_add", "billing_usageposting"),
                ("Invoices", "request_quote", "billing_invoice"),
            ),
            _menu(
                "Payments",
                ("Top-ups", "add_card", "billing_topup"),
                ("Refunded payments", "undo", "billing_paymentrefund"),
                ("Disputes", "gavel", "billing_dispute"),
                ("Asked of Stripe", "outbox", "billing_outboxrow"),
                ("Heard from Stripe", "inbox", "billing_stripeevent"),
                ("Stripe’s meters", "speed", "billing_meterfeed"),
                ("Told to meters", "output", "billing_meterreport"),
                ("Not counted by meters", "report", "billing_meterfault"),
            ),
            _menu(
                "Providers",
                ("Who is paid", "storefront", "billing_payoutaccount"),
                ("Payouts", "send_money", "billing_payout"),
                ("To their banks", "account_balance", "billing_bankpayout"),
                ("Compared with Stripe", "fact_check", "billing_payoutcheck"),
            ),
            _menu("Machinery", ("Processes", "memory", "billing_gatewayprocess"), ("Leases", "lock_clock", "billing_lease")),
        ],
    },
}
