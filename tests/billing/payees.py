"""What tests of payouts share: a provider that may be paid, with shares, and money at Stripe to pay it from."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from billing import connecting, ledger, payout_runs, sending
from billing.ids import uuid7
from billing.ledger import ledger_balance, open_account, provider_account_name
from billing.models import Account, LedgerAccount, Payout, Price, SkuShare, UsageEvent
from billing.money import NANOS_PER_CENT as CENT
from billing.periods import EPOCH, hour_of
from billing.posting import post_usage
from billing.providers.fake import connect
from billing.providers.fake.store import Obj
from tests.billing.facts import Recorder
from tests.till import Till


def earn(account: Account, cents: float, *, currency: str = "usd") -> None:
    """Have a provider earn a share (of less than nothing: have one taken back)."""
    name = provider_account_name(account) if currency == account.currency else f"{provider_account_name(account)}:{currency}"
    fund = ledger.fund_name(ledger.REVENUE, currency)
    for one in (name, fund):
        LedgerAccount.objects.get_or_create(name=one, defaults={"currency": currency})
    nanos = round(cents * CENT)
    with transaction.atomic():
        ledger.post(kind="test_share", reference=f"test:{uuid7()}", by="test", amounts={name: nanos, fund: -nanos})


def later(days: int = 200) -> datetime:
    """Return a moment at which nothing is on hold or in reserve any more."""
    return timezone.now() + timedelta(days=days)


def at_stripe(till: Till) -> Obj:
    """Return the one connected account."""
    (found,) = till.world.store.all("account")
    return found


def onboard(till: Till, account: Account) -> Obj:
    """Have a provider go through onboarding; return its account at Stripe."""
    _, row = connecting.start_onboarding(account, country="US")
    assert row is not None
    sending.deliver(row.pk)
    account.payout_account.refresh_from_db()
    made = till.world.store.get("account", account.payout_account.connected_id)
    connect.complete(till.world, made)
    till.tell()
    account.payout_account.refresh_from_db()
    return made


def fund_platform(till: Till, cents: int = 50_000) -> Account:
    """Have a customer top up, so that there is something to send; return it."""
    customer = open_account(name="customer")
    till.top_up(customer, cents)
    return customer


def pay(account: Account, *, days: int = 200) -> Payout | None:
    """Run payouts on a later day."""
    made = payout_runs.pay_providers(now=later(days), by="test")
    return next((one for one in made if one.account_id == account.pk), None)


def owed(account: Account) -> int:
    """Return a provider's balance."""
    return ledger_balance(provider_account_name(account))


def sell(payee: Account, customer: Account, price: Price, *cents: int, hours_ago: int = 2) -> list[UsageEvent]:
    """Have a customer call a provider's model, some hours ago, at 15 % for the site, and post it; return the calls."""
    SkuShare.objects.get_or_create(
        subject=price.sku, effective_from=EPOCH, defaults={"payee": payee, "fee_basis_points": 1500, "by": "test"}
    )
    recorder, at = Recorder(customer), hour_of(timezone.now()) - timedelta(hours=hours_ago)
    units = [each * CENT // price.unit_nanos for each in cents]
    calls = [recorder.record(price, units=each, occurred_at=at + timedelta(seconds=number)) for number, each in enumerate(units)]
    post_usage(now=timezone.now())
    return calls
