"""The part of `StripeProvider` that asks Stripe Tax.

Source: docs.stripe.com/tax/custom. Not `automatic_tax` of Stripe's invoices: it takes no negative line, so no credit that
covers a part, and nothing at all of months that were paid in advance.
"""

from contextlib import AbstractContextManager
from typing import Any, Final

from billing.errors import ProviderRefused
from billing.providers.base_tax import TaxLine, TaxOrder, TaxState

# Words of the refusal of a reference that there is already.
_TAKEN: Final = "reference"
_TAKEN_TOO: Final = ("already", "unique")
_LONGEST_SHORT_NAME: Final = 4


class TaxCalls:
    """Calls over the client of `StripeProvider`."""

    _client: Any

    def _errors(self) -> AbstractContextManager[None]:
        """Return what turns the library's errors into ours: `StripeProvider`'s file alone imports the library."""
        raise NotImplementedError

    def calculate_tax(self, order: TaxOrder, *, key: str) -> TaxState:
        """Calculate within the amount, for the address and tax ids that Stripe has of the customer."""
        asked: dict[str, Any] = {
            "currency": order.currency,
            "customer": order.customer,
            "line_items": [{"amount": order.amount_cents, "reference": order.reference, "tax_behavior": "inclusive"}],
        }
        if order.taxed_at is not None:
            asked["tax_date"] = int(order.taxed_at.timestamp())
        with self._errors():
            made = self._client.v1.tax.calculations.create(asked, {"idempotency_key": key})
        return TaxState(
            id=made.id,
            total_cents=made.amount_total,
            tax_cents=made.tax_amount_inclusive,
            lines=[_line(one) for one in made.tax_breakdown],
        )

    def record_tax(self, calculation: str, *, reference: str, key: str) -> str:
        """Make a transaction of a calculation."""
        asked = {"calculation": calculation, "reference": reference}
        return self._once(lambda: self._client.v1.tax.transactions.create_from_calculation(asked, {"idempotency_key": key}).id)

    def reverse_tax(self, record: str, *, reference: str, amount_cents: int, key: str) -> str:
        """Reverse a part of a transaction."""
        asked = {"mode": "partial", "original_transaction": record, "reference": reference, "flat_amount": -amount_cents}
        return self._once(lambda: self._client.v1.tax.transactions.create_reversal(asked, {"idempotency_key": key}).id)

    def _once(self, ask: Any) -> str:
        """Ask; a reference that there is already says that it happened."""
        try:
            with self._errors():
                return str(ask())
        except ProviderRefused as error:
            said = str(error).lower()
            if _TAKEN in said and any(word in said for word in _TAKEN_TOO):
                return ""
            raise


def _line(one: Any) -> TaxLine:
    rate = one.tax_rate_details
    kind = str(getattr(rate, "tax_type", None) or "tax").replace("_", " ")
    name = kind.upper() if len(kind) <= _LONGEST_SHORT_NAME and kind != "tax" else kind.capitalize()
    place = getattr(rate, "state", None) or getattr(rate, "country", None)
    percent = str(getattr(rate, "percentage_decimal", None) or "0")
    return TaxLine(
        name=f"{name} ({place})" if place else name,
        percent=percent.rstrip("0").rstrip(".") if "." in percent else percent,
        amount_cents=one.amount,
        taxable_cents=one.taxable_amount,
        reason=str(one.taxability_reason),
    )
