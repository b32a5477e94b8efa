"""Tests of receipts: signed, chained, without a gap, and any change behind our back shows."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ids import public_id, uuid7
from billing.invoicing import close_period
from billing.metering import Meter, Receipt, Usage
from billing.models import Account, Invoice, Price, ReceiptKey, UsageRefund
from billing.models import Receipt as StoredReceipt
from billing.money import to_decimal_string
from billing.receipting import canonical_body, find_inclusion, find_receipt, published_keys, read_receipts
from billing.receipts import (
    Signer,
    canonical,
    is_signed,
    leaf_hash,
    merkle_paths,
    merkle_root,
    parse_token,
    render_json,
    root_of_path,
)
from billing.refunding import refund_event
from billing.settling import Bill, Settlement
from billing.verify import verify
from tests.billing.facts import usage_of, whole_account, with_meter
from tests.tampering import behind_our_back

OCTOBER = datetime(2025, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2025, 11, 1, tzinfo=UTC)
leaves = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


@given(leaves)
def test_each_leafs_path_leads_to_the_root_and_no_other_leafs_does(hashes: list[bytes]) -> None:
    root, paths = merkle_paths(hashes)

    assert root == merkle_root(hashes)
    for index, path in enumerate(paths):
        assert root_of_path(hashes[index], index=index, size=len(hashes), path=path) == root
        assert root_of_path(sha256(hashes[index]).digest(), index=index, size=len(hashes), path=path) != root
        assert root_of_path(hashes[index], index=index, size=len(hashes), path=[*path, bytes(32)]) is None
        assert root_of_path(hashes[index], index=len(hashes), size=len(hashes), path=path) is None


@given(st.text(), st.text(), st.text(), st.datetimes(timezones=st.just(UTC)), st.binary(min_size=32, max_size=32), st.booleans())
def test_a_body_is_canonical_whatever_its_texts_hold(  # noqa: PLR0917 (what hypothesis makes up)
    sku: str, source: str, call: str, moment: datetime, digest: bytes, is_free: bool
) -> None:
    event, account, price = uuid7(), uuid7(), None if is_free else uuid7()
    item = Settlement(
        process_id=uuid7(), seq=1, event_id=event, account_id=account, price_id=price, sku=sku, unit="token", units=3, charge_nanos=7,
        livemode=not is_free, source=source, occurred_at=moment, replayable=False, budget_ids=[], is_cached=is_free, input_hash=digest,
        model_digest=digest.hex(), call=call,
    )  # fmt: skip

    body = canonical_body(item, account=account.hex, seq=5, previous=digest)

    fields = json.loads(body)
    assert canonical(fields) == body
    assert (fields["sku"], fields["key"], fields["call"]) == (sku, source, call or public_id("req", event))
    assert (fields["account"], fields["price"]) == (account.hex, price.hex if price else None)
    assert (fields["livemode"], fields["cached"], datetime.fromisoformat(fields["time"])) == (not is_free, is_free, moment)
    assert (fields["units"], fields["charge_nanos"], fields["seq"], fields["input"]) == (3, 7, 5, digest.hex())


def test_the_root_is_that_of_rfc_9162() -> None:
    """Three leaves: the third goes up alone, and is joined with the pair."""
    one, two, three = (leaf_hash(text) for text in (b"a", b"b", b"c"))
    pair = sha256(b"\1" + one + two).digest()

    assert merkle_root([one, two, three]) == sha256(b"\1" + pair + three).digest()


async def pay(meter: Meter, account: Account, usage: Usage) -> tuple[Receipt, str]:
    bill = Bill()
    hold = await meter.hold([whole_account(account)] if usage.livemode else [], usage.charge_nanos())
    receipt = await meter.settle(hold, usage._replace(bill=bill, input_hash=sha256(b"body").digest(), model_digest="d" * 64))
    meter.mark_delivered(receipt.seq)
    return receipt, bill.receipt()


def calls(account: Account, price: Price, count: int, *, at: datetime = OCTOBER) -> list[tuple[Receipt, str]]:
    async def body(meter: Meter) -> list[tuple[Receipt, str]]:
        return await asyncio.gather(*(pay(meter, account, usage_of(account, price, units=n + 1, occurred_at=at)) for n in range(count)))

    return with_meter(body)


@pytest.mark.django_db(transaction=True)
def test_each_call_gets_a_receipt_that_its_customer_can_check(account: Account, price: Price) -> None:
    paid = calls(account, price, 20)

    keys = {key["id"]: bytes.fromhex(key["public_key"]) for key in published_keys()}
    seen = []
    for receipt, token in paid:
        signed = parse_token(token)
        assert signed is not None
        assert is_signed(signed, keys[signed.key_id])
        assert signed.body["call"] == public_id("req", receipt.event_id)
        assert (signed.body["units"], signed.body["charge_nanos"]) == (receipt.units, receipt.charge_nanos)
        assert (signed.body["input"], signed.body["digest"]) == (sha256(b"body").hexdigest(), "d" * 64)
        assert find_receipt(account, receipt.event_id) == signed
        seen.append(signed.body["seq"])
    assert sorted(seen) == list(range(1, 21))


@pytest.mark.django_db(transaction=True)
def test_two_processes_write_one_chain_without_a_gap(account: Account, price: Price) -> None:
    async def body(first: Meter) -> None:
        second = Meter()
        await second.start()
        try:
            await asyncio.gather(*(pay(meter, account, usage_of(account, price, occurred_at=OCTOBER)) for meter in (first, second) * 12))
        finally:
            await second.stop()

    with_meter(body)
    receipts = list(read_receipts(account, since=OCTOBER, until=NOVEMBER))

    assert [receipt.body["seq"] for receipt in receipts] == list(range(1, 25))
    for before, after in pairwise(receipts):
        assert after.body["previous"] == leaf_hash(canonical(before.body)).hex()


@pytest.mark.django_db(transaction=True)
def test_a_refused_call_leaves_no_gap(account: Account, price: Price) -> None:
    class Refuse:
        def write(self, items: Any) -> list[Exception]:
            return [RuntimeError("no") for _ in items]

    async def body(meter: Meter) -> None:
        await pay(meter, account, usage_of(account, price))
        hold = await meter.hold([whole_account(account)], 2000)
        with pytest.raises(RuntimeError):
            await meter.settle(hold, usage_of(account, price), together=[(Refuse(), None)])
        await pay(meter, account, usage_of(account, price))

    with_meter(body)
    assert list(StoredReceipt.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2]


def invoice_json(invoice: Invoice) -> dict[str, Any]:
    """The fields of the API's answer that the check reads."""
    lines = [
        {
            "sku": line.sku,
            "price": line.price_id.hex,
            "calls": line.events,
            "units": line.units,
            "charge": to_decimal_string(line.charge_nanos),
            "merkle_root": line.merkle_root,
        }
        for line in invoice.lines.all()
    ]
    refunds = [
        {"sku": one.event.sku, "price": one.event.price_id.hex, "units": one.event.units, "charge": to_decimal_string(one.charge_nanos)}
        for one in UsageRefund.objects.filter(account=invoice.account_id)
        if one.event.price_id
    ]
    return {"number": invoice.number, "lines": lines, "refunds": refunds, "receipt_keys": published_keys()}


def receipts_of(account: Account) -> list[str]:
    return [json.dumps(render_json(receipt)) for receipt in read_receipts(account, since=OCTOBER, until=NOVEMBER)]


@pytest.fixture
def closed(account: Account, price: Price) -> Invoice:
    """An October of six calls, one of them refunded."""
    paid = calls(account, price, 6)
    refund_event(paid[2][0].event_id, reason="test", by="test")
    return close_period(account, OCTOBER)


@pytest.mark.django_db(transaction=True)
def test_an_invoice_is_proven_to_the_call(closed: Invoice, account: Account) -> None:
    assert verify(invoice_json(closed), receipts_of(account)) == []


@pytest.mark.django_db(transaction=True)
def test_an_edited_call_shows_and_is_named(closed: Invoice, account: Account) -> None:
    edited = StoredReceipt.objects.get(seq=4).event_id
    behind_our_back(f"UPDATE billing_usageevent SET charge_nanos = charge_nanos + 1 WHERE id = '{edited.hex}'")

    wrong = verify(invoice_json(closed), receipts_of(account))

    assert any("line 4" in sentence and public_id("req", edited) in sentence and "not what was signed" in sentence for sentence in wrong)


@pytest.mark.django_db(transaction=True)
def test_a_deleted_call_shows_and_its_number_is_named(closed: Invoice, account: Account) -> None:
    behind_our_back("DELETE FROM billing_receipt WHERE seq = 5")

    wrong = verify(invoice_json(closed), receipts_of(account))

    assert any("5 to 5 are missing" in sentence for sentence in wrong)
    assert any("Merkle root" in sentence for sentence in wrong)


@pytest.mark.django_db(transaction=True)
def test_an_edited_line_shows(closed: Invoice, account: Account) -> None:
    invoice = invoice_json(closed)
    invoice["lines"][0]["charge"] = to_decimal_string(closed.lines.get().charge_nanos + 200)

    (sentence,) = verify(invoice, receipts_of(account))

    assert "it bills 0.000003800, the receipts less refunds come to 0.000003600" in sentence


@pytest.mark.django_db(transaction=True)
def test_a_receipt_signed_by_somebody_else_is_none(closed: Invoice, account: Account) -> None:
    stranger = Signer("somebody else's")
    keys = [{"id": key["id"], "public_key": stranger.public.hex()} for key in published_keys()]

    wrong = verify(invoice_json(closed), receipts_of(account), keys=keys)

    assert sum("not what was signed" in sentence for sentence in wrong) == 6


@pytest.mark.django_db(transaction=True)
def test_a_call_is_proven_to_be_on_its_line(closed: Invoice, account: Account) -> None:
    stored = StoredReceipt.objects.get(seq=3)

    found = find_inclusion(closed, stored.event_id)

    assert found is not None
    assert root_of_path(bytes(stored.hash), index=found.place, size=found.size, path=found.path) == found.root
    assert found.root.hex() == closed.lines.get().merkle_root


@pytest.mark.django_db(transaction=True)
def test_a_new_key_signs_from_the_next_start_and_the_old_receipts_stay_valid(account: Account, price: Price, settings: Any) -> None:
    calls(account, price, 2)
    settings.RECEIPT_KEY = "another text"
    calls(account, price, 2)
    invoice = close_period(account, OCTOBER)

    assert ReceiptKey.objects.count() == 2
    assert len({receipt.key_id for receipt in read_receipts(account, since=OCTOBER, until=NOVEMBER)}) == 2
    assert verify(invoice_json(invoice), receipts_of(account)) == []


@pytest.mark.django_db(transaction=True)
def test_the_command_checks_files_without_django(closed: Invoice, account: Account, tmp_path: Path) -> None:
    (tmp_path / "invoice.json").write_text(json.dumps(invoice_json(closed)))
    (tmp_path / "receipts.jsonl").write_text("\n".join(receipts_of(account)))
    (tmp_path / "short.jsonl").write_text("\n".join(receipts_of(account)[:-1]))
    program = "import sys, billing.verify as v; code = v.main(sys.argv[1:]); assert 'django' not in sys.modules; sys.exit(code)"

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *(str(tmp_path / name) for name in names)], capture_output=True, text=True, check=False
        )

    good, bad, none = run("invoice.json", "receipts.jsonl"), run("invoice.json", "short.jsonl"), run("invoice.json", "absent")

    assert (good.returncode, bad.returncode, none.returncode) == (0, 1, 2)
    assert good.stdout.startswith("PROVEN")
    assert "WRONG  Line house/model@1" in bad.stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fbr1",
        "fbr1.k",
        "fbr1.k.",
        "fbr1.k.e30",
        "fbr2.k.e30",
        "fbr1.k.e30.a",
        "fbr1.k.!!!",
        "fbr1.k." + "A" * 400,
    ],
)
def test_what_is_no_receipt_is_none(text: str) -> None:
    assert parse_token(text) is None
