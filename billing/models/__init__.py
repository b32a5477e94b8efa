"""Billing's tables, one file per subject."""

from billing.models.accounts import Account
from billing.models.books import BooksCheckpoint, BooksRun
from billing.models.budgets import Budget, GatewayProcess, Lease
from billing.models.credit_notes import CreditNote, CreditNoteLine, InvoiceRefund
from billing.models.invoice_taxes import InvoiceTax
from billing.models.invoices import Invoice, InvoiceLine
from billing.models.ledger import CreditExpiry, CreditGrant, CreditPool, LedgerAccount, LedgerEntry, LedgerTransaction
from billing.models.meters import MeterFault, MeterFeed, MeterHolding, MeterReport
from billing.models.outbox import OutboxRow
from billing.models.payments import AutoRecharge, Card, CreditReversal, Customer, Dispute, Notice, PaymentRefund, TopUp
from billing.models.payouts import BankPayout, Payout, PayoutAccount, PayoutCheck, PayoutReversal, PayoutRun
from billing.models.plans import EVERYTHING, Plan, Subscription, SubscriptionFee
from billing.models.postings import SkuShare, UsagePosting
from billing.models.prices import Price
from billing.models.receipts import Receipt, ReceiptHead, ReceiptKey
from billing.models.site_hours import SiteHour
from billing.models.stripe import StripeCatchUp, StripeEvent, StripeEventWork
from billing.models.tax import BillingDetails
from billing.models.usage import LateUsage, UsageCounter, UsageEvent, UsageRefund, UsageRollup

__all__ = [
    "EVERYTHING",
    "Account",
    "AutoRecharge",
    "BankPayout",
    "BillingDetails",
    "BooksCheckpoint",
    "BooksRun",
    "Budget",
    "Card",
    "CreditExpiry",
    "CreditGrant",
    "CreditNote",
    "CreditNoteLine",
    "CreditPool",
    "CreditReversal",
    "Customer",
    "Dispute",
    "GatewayProcess",
    "Invoice",
    "InvoiceLine",
    "InvoiceRefund",
    "InvoiceTax",
    "LateUsage",
    "Lease",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "MeterFault",
    "MeterFeed",
    "MeterHolding",
    "MeterReport",
    "Notice",
    "OutboxRow",
    "PaymentRefund",
    "Payout",
    "PayoutAccount",
    "PayoutCheck",
    "PayoutReversal",
    "PayoutRun",
    "Plan",
    "Price",
    "Receipt",
    "ReceiptHead",
    "ReceiptKey",
    "SiteHour",
    "SkuShare",
    "StripeCatchUp",
    "StripeEvent",
    "StripeEventWork",
    "Subscription",
    "SubscriptionFee",
    "TopUp",
    "UsageCounter",
    "UsageEvent",
    "UsagePosting",
    "UsageRefund",
    "UsageRollup",
]
