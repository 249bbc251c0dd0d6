"""What a session that changed makes of a run's times: a sale is moved ahead, a purchase never, a closed day cancels."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.action import Abort, Finish, Policy
from engine.domain.decision import decide, outlook
from engine.domain.events import EventType
from engine.domain.orders import OrderStatus, Product
from engine.domain.run import RunStatus
from engine.domain.schedule import Times, fit, moved_alert
from engine.domain.strategy import SQUARE_OFF, Session
from tests.builders import BUY_AT, CLOSES, DAY, OPENS, SELL_AT, at, entry, run, strategy

H, M = timedelta(hours=1), timedelta(minutes=1)
CANCELED = Times(BUY_AT, SELL_AT, BUY_AT)


def session(opens: datetime = OPENS, closes: datetime = CLOSES) -> Session:
    return Session(DAY, opens, closes, max(opens, closes - SQUARE_OFF))


#: The session as it is now, whether the entry was sent, and the times a run from BUY_AT to SELL_AT then has.
FITS: list[tuple[str, Session | None, bool, Times]] = [
    ("as it was", session(), False, Times(BUY_AT, SELL_AT, CLOSES)),
    ("as it was, and bought", session(), True, Times(BUY_AT, SELL_AT, CLOSES)),
    ("longer", session(closes=CLOSES + H), False, Times(BUY_AT, SELL_AT, CLOSES + H)),
    ("shorter, and it fits", session(closes=CLOSES - M), False, Times(BUY_AT, SELL_AT, CLOSES - M)),
    ("too short for the sale", session(closes=SELL_AT), False, Times(BUY_AT, SELL_AT - SQUARE_OFF, SELL_AT)),
    ("too short, and bought", session(closes=SELL_AT), True, Times(BUY_AT, SELL_AT - SQUARE_OFF, SELL_AT)),
    ("opens too late to buy", session(BUY_AT + M), False, CANCELED),
    ("opens late, and bought before", session(BUY_AT + M), True, Times(BUY_AT, SELL_AT, CLOSES)),
    ("over before it buys", session(closes=BUY_AT), False, CANCELED),
    ("squared off as it buys", session(closes=BUY_AT + SQUARE_OFF), False, CANCELED),
    ("in the evening", session(CLOSES + H, CLOSES + 2 * H), False, CANCELED),
    ("closed", None, False, CANCELED),
    # Held, and nothing can be sold: the end of its session, as at any close.
    ("closed, and bought", None, True, CANCELED),
]  # fmt: skip


@pytest.mark.parametrize(("now", "entered", "times"), [each[1:] for each in FITS], ids=[each[0] for each in FITS])
def test_times_follow_their_session(now: Session | None, entered: bool, times: Times) -> None:
    assert fit(strategy(), now, BUY_AT, SELL_AT, entered=entered) == times


def test_what_is_not_for_the_day_only_is_held_to_the_close() -> None:
    delivered = strategy(product=Product.DELIVERY)
    assert fit(delivered, session(closes=SELL_AT), BUY_AT, SELL_AT) == Times(BUY_AT, SELL_AT, SELL_AT)


MOMENTS = st.integers(-600, 900).map(lambda minutes: OPENS + timedelta(minutes=minutes))


@given(MOMENTS, MOMENTS, MOMENTS, MOMENTS, st.sampled_from(Product), st.booleans())
def test_nothing_is_bought_or_sold_outside_the_session_nor_later_than_wanted(
    opens: datetime, closes: datetime, buy_at: datetime, sell_at: datetime, product: Product, entered: bool
) -> None:
    now = session(min(opens, closes), max(opens, closes) + M)
    times = fit(strategy(product=product), now, buy_at, sell_at, entered=entered)
    assert (times.buy_at, times.sell_at) == (buy_at, min(sell_at, times.sell_at))
    if not times.is_canceled:
        assert times.sell_at <= now.last_sale(product)
        assert entered or now.contains(times.buy_at)


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (Times(BUY_AT, SELL_AT, CLOSES), []),
        (Times(BUY_AT, SELL_AT, CLOSES + H), []),
        (CANCELED, []),
        (Times(BUY_AT, SELL_AT - H, CLOSES - H), ["morning: another session on 2026-01-05: it is sold at 13:30:00"]),
    ],
)
def test_a_human_is_told_of_another_time(after: Times, told: list[str]) -> None:
    alerts = moved_alert(strategy(), Times(BUY_AT, SELL_AT, CLOSES), after)
    assert [alert.message for alert in alerts] == told


@pytest.mark.parametrize("kind", [EventType.BUY, EventType.RETRY])
def test_a_canceled_run_ends_at_once_and_buys_nothing(kind: EventType) -> None:
    early = at(BUY_AT, hours=-1)
    canceled = CANCELED.put_into(run())
    assert decide(canceled, kind, early, Policy()) == Finish(RunStatus.MISSED, "outside_session")
    assert outlook(canceled, early, Policy())[1] == early.real


def test_a_canceled_run_with_an_attempt_in_doubt_lives_on() -> None:
    doubted = CANCELED.put_into(run(entry(OrderStatus.UNKNOWN, given_up=True)))
    assert decide(doubted, EventType.BUY, at(BUY_AT), Policy()) == Abort("outside_session_in_doubt")


def test_a_held_run_whose_session_is_gone_is_flagged() -> None:
    held = CANCELED.put_into(run(entry(OrderStatus.FILLED, 10)))
    assert decide(held, EventType.ORDER_UPDATE, at(BUY_AT, hours=1), Policy()) == Abort("session_over")
