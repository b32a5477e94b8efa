"""Check an invoice against its receipts, offline: `python -m billing.verify invoice.json receipts.jsonl`.

Needs this package's pure files and `cryptography`, no Django, no database and no network. The invoice
is what `GET /v1/invoices/{number}` answers, the receipts what `GET /v1/receipts?invoice={number}`
answers. The public keys are those in the invoice, or of `--keys`, a file as the site publishes it at
`/.well-known/farebox-receipts.json`; compare them with what you kept from before.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from billing.errors import AmountMalformed
from billing.money import parse_amount, to_decimal_string
from billing.receipts import GENESIS, Signed, canonical, is_signed, leaf_hash, merkle_root, parse_json

# A line: SKU, price, and the month it is of where that is not the invoice's.
_Key = tuple[str, str, str | None]


def verify(invoice: Mapping[str, Any], lines: Iterable[str], *, keys: Iterable[Mapping[str, str]] | None = None) -> list[str]:
    """Return everything that is wrong, a sentence each; nothing where the invoice is proven to the call.

    Args:
        invoice: As the API shows it.
        lines: Its receipts, one JSON object a line, in any order. Others may be among them.
        keys: Public keys to trust; None: those that the invoice brings.
    """
    try:
        public = {key["id"]: bytes.fromhex(key["public_key"]) for key in (invoice["receipt_keys"] if keys is None else keys)}
        return _verify(invoice, lines, public)
    except (KeyError, TypeError, ValueError, AmountMalformed) as error:
        return [f"The invoice is not of the form that the API answers: {type(error).__name__} {error}"]


def _verify(invoice: Mapping[str, Any], lines: Iterable[str], public: Mapping[str, bytes]) -> list[str]:
    wrong: list[str] = []
    receipts: dict[int, Signed] = {}
    for number, line in enumerate(lines, start=1):
        receipt = _read(line)
        if receipt is None:
            wrong.append(f"receipts line {number}: not a receipt.")
        elif receipt.key_id not in public:
            wrong.append(f"receipts line {number} ({_name(receipt)}): signed with the unknown key {receipt.key_id}.")
        elif not is_signed(receipt, public[receipt.key_id]):
            wrong.append(f"receipts line {number} ({_name(receipt)}): it is not what was signed.")
        elif receipt.body["seq"] in receipts:
            wrong.append(f"receipts line {number} ({_name(receipt)}): number {receipt.body['seq']} is there twice.")
        else:
            receipts[receipt.body["seq"]] = receipt
    ordered = [receipts[seq] for seq in sorted(receipts)]
    # What came after the month was sealed is on a later invoice.
    last = invoice.get("last_receipt")
    ordered = [receipt for receipt in ordered if last is None or receipt.body["seq"] <= last]
    return [*wrong, *_check_chain(ordered), *_check_late(invoice, receipts), *_check_lines(invoice, ordered)]


def _read(line: str) -> Signed | None:
    try:
        receipt = parse_json(json.loads(line))
    except ValueError:
        return None
    needed = {"seq", "previous", "sku", "price", "units", "charge_nanos", "call", "account", "time"}
    return receipt if receipt is not None and needed <= receipt.body.keys() else None


def _check_chain(receipts: list[Signed]) -> Iterator[str]:
    """Find gaps and edits: each receipt names the hash of the one before it."""
    if len({receipt.body["account"] for receipt in receipts}) > 1:
        yield "The receipts are of several accounts."
    before: Signed | None = None
    for receipt in receipts:
        seq = receipt.body["seq"]
        if before is not None and seq != before.body["seq"] + 1:
            yield f"Receipts {before.body['seq'] + 1} to {seq - 1} are missing."
        elif before is not None and receipt.body["previous"] != leaf_hash(canonical(before.body)).hex():
            yield f"Receipt {seq} ({_name(receipt)}) does not follow receipt {seq - 1}: one of them was exchanged."
        if seq == 1 and receipt.body["previous"] != GENESIS.hex():
            yield "Receipt 1 names one before it."
        before = receipt


def _check_late(invoice: Mapping[str, Any], receipts: Mapping[int, Signed]) -> Iterator[str]:
    """Check that what the invoice calls late is: of a month before, and settled after the invoice before was sealed."""
    after, by_call = invoice.get("late_after", 0), {receipt.body["call"]: receipt for receipt in receipts.values()}
    for late in invoice.get("late_calls", ()):
        receipt = by_call.get(late["call"])
        if receipt is None:
            yield f"There is no receipt of the late call {late['call']}."
        elif not after < receipt.body["seq"] <= invoice["last_receipt"]:
            yield f"The call {late['call']} is number {receipt.body['seq']}: it did not come between this invoice and the one before."
        elif receipt.body["time"][:7] != late["late_from"][:7] or _moment(receipt.body["time"]) >= _moment(invoice["starts_at"]):
            yield f"The call {late['call']} of {receipt.body['time']} is billed as one of {late['late_from'][:7]}."


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _check_lines(invoice: Mapping[str, Any], receipts: list[Signed]) -> Iterator[str]:
    """Check each line's Merkle root, and its calls, units and charge against its receipts less its refunds."""
    late = {one["call"]: one["late_from"] for one in invoice.get("late_calls", ())}
    by_line: dict[_Key, list[Signed]] = {}
    for receipt in receipts:
        if receipt.body["price"] is not None and (receipt.body["call"] in late or _is_own(invoice, receipt)):
            key = (receipt.body["sku"], receipt.body["price"], late.get(receipt.body["call"]))
            by_line.setdefault(key, []).append(receipt)
    refunds: dict[_Key, list[Mapping[str, Any]]] = {}
    for refund in invoice["refunds"]:
        refunds.setdefault((refund["sku"], refund["price"], None), []).append(refund)
    billed = {(line["sku"], line["price"], line.get("late_from")): line for line in invoice["lines"]}
    for key, line in billed.items():
        yield from _check_line(line, by_line.get(key, []), refunds.get(key, []))
    for key in by_line.keys() - billed.keys():
        left = sum(receipt.body["charge_nanos"] for receipt in by_line[key])
        left -= sum(parse_amount(refund["charge"]) for refund in refunds.get(key, []))
        if left:
            yield f"No line bills {key[0]} at the price {key[1]}, but there are receipts of {to_decimal_string(left)}."


def _is_own(invoice: Mapping[str, Any], receipt: Signed) -> bool:
    """Whether a call is of the invoice's month. Others are there for the chain's sake."""
    if "starts_at" not in invoice:
        return True
    return _moment(invoice["starts_at"]) <= _moment(receipt.body["time"]) < _moment(invoice["ends_at"])


def _check_line(line: Mapping[str, Any], receipts: list[Signed], refunds: list[Mapping[str, Any]]) -> Iterator[str]:
    name = f"Line {line['sku']} at the price {line['price']}"
    if line.get("late_from"):
        name += f" of {line['late_from'][:7]}"
    root = merkle_root([leaf_hash(canonical(receipt.body)) for receipt in receipts]).hex() if receipts else ""
    if line["merkle_root"] != root:
        yield f"{name}: its Merkle root is not that of these {len(receipts)} receipts."
    found = {
        "calls": len(receipts) - len(refunds),
        "units": sum(receipt.body["units"] for receipt in receipts) - sum(refund["units"] for refund in refunds),
    }
    for field, count in found.items():
        if line[field] != count:
            yield f"{name}: it bills {line[field]} {field}, the receipts less refunds have {count}."
    charge = sum(receipt.body["charge_nanos"] for receipt in receipts) - sum(parse_amount(refund["charge"]) for refund in refunds)
    if line["charge"] != to_decimal_string(charge):
        yield f"{name}: it bills {line['charge']}, the receipts less refunds come to {to_decimal_string(charge)}."


def _name(receipt: Signed) -> str:
    return str(receipt.body.get("call", "without a call"))


def main(arguments: list[str] | None = None) -> int:
    """Check the files named on the command line; return 0 where all is proven, 1 where not, 2 where they cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m billing.verify", description="Check an invoice against its receipts, offline.")
    parser.add_argument("invoice", type=Path, help="what GET /v1/invoices/{number} answered")
    parser.add_argument("receipts", type=Path, help="what GET /v1/receipts?invoice={number} answered")
    parser.add_argument("--keys", type=Path, help="public keys you trust, as /.well-known/farebox-receipts.json publishes them")
    asked = parser.parse_args(arguments)
    try:
        invoice = json.loads(asked.invoice.read_text())
        keys = json.loads(asked.keys.read_text())["keys"] if asked.keys else None
        with asked.receipts.open() as lines:
            wrong = verify(invoice, (line for line in lines if line.strip()), keys=keys)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"A file cannot be read: {error}", file=sys.stderr)  # noqa: T201 (a command)
        return 2
    for sentence in wrong:
        print(f"WRONG  {sentence}")  # noqa: T201 (a command)
    if not wrong:
        print(f"PROVEN {invoice['number']}: {len(invoice['lines'])} lines, to the call.")  # noqa: T201 (a command)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
