"""A gateway process to be killed: `python -m marketplace.proving.caller ACCOUNT PRICE` calls until it is.

It prints each answered call's id soon after the charge is durable, as a gateway sends its reply then.
"""

import asyncio
import os
import sys

import django

_CALLERS = 16
# What it takes to send a reply, in seconds: long enough for a kill to come in between.
_REPLY_S = 0.005


async def _call_for_ever(account_id: str, price_id: str) -> None:
    from asgiref.sync import sync_to_async  # noqa: PLC0415 (after Django's setup)

    from billing.ids import public_id  # noqa: PLC0415 (the same)
    from billing.metering import Meter  # noqa: PLC0415 (the same)
    from billing.models import Account, Price  # noqa: PLC0415 (the same)
    from marketplace.proving.acts import call, usage_of, whole_account  # noqa: PLC0415 (the same)

    account = await sync_to_async(Account.objects.get)(pk=account_id)
    price = await sync_to_async(Price.objects.get)(pk=price_id)
    meter = Meter()
    await meter.start()

    async def caller() -> None:
        while True:
            usage = usage_of(account, price)
            receipt = await call(meter, [whole_account(account)], usage, delivered=False)
            await asyncio.sleep(_REPLY_S)
            sys.stdout.write(public_id("req", usage.event_id) + "\n")
            sys.stdout.flush()
            meter.mark_delivered(receipt.seq)

    await asyncio.gather(*(caller() for _ in range(_CALLERS)))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "marketplace.settings"
    django.setup()
    asyncio.run(_call_for_ever(sys.argv[1], sys.argv[2]))
