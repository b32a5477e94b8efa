"""Tests of plans and subscriptions: fees as facts, proration, quotas that hold exactly, renewal and lapse."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from billing.agreements import agreements_of, allowance_at
from billing.books import check_books
from billing.errors import AlreadySubscribed, FeeUnpaid, PlanInvalid, PlanNotOffered, QuoteOutdated, SubscriptionEnded
from billing.invoicing import upcoming_invoice
from billing.ledger import balance, grant_credit, ledger_balance, open_account, provider_account_name
from billing.models import EVERYTHING, Account, Budget, CreditGrant, Plan, Receipt, Subscription, SubscriptionFee, UsageEvent, UsageRefund
from billing.money import Nanos
from billing.periods import month_of
from billing.plans import make_plan, offered_plans, retire_plan
from billing.posting import post_usage
from billing.prices import set_price
from billing.refunding import refund_event
from billing.rerating import rederive
from billing.shares import find_share, set_share
from billing.subscriptions import cancel, due_subscriptions, live_subscription, quote, renew, resume, subscribe
from tests.billing.facts import CREDIT_NANOS
from tests.billing.planned import FEE, SCOPE, allowance_of, hard, soft

GRACE = timedelta(days=3)
pytestmark = pytest.mark.django_db(transaction=True)


def test_a_fee_is_an_event_with_a_receipt_on_the_bill_and_in_the_books(account: Account) -> None:
    plan = hard()
    now = timezone.now()
    offer = quote(account, plan, now=now)

    row = subscribe(account, plan, by="anna", now=now)

    event = UsageEvent.objects.get()
    assert (event.sku, event.unit, event.units, event.charge_nanos) == ("plan:house/model:small", "month", 1, offer.charge_nanos)
    assert 0 < offer.charge_nanos <= FEE
    assert balance(account).available == CREDIT_NANOS - offer.charge_nanos
    assert balance(account).held == 0
    assert SubscriptionFee.objects.get().event == event
    assert Receipt.objects.get().event == event
    assert [(line.sku, line.charge_nanos) for line in upcoming_invoice(account, now=now).lines] == [(event.sku, offer.charge_nanos)]
    assert row.paid_until == month_of(now)[1]
    assert check_books() == []
    assert list(rederive(account, since=month_of(now)[0], until=month_of(now)[1])) == []


def test_a_fee_counts_on_no_cap(account: Account) -> None:
    """Else a fee could use up the cap, and stop the calls that it has just paid for."""
    starts_at, ends_at = month_of(timezone.now())
    period = {"interval": "month", "starts_at": starts_at, "ends_at": ends_at}
    cap = Budget.objects.create(account=account, subject="organization_month", limit_nanos=1, **period)

    subscribe(account, hard(), by="anna")

    cap.refresh_from_db()
    assert (cap.spent_nanos, cap.leased_nanos) == (0, 0)
    assert UsageEvent.objects.get().budgets == str(Budget.objects.get(account=account, subject="account").pk)


def test_a_fee_that_cannot_be_paid_changes_nothing() -> None:
    poor = open_account(name="poor")

    with pytest.raises(FeeUnpaid) as refusal:
        subscribe(poor, hard(), by="anna")

    assert refusal.value.left_nanos == 0
    assert not Subscription.objects.exists()
    assert not UsageEvent.objects.exists()
    assert check_books() == []


def test_a_fee_does_not_spend_what_calls_hold(account: Account) -> None:
    Budget.objects.filter(account=account).update(leased_nanos=CREDIT_NANOS)

    with pytest.raises(FeeUnpaid):
        subscribe(account, hard(), by="anna")

    assert not UsageEvent.objects.exists()


def test_one_plan_of_a_scope_at_a_time(account: Account) -> None:
    plan = hard()
    row = subscribe(account, plan, by="anna")

    with pytest.raises(AlreadySubscribed):
        subscribe(account, plan, by="anna")
    with pytest.raises(IntegrityError), transaction.atomic():
        Subscription.objects.create(
            account=account, plan=plan, scope=SCOPE, starts_at=row.starts_at, first_ends_at=row.first_ends_at, first_price=plan.usage_price,
            paid_until=row.paid_until, created_by="test",
        )  # fmt: skip

    assert UsageEvent.objects.count() == 1


def test_a_change_charges_the_rest_and_gives_the_unused_part_back_to_the_nano(account: Account) -> None:
    start = month_of(timezone.now())[0]
    month_ends = month_of(start)[1]
    old = subscribe(account, hard(fee=3_000_000_001), by="anna", now=start)
    bigger = hard("bigger", fee=5_000_000_003, included=1000)
    middle = start + (month_ends - start) / 3

    offer = quote(account, bigger, now=middle)
    row = subscribe(account, bigger, by="anna", now=middle, most_nanos=offer.due_nanos)

    old.refresh_from_db()
    assert (old.state, old.reason, old.ends_at) == ("ended", "changed", middle)
    assert (row.previous, row.plan) == (old, bigger)
    # A third of the old fee was used, two thirds of the new one are charged; what is below a nano is rounded once.
    assert offer.credit_nanos == 3_000_000_001 - 3_000_000_001 // 3
    assert offer.charge_nanos == 5_000_000_003 - 5_000_000_003 // 3
    assert row.first_included_units == 1000 - 1000 // 3
    first, used, _ = UsageEvent.objects.order_by("occurred_at", "pk")
    assert UsageRefund.objects.get().event == first
    assert used.charge_nanos == first.charge_nanos - offer.credit_nanos
    assert balance(account).available == CREDIT_NANOS - 3_000_000_001 - offer.due_nanos
    assert check_books() == []


def test_changing_to_and_fro_makes_no_shares_of_nothing_and_keeps_the_credits_day(account: Account) -> None:
    provider = open_account(name="provider")
    set_share(SCOPE, payee=provider, fee_basis_points=2000, by="test")
    plans = [hard(), hard("other")]
    now = timezone.now()

    for turn in range(6):
        subscribe(account, plans[turn % 2], by="anna", now=now + timedelta(seconds=turn))
    post_usage(now=now + timedelta(hours=2))

    charged = CREDIT_NANOS - balance(account).available
    assert charged <= FEE + 10**6  # A month's rest, and some seconds.
    assert ledger_balance(provider_account_name(provider)) <= charged * 8000 // 10_000 + 6
    assert CreditGrant.objects.count() == 1  # What the account began with.
    assert check_books() == []


def test_a_fee_that_was_refunded_is_not_given_back_again(account: Account) -> None:
    row = subscribe(account, hard(), by="anna")
    refund_event(row.fees.get().event_id, reason="test", by="test")

    assert quote(account, hard("other")).credit_nanos == 0


def test_calls_that_still_wait_do_not_use_a_plan_that_was_left(account: Account) -> None:
    began = timezone.now() - timedelta(minutes=5)
    subscribe(account, hard(), by="anna", now=began)
    subscribe(account, hard("other"), by="anna", now=began + timedelta(minutes=1))

    assert [agreement.at(began) for agreement in agreements_of(account.pk)] == [None]


def test_a_change_is_not_made_for_more_than_was_shown(account: Account) -> None:
    plan = hard()
    offer = quote(account, plan)

    with pytest.raises(QuoteOutdated):
        subscribe(account, plan, by="anna", most_nanos=offer.due_nanos - 10**6)

    assert not Subscription.objects.exists()


def test_a_retired_plan_takes_nobody_new_and_keeps_who_has_it(account: Account) -> None:
    plan = hard()
    row = subscribe(account, plan, by="anna")

    retire_plan(plan)

    assert offered_plans([SCOPE], currency="usd") == []
    with pytest.raises(PlanNotOffered):
        quote(open_account(name="late"), plan)
    assert renew(row.pk, grace=GRACE, now=row.paid_until) is not None


def test_the_database_keeps_what_a_plan_promises() -> None:
    plan = hard()

    with pytest.raises(IntegrityError), transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(fee_nanos=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        plan.delete()

    plan.refresh_from_db()
    assert plan.fee_nanos == FEE


def test_a_plan_must_make_sense() -> None:
    hard()
    with pytest.raises(PlanInvalid):
        hard()  # The code is taken.
    with pytest.raises(PlanInvalid):
        make_plan(scope=SCOPE, code="a", name="a", fee_nanos=1, unit="call", included_units=None, quota="hard", by="test")
    with pytest.raises(PlanInvalid):
        make_plan(scope=SCOPE, code="a", name="a", fee_nanos=1, unit="call", included_units=5, quota="soft", by="test")
    with pytest.raises(PlanInvalid):
        make_plan(scope=SCOPE, code="a", name="a", fee_nanos=1, unit="month", included_units=5, quota="hard", by="test")
    assert Plan.objects.count() == 1


def test_a_part_of_a_month_includes_its_part_and_the_next_all(account: Account) -> None:
    start, end = month_of(timezone.now())
    subscribe(account, hard(included=100), by="anna", now=start + (end - start) / 2)

    (agreement,) = agreements_of(account.pk)

    assert agreement.first.quota is not None
    assert agreement.rest.quota is not None
    assert (agreement.first.quota.limit_nanos, agreement.rest.quota.limit_nanos) == (50, 100)
    assert agreement.at(end) == agreement.rest
    assert agreement.at(start) is None


def test_the_plan_of_a_model_goes_before_the_one_of_everything(account: Account) -> None:
    subscribe(account, hard("all", scope=EVERYTHING, fee=1), by="anna")
    subscribe(account, hard("one", fee=1), by="anna")
    agreements = agreements_of(account.pk)
    later = timezone.now() + timedelta(seconds=1)

    one = allowance_at(agreements, meter=SCOPE, unit="call", moment=later)
    other = allowance_at(agreements, meter="house/other", unit="call", moment=later)

    assert one is not None
    assert other is not None
    assert one.terms.price_id != other.terms.price_id
    assert allowance_at(agreements, meter=SCOPE, unit="token", moment=later) is None


def test_a_cancelled_plan_goes_on_to_the_end_of_what_is_paid(account: Account) -> None:
    row = subscribe(account, hard(), by="anna")

    row = cancel(row)

    (agreement,) = agreements_of(account.pk)
    assert row.ends_at == row.paid_until
    assert agreement.at(row.paid_until - timedelta(seconds=1)) is not None
    assert agreement.at(row.paid_until) is None
    assert renew(row.pk, grace=GRACE, now=row.paid_until) is not None
    row.refresh_from_db()
    assert (row.state, row.reason) == ("ended", "cancelled")
    assert SubscriptionFee.objects.count() == 1
    with pytest.raises(SubscriptionEnded):
        cancel(row)


def test_a_cancellation_can_be_taken_back(account: Account) -> None:
    row = resume(cancel(subscribe(account, hard(), by="anna")))

    assert row.ends_at is None
    assert live_subscription(account, SCOPE) == row


def renew_in_thread(row: Subscription, now: datetime) -> Subscription | None:
    try:
        return renew(row.pk, grace=GRACE, now=now)
    finally:
        connections.close_all()


def test_a_month_is_charged_once_however_often_it_is_renewed(account: Account) -> None:
    row = subscribe(account, hard(), by="anna")
    due = row.paid_until

    assert due_subscriptions(now=due - timedelta(seconds=1)) == []
    assert due_subscriptions(now=due) == [row.pk]
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: renew_in_thread(row, due), range(2)))

    assert sum(outcome is not None for outcome in outcomes) == 1
    assert SubscriptionFee.objects.filter(starts_at=due).count() == 1
    fees = UsageEvent.objects.filter(unit="month").order_by("occurred_at").values_list("charge_nanos", flat=True)
    assert fees[1] == FEE
    assert check_books() == []


def test_an_unpaid_plan_rests_for_its_grace_and_then_lapses() -> None:
    account = open_account(name="short")
    grant_credit(account, Nanos(FEE), kind="operator", reference="test:short", by="test")
    row = subscribe(account, hard(), by="anna")
    due = row.paid_until
    Budget.objects.filter(account=account, subject="account").update(leased_nanos=balance(account).available)  # All is held by calls.

    unpaid = renew(row.pk, grace=GRACE, now=due)
    again = renew(row.pk, grace=GRACE, now=due + timedelta(days=1))

    assert unpaid is not None
    assert (unpaid.state, unpaid.grace_until) == ("unpaid", due + GRACE)
    assert again is None
    assert agreements_of(account.pk) == []  # Its quota is not free meanwhile.
    lapsed = renew(row.pk, grace=GRACE, now=due + GRACE)
    assert lapsed is not None
    assert (lapsed.state, lapsed.reason, lapsed.ends_at) == ("ended", "lapsed", due + GRACE)
    assert agreements_of(account.pk)[0].at(due + GRACE) is None
    assert SubscriptionFee.objects.count() == 1


def test_an_unpaid_plan_is_paid_as_soon_as_there_is_credit(account: Account) -> None:
    row = subscribe(account, hard(), by="anna")
    held = balance(account).available
    Budget.objects.filter(account=account, subject="account").update(leased_nanos=held)
    renew(row.pk, grace=GRACE, now=row.paid_until)
    Budget.objects.filter(account=account, subject="account").update(leased_nanos=0)

    paid = renew(row.pk, grace=GRACE, now=row.paid_until + timedelta(days=1))

    assert paid is not None
    assert (paid.state, paid.grace_until, paid.paid_until) == ("active", None, month_of(row.paid_until)[1])
    assert agreements_of(account.pk)[0].at(row.paid_until + timedelta(days=1)) is not None


def test_fees_are_append_only(account: Account) -> None:
    subscribe(account, hard(), by="anna")

    with pytest.raises(IntegrityError), transaction.atomic():
        SubscriptionFee.objects.update(starts_at=datetime(2026, 1, 1, tzinfo=UTC))

    assert SubscriptionFee.objects.get().starts_at > datetime(2026, 1, 1, tzinfo=UTC)


def test_the_provider_of_a_model_shares_in_the_fee_and_in_the_overage(account: Account) -> None:
    provider = open_account(name="provider")
    set_share(SCOPE, payee=provider, fee_basis_points=2000, by="test")
    set_price(sku=f"{SCOPE}@1", unit="call", unit_nanos=1, meter=SCOPE)
    subscribe(account, soft(), by="anna")
    subscribe(account, soft("all", scope=EVERYTHING), by="anna")
    later = timezone.now() + timedelta(seconds=1)

    fee, everything = UsageEvent.objects.order_by("occurred_at")
    terms = allowance_of(account).terms

    of_fee = find_share(sku=fee.sku, price_id=fee.price_id, at=later, payer=account)
    of_call = find_share(sku=f"{SCOPE}@1", price_id=terms.price_id, at=later, payer=account)
    assert of_fee is not None
    assert of_call is not None
    assert of_fee.payee == of_call.payee == provider
    assert find_share(sku=everything.sku, price_id=everything.price_id, at=later, payer=account) is None
