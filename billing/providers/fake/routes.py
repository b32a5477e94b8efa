"""The fake's API: each address with the SDK's type of its parameters and what answers it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from billing.providers.fake import checkout, connect, invoices, meters, payments, refunds, taxes
from billing.providers.fake.store import Obj


@dataclass(frozen=True, slots=True)
class Route:
    """One address and method."""

    method: str
    pattern: re.Pattern[str]
    type: str  # In stripe.params: "_refund_create_params.RefundCreateParams".
    handler: Callable[..., Obj]


def _route(method: str, path: str, kind: str, handler: Callable[..., Obj]) -> Route:
    return Route(method, re.compile(path.replace("{id}", "([A-Za-z0-9_]+)")), kind, handler)


ROUTES: Final = (
    _route("POST", "/v1/customers", "_customer_create_params.CustomerCreateParams", payments.create_customer),
    _route("GET", "/v1/customers", "_customer_list_params.CustomerListParams", payments.list_customers),
    _route("GET", "/v1/customers/search", "_customer_search_params.CustomerSearchParams", payments.search_customers),
    _route("GET", "/v1/customers/{id}", "_customer_retrieve_params.CustomerRetrieveParams", payments.get_customer),
    _route("POST", "/v1/customers/{id}", "_customer_update_params.CustomerUpdateParams", payments.update_customer),
    _route(
        "GET",
        "/v1/customers/{id}/payment_methods",
        "_customer_payment_method_list_params.CustomerPaymentMethodListParams",
        payments.list_customer_cards,
    ),
    _route("GET", "/v1/payment_methods/{id}", "_payment_method_retrieve_params.PaymentMethodRetrieveParams", payments.get_payment_method),
    _route(
        "POST", "/v1/payment_methods/{id}/detach", "_payment_method_detach_params.PaymentMethodDetachParams", payments.detach_payment_method
    ),
    _route("POST", "/v1/payment_intents", "_payment_intent_create_params.PaymentIntentCreateParams", payments.create_intent),
    _route("GET", "/v1/payment_intents", "_payment_intent_list_params.PaymentIntentListParams", payments.list_intents),
    _route("GET", "/v1/payment_intents/{id}", "_payment_intent_retrieve_params.PaymentIntentRetrieveParams", payments.get_intent),
    _route("POST", "/v1/payment_intents/{id}/cancel", "_payment_intent_cancel_params.PaymentIntentCancelParams", payments.cancel_intent),
    _route("GET", "/v1/charges/{id}", "_charge_retrieve_params.ChargeRetrieveParams", payments.get_charge),
    _route("POST", "/v1/checkout/sessions", "checkout._session_create_params.SessionCreateParams", checkout.create_session),
    _route("GET", "/v1/checkout/sessions", "checkout._session_list_params.SessionListParams", checkout.list_sessions),
    _route("GET", "/v1/checkout/sessions/{id}", "checkout._session_retrieve_params.SessionRetrieveParams", checkout.get_session),
    _route("POST", "/v1/checkout/sessions/{id}/expire", "checkout._session_expire_params.SessionExpireParams", checkout.expire_session),
    _route(
        "POST", "/v1/billing_portal/sessions", "billing_portal._session_create_params.SessionCreateParams", checkout.create_portal_session
    ),
    _route("POST", "/v1/refunds", "_refund_create_params.RefundCreateParams", refunds.create_refund),
    _route("GET", "/v1/refunds", "_refund_list_params.RefundListParams", refunds.list_refunds),
    _route("GET", "/v1/refunds/{id}", "_refund_retrieve_params.RefundRetrieveParams", refunds.get_refund),
    _route("GET", "/v1/disputes", "_dispute_list_params.DisputeListParams", refunds.list_disputes),
    _route("GET", "/v1/disputes/{id}", "_dispute_retrieve_params.DisputeRetrieveParams", refunds.get_dispute),
    _route("GET", "/v1/events", "_event_list_params.EventListParams", refunds.list_events),
    _route("GET", "/v1/events/{id}", "_event_retrieve_params.EventRetrieveParams", refunds.get_event),
    _route("POST", "/v1/accounts", "_account_create_params.AccountCreateParams", connect.create_account),
    _route("GET", "/v1/accounts", "_account_list_params.AccountListParams", connect.list_accounts),
    _route("GET", "/v1/accounts/{id}", "_account_retrieve_params.AccountRetrieveParams", connect.get_account),
    _route("POST", "/v1/account_links", "_account_link_create_params.AccountLinkCreateParams", connect.create_account_link),
    _route("POST", "/v1/transfers", "_transfer_create_params.TransferCreateParams", connect.create_transfer),
    _route("GET", "/v1/transfers", "_transfer_list_params.TransferListParams", connect.list_transfers),
    _route("GET", "/v1/transfers/{id}", "_transfer_retrieve_params.TransferRetrieveParams", connect.get_transfer),
    _route(
        "POST", "/v1/transfers/{id}/reversals", "_transfer_reversal_create_params.TransferReversalCreateParams", connect.create_reversal
    ),
    _route("GET", "/v1/transfers/{id}/reversals", "_transfer_reversal_list_params.TransferReversalListParams", connect.list_reversals),
    _route("GET", "/v1/payouts/{id}", "_payout_retrieve_params.PayoutRetrieveParams", connect.get_payout),
    _route("POST", "/v1/invoices", "_invoice_create_params.InvoiceCreateParams", invoices.create_invoice),
    _route("GET", "/v1/invoices", "_invoice_list_params.InvoiceListParams", invoices.list_invoices),
    _route("GET", "/v1/invoices/{id}", "_invoice_retrieve_params.InvoiceRetrieveParams", invoices.get_invoice),
    _route("DELETE", "/v1/invoices/{id}", "_invoice_delete_params.InvoiceDeleteParams", invoices.delete_invoice),
    _route("POST", "/v1/invoices/{id}/finalize", "_invoice_finalize_invoice_params.InvoiceFinalizeInvoiceParams", invoices.finalize),
    _route("POST", "/v1/invoices/{id}/pay", "_invoice_pay_params.InvoicePayParams", invoices.pay),
    _route("POST", "/v1/invoices/{id}/send", "_invoice_send_invoice_params.InvoiceSendInvoiceParams", invoices.send),
    _route("POST", "/v1/invoices/{id}/void", "_invoice_void_invoice_params.InvoiceVoidInvoiceParams", invoices.void),
    _route(
        "POST",
        "/v1/invoices/{id}/mark_uncollectible",
        "_invoice_mark_uncollectible_params.InvoiceMarkUncollectibleParams",
        invoices.mark_uncollectible,
    ),
    _route("POST", "/v1/invoiceitems", "_invoice_item_create_params.InvoiceItemCreateParams", invoices.create_item),
    _route("GET", "/v1/invoiceitems", "_invoice_item_list_params.InvoiceItemListParams", invoices.list_items),
    _route("GET", "/v1/invoice_payments", "_invoice_payment_list_params.InvoicePaymentListParams", invoices.list_payments),
    _route("POST", "/v1/credit_notes", "_credit_note_create_params.CreditNoteCreateParams", invoices.create_credit_note),
    _route("GET", "/v1/credit_notes", "_credit_note_list_params.CreditNoteListParams", invoices.list_credit_notes),
    _route("GET", "/v1/credit_notes/{id}", "_credit_note_retrieve_params.CreditNoteRetrieveParams", invoices.get_credit_note),
    _route("POST", "/v1/billing/meters", "billing._meter_create_params.MeterCreateParams", meters.create_meter),
    _route("GET", "/v1/billing/meters", "billing._meter_list_params.MeterListParams", meters.list_meters),
    _route("GET", "/v1/billing/meters/{id}", "billing._meter_retrieve_params.MeterRetrieveParams", meters.get_meter),
    _route("POST", "/v1/billing/meters/{id}/deactivate", "billing._meter_deactivate_params.MeterDeactivateParams", meters.deactivate_meter),
    _route(
        "GET",
        "/v1/billing/meters/{id}/event_summaries",
        "billing._meter_event_summary_list_params.MeterEventSummaryListParams",
        meters.list_summaries,
    ),
    _route("POST", "/v1/billing/meter_events", "billing._meter_event_create_params.MeterEventCreateParams", meters.create_event),
    _route("POST", "/v1/tax/calculations", "tax._calculation_create_params.CalculationCreateParams", taxes.calculate),
    _route(
        "POST",
        "/v1/tax/transactions/create_from_calculation",
        "tax._transaction_create_from_calculation_params.TransactionCreateFromCalculationParams",
        taxes.record,
    ),
    _route(
        "POST",
        "/v1/tax/transactions/create_reversal",
        "tax._transaction_create_reversal_params.TransactionCreateReversalParams",
        taxes.reverse,
    ),
    _route("GET", "/v1/tax/transactions/{id}", "tax._transaction_retrieve_params.TransactionRetrieveParams", taxes.get_transaction),
    _route("GET", "/v2/core/events", "v2.core._event_list_params.EventListParams", meters.list_events),
    _route("GET", "/v2/core/events/{id}", "v2.core._event_retrieve_params.EventRetrieveParams", meters.get_event),
)
