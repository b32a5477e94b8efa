"""What receipts cost: CPU per settled call in groups, with and without. `python -m tests.bench.receipts`, on an empty VAR_DIR."""

import os
import tempfile
import time
from datetime import UTC, datetime
from statistics import median

os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="farebox-bench-")
os.environ["DJANGO_SETTINGS_MODULE"] = "marketplace.settings"


def main() -> None:
    """Print microseconds of CPU per call, the median of 200 groups."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    from billing.ids import uuid7
    from billing.ledger import grant_credit, open_account
    from billing.money import Nanos
    from billing.prices import set_price
    from billing.receipts import Signer
    from billing.settling import Bill, Settlement, WriteSettlements
    from tests.billing.facts import Recorder

    call_command("migrate", verbosity=0)
    account = open_account(name="bench")
    grant_credit(account, Nanos(10**12), kind="operator", reference="bench", by="bench")
    price = set_price(sku="house/model@1", unit="token", unit_nanos=200)
    recorder = Recorder(account)
    recorder.lend(10**11)
    seq = 0

    def group(size: int) -> list[Settlement]:
        nonlocal seq
        made = []
        for _ in range(size):
            seq += 1
            made.append(
                Settlement(
                    process_id=recorder.identity.id,
                    seq=seq,
                    event_id=uuid7(),
                    account_id=account.pk,
                    price_id=price.pk,
                    sku=price.sku,
                    unit="token",
                    units=60,
                    charge_nanos=12_000,
                    livemode=True,
                    source="0" * 36,
                    occurred_at=datetime.now(UTC),
                    replayable=False,
                    budget_ids=[recorder.budget.pk],
                    bill=Bill(),
                    input_hash=bytes(32),
                    model_digest="d" * 64,
                    call="req_" + "0" * 22,
                )
            )
        return made

    def cost(kind: WriteSettlements, size: int, *, is_told: bool) -> float:
        spent = []
        for _ in range(200):
            items = group(size)
            with transaction.atomic():
                before = time.process_time_ns()
                kind.write(items)
                for item in items if is_told else ():
                    assert item.bill is not None
                    item.bill.receipt()
                spent.append((time.process_time_ns() - before) / size / 1000)
        return median(spent)

    signer = Signer("bench")
    for size in (1, 4, 16, 64):
        without = cost(WriteSettlements(lambda: recorder.identity.id), size, is_told=False)
        with_them = cost(WriteSettlements(lambda: recorder.identity.id, signer=signer), size, is_told=True)
        print(f"groups of {size:2}: {without:6.1f} us without, {with_them:6.1f} with: {with_them - without:5.1f} us a receipt")


if __name__ == "__main__":
    main()
