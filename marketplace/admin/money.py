"""The operator's money page: what came in, what is whose, and what does not add up, by currency and month."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from billing.books import find_last_run
from billing.payout_runs import find_last_check
from billing.periods import month_of
from billing.site_money import MonthMoney, Standing, money_by_month, standings
from marketplace.admin.dashboard import Figure, books_figure
from marketplace.amounts import money


def show_money_page(request: HttpRequest) -> HttpResponse:
    """Show it. The admin's own check lets operators in alone (`marketplace.urls`)."""
    now = timezone.now()
    since = month_of(now)[0]
    since = since.replace(year=since.year - 1)  # The same month of last year, and all since.
    check = find_last_check()
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Money",
        "standings": [(one.currency.upper(), _tiles(one)) for one in standings()],
        "books": [
            books_figure(find_last_run()),
            Figure(
                "Payouts against Stripe",
                str(check.differences) if check else "–",
                (check.first or f"differences; {check.transfers} transfers compared on {check.day}") if check else "not compared yet",
                state="bad" if check and check.differences else "",
            ),
        ],
        "months": [_row(row) for row in money_by_month(since)],
    }
    return render(request, "admin/money.html", context)


def _tiles(one: Standing) -> list[tuple[Figure, str]]:
    """Return the figures of one currency, each with where it is seen in full."""

    def show(nanos: int) -> str:
        return money(nanos, one.currency)

    return [
        (
            Figure("Credit of customers", show(one.credit), "paid or given, and not spent"),
            _list("billing_budget", subject__exact="account"),
        ),
        (
            Figure("Owed to providers", show(one.owed), f"{show(one.payouts_waiting)} more on its way to them"),
            _list("billing_payoutaccount"),
        ),
        (
            Figure("Debts of providers", show(one.debts), "taken back after it was sent", "bad" if one.debts else ""),
            _list("billing_payout"),
        ),
        (
            Figure("Unpaid invoices", show(one.unpaid), f"{one.unpaid_count} invoices", "bad" if one.unpaid_count else ""),
            _list("billing_invoice", status__in="open,past_due"),
        ),
        (
            Figure("Disputed now", show(one.disputed), f"{one.disputes_open} open", "bad" if one.disputes_open else ""),
            _list("billing_dispute", status__exact="open"),
        ),
    ]


def _row(row: MonthMoney) -> dict[str, Any]:
    starts_at, ends_at = month_of(row.month)

    def cell(nanos: int, table: str, at: str, **more: str) -> tuple[str, str]:
        span = {f"{at}__gte": starts_at.isoformat(), f"{at}__lt": ends_at.isoformat()}
        return (money(nanos, row.currency), _list(table, **span, **more)) if nanos else ("–", "")

    return {
        "month": f"{row.month:%Y-%m}",
        "currency": row.currency.upper(),
        "cells": [
            cell(row.revenue, "billing_usagerollup", "hour"),
            cell(row.shares, "billing_ledgertransaction", "created_at"),
            (money(row.fees, row.currency), ""),
            cell(row.top_ups, "billing_topup", "settled_at", status__exact="paid"),
            cell(row.refunds, "billing_paymentrefund", "created_at"),
            cell(row.disputes, "billing_dispute", "created_at"),
            cell(row.payouts, "billing_payout", "created_at"),
            (money(row.reversals, row.currency) if row.reversals else "–", ""),
        ],
    }


def _list(table: str, **filters: str) -> str:
    """Return the address of a table's rows."""
    return reverse(f"admin:{table}_changelist") + (f"?{urlencode(filters)}" if filters else "")
