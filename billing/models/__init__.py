"""Billing's tables, one file per subject."""

from billing.models.accounts import Account
from billing.models.books import BooksRun
from billing.models.budgets import Budget, GatewayProcess, Lease
from billing.models.invoices import Invoice, InvoiceLine
from billing.models.ledger import CreditGrant, CreditPool, LedgerAccount, LedgerEntry, LedgerTransaction
from billing.models.prices import Price
from billing.models.usage import UsageEvent, UsageRefund, UsageRollup

__all__ = [
    "Account",
    "BooksRun",
    "Budget",
    "CreditGrant",
    "CreditPool",
    "GatewayProcess",
    "Invoice",
    "InvoiceLine",
    "Lease",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "Price",
    "UsageEvent",
    "UsageRefund",
    "UsageRollup",
]
