"""Tax within prices: exact for every amount, rounded half to even once, in the ledger to the cent."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.books import check_books
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import REVENUE, ledger_balance
from billing.models import Account, Price
from billing.money import NANOS_PER_CENT as CENT
from billing.periods import EPOCH
from billing.tax import TAX, buyer_lines, set_details, set_tax, tax_within
from tests.billing.facts import Recorder

NOVEMBER, DECEMBER = datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)


@given(st.integers(-(10**12), 10**12), st.integers(0, 10_000))
def test_net_and_tax_are_the_whole_and_the_net_is_rounded_half_to_even(gross: int, rate: int) -> None:
    net = (Decimal(gross) * 10_000 / (10_000 + rate)).quantize(Decimal(1), ROUND_HALF_EVEN)

    assert tax_within(gross, rate) == gross - net


def test_worked_examples() -> None:
    # 119.00 at 19 % is 100.00 and 19.00; 1.00 at 7 % is 0.93 (93.457...) and 0.07; 3 cents at 100 % are 1.5, so 2, and 1.
    assert [tax_within(11_900, 1900), tax_within(100, 700), tax_within(3, 10_000), tax_within(1, 10_000)] == [1900, 7, 1, 1]


@pytest.mark.django_db
def test_a_close_moves_its_tax_out_of_the_revenue_and_keeps_who_it_was_for(account: Account, settings: Any) -> None:
    settings.TAX_RATE_BASIS_POINTS, settings.TAX_NAME, settings.INVOICE_SELLER_ADDRESS = 1900, "USt.", "Hauptstr. 1; Berlin"
    set_details(account, name="Acme GmbH", address="Ring 2\nWien", tax_id="ATU1")
    dear = Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=119 * CENT, effective_from=EPOCH)
    Recorder(account).record(dear, units=5, occurred_at=NOVEMBER)

    invoice = close_period(account, NOVEMBER, now=DECEMBER + CLOSE_AFTER)

    assert (invoice.total_cents, invoice.net_cents, invoice.tax_cents, invoice.tax_name) == (595, 500, 95, "USt.")
    assert (ledger_balance(TAX), ledger_balance(REVENUE)) == (95 * CENT, 500 * CENT)
    assert invoice.seller == ["Farebox", "Hauptstr. 1", "Berlin", settings.SITE_URL]
    assert invoice.buyer == ["Acme GmbH", "Ring 2", "Wien", "ATU1"]
    set_details(account, name="Other", address="", tax_id="")
    invoice.refresh_from_db()
    assert invoice.buyer[0] == "Acme GmbH"
    assert buyer_lines(account) == ["Other"]
    assert check_books() == []


@pytest.mark.django_db
def test_an_account_may_have_a_rate_of_its_own(account: Account, price: Price, settings: Any) -> None:
    settings.TAX_RATE_BASIS_POINTS = 1900
    set_tax(account, basis_points=0, name="Reverse charge")
    Recorder(account).record(price, units=500_000, occurred_at=NOVEMBER)

    invoice = close_period(account, NOVEMBER, now=DECEMBER + CLOSE_AFTER)

    assert (invoice.total_cents, invoice.tax_cents, invoice.tax_name) == (10, 0, "Reverse charge")
    with pytest.raises(ValueError, match="100 %"):
        set_tax(account, basis_points=10_001, name="")
