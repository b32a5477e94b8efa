"""Which grant pays: worked by hand, and what holds of any history."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billing.credits import Event, Expired, Granted, Reversed, split_spending

START = datetime(2026, 1, 1, tzinfo=UTC)


def grant(
    name: str, amount: int, *, at: int = 0, day: int = 0, expires: int | None = None, priority: int = 50, is_paid: bool = False
) -> Granted:
    return Granted(
        id=name,
        amount_nanos=amount,
        at_spent=at,
        granted_at=START + timedelta(days=day),
        expires_at=None if expires is None else START + timedelta(days=expires),
        priority=priority,
        is_paid=is_paid,
    )


def test_the_order_is_priority_then_soonest_expiry_then_oldest() -> None:
    events = [
        grant("oldest", 10),
        grant("second", 10, day=1),
        grant("late", 10, day=2, expires=90),
        grant("soon", 10, day=3, expires=30),
        grant("first", 10, day=4, priority=1),
    ]
    emptied = []
    for spent in range(10, 60, 10):
        left = split_spending(events, spent).left
        emptied.append(next(name for name, amount in left.items() if amount == 0 and name not in emptied))

    assert emptied == ["first", "soon", "late", "oldest", "second"]


def test_a_grant_pays_for_nothing_that_was_spent_before_it() -> None:
    events = [grant("paid", 10), grant("gift", 5, at=8, day=1, expires=30)]

    assert split_spending(events, 8).left == {"paid": 2, "gift": 5}
    assert split_spending(events, 10).left == {"paid": 2, "gift": 3}
    assert split_spending(events, 14).left == {"paid": 1, "gift": 0}


def test_what_expired_pays_for_nothing_more() -> None:
    events: list[Event] = [grant("gift", 10, expires=30), grant("paid", 10, day=1)]
    events.append(Expired(id="gift", amount_nanos=6, at_spent=4))

    assert split_spending(events, 4).left == {"gift": 0, "paid": 10}
    assert split_spending(events, 9).left == {"gift": 0, "paid": 5}


def test_a_refund_gives_back_what_was_used_last() -> None:
    events = [grant("gift", 10, expires=30), grant("paid", 10, day=1), grant("more", 1, at=15, day=2)]

    assert split_spending(events, 12).left == {"gift": 0, "paid": 8, "more": 1}
    assert split_spending(events, 3).left == {"gift": 7, "paid": 10, "more": 1}


def test_a_payment_that_is_given_back_takes_paid_credit_first_and_may_leave_a_debt() -> None:
    events: list[Event] = [grant("gift", 10), grant("paid", 10, day=1, is_paid=True), Reversed(amount_nanos=15)]
    assert split_spending(events, 0).left == {"gift": 5, "paid": 0}

    split = split_spending([*events, Reversed(amount_nanos=8)], 0)
    assert (split.left, split.owed) == ({"gift": 0, "paid": 0}, 3)

    split = split_spending([*events, Reversed(amount_nanos=8), grant("next", 5, day=2)], 0)
    assert (split.left, split.owed) == ({"gift": 0, "paid": 0, "next": 2}, 0)


AMOUNTS = st.integers(1, 1000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), AMOUNTS, st.one_of(st.none(), st.integers(1, 99)), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("spend"), st.integers(-1500, 1500)),
        st.tuples(st.just("expire"), st.integers(0, 30), st.integers(0, 100)),
        st.tuples(st.just("reverse"), AMOUNTS),
    ),
    max_size=25,
)


@given(STEPS)
def test_whatever_happens_the_grants_add_up_to_the_balance(steps: list[tuple[object, ...]]) -> None:
    events: list[Event] = []
    balance = spent = 0
    names: list[str] = []
    for number, (kind, *values) in enumerate(steps):
        match kind, values:
            case "grant", [int(amount), expires, int(priority), bool(is_paid)]:
                names.append(f"grant {number}")
                day = expires if isinstance(expires, int) else None
                events.append(grant(names[-1], amount, at=spent, day=number, expires=day, priority=priority, is_paid=is_paid))
                balance += amount
            case "spend", [int(amount)]:
                fresh = max(0, spent + amount)
                balance, spent = balance - (fresh - spent), fresh
            case "expire", [int(which), int(percent)] if names:
                name = names[which % len(names)]
                amount = split_spending(events, spent).left[name] * percent // 100
                events.append(Expired(id=name, amount_nanos=amount, at_spent=spent))
                balance -= amount
            case "reverse", [int(amount)]:
                events.append(Reversed(amount_nanos=amount))
                balance -= amount

    split = split_spending(events, spent)

    assert sum(split.left.values()) - split.owed == balance
    assert all(amount >= 0 for amount in split.left.values())
    assert split.owed == 0 or not any(split.left.values())  # Nobody owes who has credit.
    for event in events:
        if isinstance(event, Granted):
            assert split.left[event.id] <= event.amount_nanos


@given(
    st.lists(st.tuples(AMOUNTS, st.integers(0, 3), st.one_of(st.none(), st.integers(1, 99))), min_size=1, max_size=8), st.integers(0, 9000)
)
def test_a_later_grant_is_not_touched_while_an_earlier_one_has_anything_left(grants: list[tuple[int, int, int | None]], spent: int) -> None:
    events = [grant(str(n), amount, day=n, priority=priority, expires=day) for n, (amount, priority, day) in enumerate(grants)]

    left = split_spending(events, spent).left

    untouched = False
    for event in sorted(events, key=lambda one: one.order):
        if untouched:
            assert left[event.id] == event.amount_nanos
        untouched = untouched or left[event.id] > 0
