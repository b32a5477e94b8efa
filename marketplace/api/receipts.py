"""`/v1/receipts`: the signed receipt of each metered answer, one by one or a period as JSON lines."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id
from billing.periods import month_of
from billing.receipting import find_inclusion, find_receipt, read_invoice_receipts, read_receipts
from billing.receipts import Signed, render_json
from marketplace.api.authentication import tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_query
from marketplace.api.fields import Form, Moment, View
from marketplace.api.organization import check_live
from marketplace.errors import NotFound, RequestMalformed

TAG = "Receipts"
_MAX_SPAN: Final = timedelta(days=31)


class ProofView(View):
    """A leaf's place in a Merkle tree (RFC 9162)."""

    index = serializers.IntegerField()
    size = serializers.IntegerField()
    path = serializers.ListField(child=serializers.CharField(), help_text="Hashes in hexadecimal, from the leaf up.")


class ReceiptView(View):
    """A receipt with what proves it; `docs/receipts.md` describes how to check it."""

    receipt = serializers.DictField(help_text="What was signed: call, units, price, charge, number, hash of the one before.")
    key = serializers.CharField(help_text="The public key's id; the keys are at /.well-known/farebox-receipts.json.")
    proof = ProofView(help_text="Its place in the group that was signed as one.")
    signature = serializers.CharField(help_text="Ed25519, of the group's root; hexadecimal.")


class InclusionView(View):
    """That a receipt is one of an invoice line's."""

    sku = serializers.CharField()
    price = serializers.CharField()
    merkle_root = serializers.CharField(help_text="The line's.")
    proof = ProofView()


class ReceiptsQuery(Form):
    """The period of an export, or the invoice that it proves."""

    since = Moment(required=False, help_text="First moment; default: the start of until's month.")
    until = Moment(required=False, help_text="First moment after; default: now.")
    invoice = serializers.CharField(
        required=False,
        help_text="The number of a closed invoice, instead of a period: its receipts, and what lies between them in the chain.",
    )


class Receipts(Endpoint):
    """The receipts of a period or an invoice."""

    scope = {"GET": "usage:read"}

    @operation(
        "export_receipts",
        summary="Export receipts",
        tag=TAG,
        query=ReceiptsQuery,
        answers=ReceiptView,
        refusals=["request_malformed", "not_found"],
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Send the receipts of a period or an invoice, one JSON object a line (`application/jsonl`), by their numbers."""
        check_live(request)
        query: dict[str, Any] = read_query(request, ReceiptsQuery).validated_data
        account = tenant_of(request).account
        if "invoice" in query:
            if "since" in query or "until" in query:
                message = "Send either an invoice or a period."
                raise RequestMalformed(message, param="invoice")
            invoice = account.invoices.filter(number=query["invoice"]).first()
            if invoice is None:
                raise NotFound
            return jsonl(read_invoice_receipts(invoice))
        until: datetime = query.get("until") or datetime.now(UTC)
        since: datetime = query.get("since") or month_of(until)[0]
        if not timedelta(0) < until - since <= _MAX_SPAN:
            message = f"until must be later than since, by {_MAX_SPAN.days} days at most."
            raise RequestMalformed(message, param="until")
        return jsonl(read_receipts(account, since=since, until=until))


def jsonl(receipts: Iterator[Signed]) -> StreamingHttpResponse:
    """Return a file of receipts, written as they are read."""
    lines = (orjson.dumps(render_json(receipt)) + b"\n" for receipt in receipts)
    headers = {"Content-Disposition": 'attachment; filename="receipts.jsonl"'}
    return StreamingHttpResponse(lines, content_type="application/jsonl", headers=headers)


class Receipt(Endpoint):
    """One receipt."""

    scope = {"GET": "usage:read"}

    @operation("get_receipt", summary="Show a receipt", tag=TAG, answers=ReceiptView, refusals=["not_found"])
    def get(self, request: Request, request_id: str) -> Response:
        """Show the receipt of one call, by the Request-Id of its reply."""
        check_live(request)
        value = parse_public_id("req", request_id)
        receipt = find_receipt(tenant_of(request).account, value) if value else None
        if receipt is None:
            raise NotFound
        return Response(ReceiptView(render_json(receipt)).data)


class InvoiceProof(Endpoint):
    """That a call is billed on an invoice."""

    scope = {"GET": "invoices:read"}

    @operation("get_invoice_proof", summary="Prove that an invoice bills a call", tag=TAG, answers=InclusionView, refusals=["not_found"])
    def get(self, request: Request, number: str, request_id: str) -> Response:
        """Show the path from one call's receipt to the Merkle root of its line on a closed invoice."""
        check_live(request)
        account = tenant_of(request).account
        invoice = account.invoices.filter(number=number).first()
        value = parse_public_id("req", request_id)
        found = find_inclusion(invoice, value) if invoice and value else None
        if found is None:
            raise NotFound
        proof = {"index": found.place, "size": found.size, "path": [step.hex() for step in found.path]}
        return Response(
            InclusionView({"sku": found.sku, "price": found.price_id.hex, "merkle_root": found.root.hex(), "proof": proof}).data
        )
