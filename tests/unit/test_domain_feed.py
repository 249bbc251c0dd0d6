"""The feed's illnesses, each as it was seen: what is believed at once, what must be confirmed, what has no effect."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.feed import Asked, FeedPolicy, Refusal, SymbolGuard
from engine.domain.moment import Moment
from engine.domain.ticks import Tick
from tests.builders import CLOSES, OPENS, SESSION, at, tick

#: A price in the middle of the day's band of 80.00 to 120.00; see `builders.tick`.
GOOD = 10_000
#: 10 % below, as a circuit limit is; inside the band and further than one believable step.
SPIKE = 9_000
#: Below the day's band.
OUTSIDE = 7_900
NOON = OPENS + timedelta(hours=2)
LATE = at(CLOSES, hours=1)


@dataclass
class Desk:
    """A guard fed one tick a second of real time, and what it let through."""

    guard: SymbolGuard = field(default_factory=lambda: SymbolGuard(FeedPolicy(), SESSION))
    believed: list[Tick] = field(default_factory=list)

    def feed(self, *ticks: Tick, now: Moment = LATE) -> list[Tick]:
        new: list[Tick] = []
        for each in ticks:
            new += self.guard.judge(each, now)
        self.believed += new
        return new

    def overdue(self, seconds: float, now: Moment = LATE) -> list[Tick]:
        return self.guard.overdue(now.real + timedelta(seconds=seconds))


@pytest.fixture
def desk() -> Desk:
    """A guard that has believed one good tick."""
    desk = Desk()
    assert desk.feed(tick(GOOD)) == [tick(GOOD)]
    return desk


#: An illness that must have no effect, and the name it is counted under.
REFUSED: list[tuple[str, Tick, Refusal]] = [
    ("zero price", tick(0, 1), Refusal.NOT_A_PRICE),
    ("negative price", tick(-5, 1), Refusal.NOT_A_PRICE),
    ("no exchange time", tick(GOOD, 1, exchange_time=None), Refusal.NO_TIME),
    (
        "1970 with a circuit-limit price",
        tick(SPIKE, exchange_time=datetime(1970, 1, 1, tzinfo=UTC)),
        Refusal.OUT_OF_SESSION,
    ),
    ("1970 with a good price", tick(GOOD, exchange_time=datetime(1970, 1, 1, tzinfo=UTC)), Refusal.OUT_OF_SESSION),
    ("before the open", tick(GOOD, -0.001), Refusal.OUT_OF_SESSION),
    ("after the close", tick(GOOD, exchange_time=CLOSES + timedelta(microseconds=1)), Refusal.OUT_OF_SESSION),
    ("yesterday", tick(GOOD, exchange_time=OPENS - timedelta(days=1)), Refusal.OUT_OF_SESSION),
]


@pytest.mark.parametrize(("sick", "name"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_sick_tick_is_counted_and_has_no_effect(desk: Desk, sick: Tick, name: Refusal) -> None:
    before = replace(desk.guard, refused=desk.guard.refused.copy())
    assert desk.feed(sick) == []
    assert desk.guard.refused == Counter({name: 1})
    assert (desk.guard.last_price, desk.guard.last_time) == (before.last_price, before.last_time)
    assert desk.feed(tick(GOOD, 2)) == [tick(GOOD, 2)]


@pytest.mark.parametrize("edge", [OPENS, CLOSES])
def test_the_ends_of_the_session_belong_to_it(edge: datetime) -> None:
    assert Desk().feed(tick(GOOD, exchange_time=edge)) == [tick(GOOD, exchange_time=edge)]


def test_rows_out_of_order_are_refused_and_the_newer_ones_kept(desk: Desk) -> None:
    rows = [tick(GOOD + 1, 5), tick(GOOD - 100, 3), tick(GOOD + 2, 6), tick(GOOD - 100, 5)]
    assert desk.feed(*rows) == [rows[0], rows[2]]
    assert desk.guard.refused == Counter({Refusal.OLDER_THAN_LAST: 2})


def test_repeated_stamps_are_each_evaluated(desk: Desk) -> None:
    rows = [tick(GOOD - i, 1) for i in range(5)]
    assert desk.feed(*rows) == rows


def test_a_stamp_from_the_future_is_refused_and_shuts_no_true_tick_out(desk: Desk) -> None:
    now = at(NOON)
    ahead = tick(GOOD, exchange_time=NOON + timedelta(minutes=10))
    assert desk.feed(ahead, now=now) == []
    assert desk.guard.refused == Counter({Refusal.FROM_THE_FUTURE: 1})
    assert desk.feed(tick(GOOD, exchange_time=NOON), now=now) == [tick(GOOD, exchange_time=NOON)]


@pytest.mark.parametrize(("speed", "market_ahead", "believed"), [(1, 2, True), (1, 2.001, False), (60, 119, True)])
def test_a_stamp_may_be_ahead_by_two_real_seconds_whatever_the_speed(
    speed: float, market_ahead: float, believed: bool
) -> None:
    stamped = tick(GOOD, exchange_time=NOON + timedelta(seconds=market_ahead))
    assert bool(Desk().feed(stamped, now=Moment(NOON, NOON, speed))) is believed


def test_a_spike_that_goes_back_fires_nothing(desk: Desk) -> None:
    assert desk.feed(tick(SPIKE, 1)) == []
    assert desk.feed(tick(GOOD - 5, 2)) == [tick(GOOD - 5, 2)]
    assert desk.overdue(5) == []
    assert desk.guard.refused == Counter({Refusal.SPIKE: 1})


def test_a_spike_a_later_tick_confirms_is_believed_with_it_and_in_order(desk: Desk) -> None:
    assert desk.feed(tick(SPIKE, 1)) == []
    assert desk.feed(tick(SPIKE - 10, 2)) == [tick(SPIKE, 1), tick(SPIKE - 10, 2)]
    assert desk.guard.refused.total() == 0
    assert desk.feed(tick(SPIKE - 20, 3)) == [tick(SPIKE - 20, 3)]


def test_the_same_second_confirms_nothing(desk: Desk) -> None:
    assert desk.feed(tick(SPIKE, 1), tick(SPIKE, 1)) == []
    assert desk.feed(tick(SPIKE, 2)) == [tick(SPIKE, 1), tick(SPIKE, 1), tick(SPIKE, 2)]


def test_a_spike_nobody_confirms_fires_after_a_second_inside_the_band(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1))
    assert desk.overdue(0.999) == []
    assert desk.overdue(1) == [tick(SPIKE, 1)]
    assert desk.overdue(2) == []
    assert desk.guard.last_price == SPIKE


def test_a_spike_nobody_confirms_outside_the_band_never_fires(desk: Desk) -> None:
    desk.feed(tick(OUTSIDE, 1))
    assert desk.overdue(1) == []
    assert desk.overdue(3) == []
    assert desk.guard.refused == Counter({Refusal.SPIKE: 1})
    assert desk.guard.last_price == GOOD


def asked(price: int, second: float = 1, band: tuple[int, int] = (8_000, 12_000), low: int = 0) -> Asked:
    """What the broker answers at a second of the session."""
    stamp = tick(price, second).exchange_time
    assert stamp is not None
    return Asked(price, *band, stamp, low)


def full(price: int, low: int, second: float) -> Tick:
    """A packet of full mode: it tells the day's low, and when its price was traded."""
    stamp = tick(price, second).exchange_time
    return tick(price, second, traded_at=stamp, low=low)


def test_a_later_trade_confirms_a_spike_outside_the_band_too(desk: Desk) -> None:
    for price in (SPIKE, OUTSIDE):
        guard = replace(desk.guard, doubts=[], refused=Counter())
        assert guard.judge(tick(price, 1), LATE) == []
        assert guard.asked(asked(price + 10, 1)) == []
        assert guard.asked(asked(price + 10, 2)) == [tick(price, 1)]
        assert (guard.last_price, guard.refused.total()) == (price, 0)
        assert guard.overdue(LATE.real + timedelta(seconds=5)) == []


def test_a_later_trade_disproves_a_spike_and_one_of_the_same_second_leaves_it(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1))
    assert desk.guard.asked(asked(GOOD, 1)) == []
    assert [doubt.tick for doubt in desk.guard.doubts] == [tick(SPIKE, 1)]
    assert desk.guard.asked(asked(GOOD, 2)) == []
    assert desk.overdue(5) == []
    assert (desk.guard.doubts, desk.guard.refused) == ([], Counter({Refusal.SPIKE: 1}))
    assert desk.guard.last_price == GOOD


def test_a_quote_that_is_near_neither_leaves_it_to_the_next_tick(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1))
    assert desk.guard.asked(asked(9_490, 2)) == []
    assert desk.feed(tick(SPIKE, 3)) == [tick(SPIKE, 1), tick(SPIKE, 3)]


def test_the_band_of_a_quote_is_the_one_that_counts(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1))
    assert desk.guard.asked(asked(9_490, 1, band=(9_500, 10_500))) == []
    assert desk.overdue(1) == []
    desk.feed(tick(OUTSIDE, 2))
    assert desk.guard.asked(asked(9_490, 2, band=(0, 0))) == []
    assert desk.guard.band == (9_500, 10_500)


def test_a_quote_nobody_needs_changes_no_price(desk: Desk) -> None:
    assert desk.guard.asked(asked(SPIKE, 2)) == []
    assert desk.guard.last_price == GOOD


@pytest.mark.parametrize("prices", [(4_800, OUTSIDE), (OUTSIDE, 4_800)], ids=["half the way back", "further down"])
def test_what_lies_outside_the_brokers_band_is_borne_out_only_by_a_price_near_it(
    desk: Desk, prices: tuple[int, int]
) -> None:
    """A feed gone wrong tells one price after another that nobody can have traded."""
    desk.guard.asked(asked(GOOD, 1))
    first, second = prices
    assert desk.feed(tick(first, 1.5), tick(second, 2)) == []
    assert desk.feed(tick(second - 10, 3)) == [tick(second, 2), tick(second - 10, 3)]


def test_a_crash_through_a_band_of_before_is_followed_one_tick_behind(desk: Desk) -> None:
    """Exchanges widen bands, and the quotes that would tell fail."""
    desk.guard.asked(asked(GOOD, 1))
    fall = [tick(price, second) for price, second in ((8_900, 20), (7_900, 21), (7_300, 22), (6_800, 23))]
    assert desk.feed(*fall) == fall[:3]


def test_a_crash_through_the_band_that_quotes_go_on_telling_is_followed(desk: Desk) -> None:
    """Each tells a last trade that its own band rules out."""
    desk.guard.asked(asked(GOOD, 1))
    believed: list[int] = []
    for second, price in enumerate((8_900, 7_900, 7_300, 6_800), 2):
        believed += [each.price for each in desk.feed(tick(price, second))]
        believed += [each.price for each in desk.guard.asked(asked(price, second))]
    assert believed == [8_900, 7_900, 7_300]


def test_a_second_spike_elsewhere_does_not_confirm_the_first(desk: Desk) -> None:
    assert desk.feed(tick(SPIKE, 1), tick(11_500, 2)) == []
    assert desk.feed(tick(11_500, 3)) == [tick(11_500, 2), tick(11_500, 3)]
    assert desk.overdue(5) == []
    assert (desk.guard.doubts, desk.guard.refused) == ([], Counter({Refusal.SPIKE: 1}))


def test_prices_that_alternate_beyond_a_step_confirm_what_they_agree_on(desk: Desk) -> None:
    """Both are at least so far down: a stop between the last good price and the milder one was reached."""
    assert desk.feed(tick(SPIKE, 1)) == []
    assert desk.feed(tick(8_100, 2)) == [tick(SPIKE, 1)]
    assert desk.feed(tick(SPIKE, 3), tick(8_100, 4), tick(SPIKE, 5)) == [tick(SPIKE, 3), tick(SPIKE, 5)]
    assert desk.overdue(5) == []
    assert desk.guard.refused == Counter({Refusal.SPIKE: 2})


def test_a_fall_of_more_than_a_step_a_second_is_followed_one_tick_behind(desk: Desk) -> None:
    fall = [tick(GOOD - 1_000 * second, second) for second in range(1, 6)]
    assert desk.feed(*fall) == fall[:-1]
    rise = [tick(5_000 + 1_000 * second, 10 + second) for second in range(1, 6)]
    assert desk.feed(*rise)[-1] == rise[-2]


def test_a_price_half_the_way_back_is_believed_and_the_spike_waits_its_second(desk: Desk) -> None:
    assert desk.feed(tick(8_100, 1)) == []
    assert desk.feed(tick(SPIKE, 2)) == [tick(SPIKE, 2)]
    assert desk.overdue(1) == [tick(8_100, 1)]
    assert desk.guard.last_price == SPIKE


def test_a_price_of_nothing_like_the_others_is_not_confirmed_by_them(desk: Desk) -> None:
    assert desk.feed(tick(5, 1), tick(SPIKE, 2)) == [tick(SPIKE, 2)]
    assert desk.feed(tick(SPIKE + 5, 3)) == [tick(SPIKE + 5, 3)]
    assert desk.overdue(5) == []
    assert (desk.guard.doubts, desk.guard.refused) == ([], Counter({Refusal.SPIKE: 1}))


@pytest.mark.parametrize("other", [8_100, 11_500])
def test_a_spike_is_believed_after_its_second_whatever_doubtful_price_follows(desk: Desk, other: int) -> None:
    desk.feed(tick(SPIKE, 1))
    for tenth in range(1, 10):
        now = at(CLOSES, hours=1, seconds=tenth / 10)
        assert desk.feed(tick((other, SPIKE)[tenth % 2], 1), now=now) == []
    assert desk.overdue(0.999) == []
    assert desk.overdue(1)[0] == tick(SPIKE, 1)
    assert desk.overdue(1.9)[-1:] in ([tick(other, 1)], [])
    assert desk.guard.doubts == []


def test_a_spike_both_ways_that_comes_again_is_believed(desk: Desk) -> None:
    assert desk.feed(tick(SPIKE, 1), tick(11_500, 2)) == []
    assert desk.feed(tick(SPIKE, 3)) == [tick(SPIKE, 1), tick(SPIKE, 3)]


@pytest.mark.parametrize("risen", [10_600, 11_900])
def test_a_spike_out_of_the_band_that_comes_again_after_the_price_rose_is_not_believed(desk: Desk, risen: int) -> None:
    assert desk.feed(tick(7_900, 1), tick(risen, 2)) == []
    assert desk.feed(tick(7_900, 3)) == []
    # Nothing says otherwise between these two.
    assert desk.feed(tick(7_890, 4)) == [tick(7_900, 3), tick(7_890, 4)]


def test_a_quote_confirms_a_doubt_that_is_not_the_last(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1), tick(11_500, 2))
    assert desk.guard.asked(asked(SPIKE, 3)) == [tick(SPIKE, 1)]
    assert (desk.guard.doubts, desk.guard.last_price) == ([], SPIKE)


def test_a_quote_further_down_confirms_a_spike(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1))
    assert desk.guard.asked(asked(8_100, 2)) == [tick(SPIKE, 1)]


@pytest.mark.parametrize(("price", "believed"), [(9_500, True), (9_499, False), (10_500, True), (10_501, False)])
def test_a_step_of_five_per_cent_is_believed_and_one_beyond_it_is_not(desk: Desk, price: int, believed: bool) -> None:
    assert bool(desk.feed(tick(price, 1))) is believed


@pytest.mark.parametrize(("price", "believed"), [(8_000, True), (7_999, False), (12_000, True), (12_001, False)])
def test_the_first_tick_of_a_session_is_held_against_the_band(price: int, believed: bool) -> None:
    assert bool(Desk().feed(tick(price))) is believed


def test_the_first_tick_is_believed_where_no_close_is_told() -> None:
    assert Desk().feed(tick(123, close=0)) == [tick(123, close=0)]


@pytest.mark.parametrize(("gap", "believed"), [(300, False), (301, True)])
def test_after_a_gap_of_minutes_the_band_decides_not_the_last_tick(desk: Desk, gap: int, believed: bool) -> None:
    assert bool(desk.feed(tick(SPIKE, gap))) is believed


def test_a_gap_excuses_no_price_outside_the_band(desk: Desk) -> None:
    assert desk.feed(tick(OUTSIDE, 3600)) == []
    assert desk.feed(tick(GOOD, 3601)) == [tick(GOOD, 3601)]


def test_a_slide_in_small_steps_is_believed_to_the_bottom(desk: Desk) -> None:
    slide = [tick(GOOD - 100 * i, i) for i in range(1, 50)]
    assert desk.feed(*slide) == slide


#: A step and its return, as an option takes them: the day's low before it, and the price between.
BEFORE, DIP = 9_900, 9_000


@pytest.fixture
def option() -> Desk:
    """A guard that knows the day's low, and doubts a price below it from which the next tick came back."""
    desk = Desk()
    desk.feed(full(GOOD, BEFORE, 0))
    assert desk.feed(full(DIP, DIP, 1)) == []
    return desk


def test_a_price_that_came_back_is_believed_where_the_days_low_says_it_was_traded(option: Desk) -> None:
    assert option.feed(full(GOOD, DIP, 2)) == [full(DIP, DIP, 1), full(GOOD, DIP, 2)]
    assert (option.guard.refused.total(), option.guard.last_price, option.guard.low) == (0, GOOD, DIP)
    assert option.feed(full(GOOD, DIP, 3)) == [full(GOOD, DIP, 3)]


def test_a_price_lower_still_proves_those_above_it(option: Desk) -> None:
    assert option.feed(full(GOOD, DIP - 10, 2))[0] == full(DIP, DIP, 1)


def test_a_price_below_the_days_low_was_never_traded(option: Desk) -> None:
    assert option.feed(full(GOOD, BEFORE, 2)) == [full(GOOD, BEFORE, 2)]
    assert (option.guard.unproven, option.guard.refused) == ([], Counter({Refusal.SPIKE: 1}))
    assert option.overdue(5) == []


def test_a_price_half_the_way_back_disproves_one_below_the_days_low() -> None:
    desk = Desk()
    desk.feed(full(GOOD, BEFORE, 0), full(8_100, 8_100, 1))
    assert desk.feed(full(DIP, DIP, 2)) == [full(DIP, DIP, 2)]
    assert (desk.overdue(5), desk.guard.refused) == ([], Counter({Refusal.SPIKE: 1}))


def test_the_low_of_the_same_second_proves_nothing_and_the_next_one_does(option: Desk) -> None:
    assert option.feed(full(GOOD, DIP, 1)) == [full(GOOD, DIP, 1)]
    assert option.overdue(2.9) == []
    assert option.feed(full(GOOD, DIP, 2)) == [full(DIP, DIP, 1), full(GOOD, DIP, 2)]


def test_a_low_the_day_had_been_to_proves_nothing_of_now() -> None:
    desk = Desk()
    desk.feed(full(GOOD, DIP, 0), full(DIP, DIP, 1))
    assert desk.feed(full(GOOD, DIP, 2)) == [full(GOOD, DIP, 2)]
    assert (desk.guard.unproven, desk.guard.refused) == ([], Counter({Refusal.SPIKE: 1}))


def test_the_low_of_a_day_before_proves_nothing(option: Desk) -> None:
    yesterday = replace(full(GOOD, DIP, 2), traded_at=OPENS - timedelta(hours=18))
    assert option.feed(yesterday, tick(GOOD, 3, low=DIP)) == [yesterday, tick(GOOD, 3, low=DIP)]
    assert (option.overdue(3), option.guard.low) == ([], BEFORE)


def test_a_low_above_its_own_price_is_none(option: Desk) -> None:
    assert option.feed(full(GOOD, GOOD + 1, 2)) == [full(GOOD, GOOD + 1, 2)]
    assert option.guard.asked(asked(GOOD, 3, low=DIP)) == [full(DIP, DIP, 1)]


def test_a_doubtful_packet_is_no_witness(option: Desk) -> None:
    assert option.feed(full(12_000, DIP, 2)) == []
    assert option.feed(full(GOOD, BEFORE, 3)) == [full(GOOD, BEFORE, 3)]


@pytest.mark.parametrize(("low", "believed"), [(DIP, True), (DIP - 1, True), (DIP + 1, False), (BEFORE, False)])
def test_the_low_of_the_brokers_quote_decides(option: Desk, low: int, believed: bool) -> None:
    option.feed(tick(GOOD, 1))
    assert option.guard.asked(asked(GOOD, 1, low=low)) == []
    assert option.guard.asked(asked(GOOD, 2, low=low)) == [full(DIP, DIP, 1)] * believed
    assert (option.guard.needs_word, option.guard.refused.total()) == (False, not believed)


@pytest.mark.parametrize(("low", "believed"), [(SPIKE, True), (SPIKE - 1, False), (SPIKE + 1, False)])
def test_where_no_packet_told_the_low_the_quotes_must_be_the_very_price(desk: Desk, low: int, believed: bool) -> None:
    desk.feed(tick(SPIKE, 1), tick(GOOD, 2))
    assert desk.guard.asked(asked(GOOD, 2, low=low)) == [tick(SPIKE, 1)] * believed
    assert (desk.guard.needs_word, desk.guard.refused.total()) == (False, not believed)


def test_a_price_that_came_back_waits_for_its_proof_and_no_longer(desk: Desk) -> None:
    desk.feed(tick(SPIKE, 1), tick(GOOD, 2))
    assert desk.overdue(2.999) == []
    assert [doubt.tick for doubt in desk.guard.unproven] == [tick(SPIKE, 1)]
    assert desk.overdue(3) == []
    assert desk.guard.unproven == []
    assert desk.guard.asked(asked(GOOD, 3, low=SPIKE)) == []


def test_a_price_that_came_back_is_not_confirmed_by_another_spike(desk: Desk) -> None:
    assert desk.feed(tick(SPIKE, 1), tick(GOOD, 2), tick(SPIKE, 3)) == [tick(GOOD, 2)]
    assert desk.feed(tick(GOOD, 4)) == [tick(GOOD, 4)]
    assert desk.overdue(5) == []


def test_a_price_outside_the_band_that_was_traded_is_believed_by_the_days_low() -> None:
    desk = Desk()
    desk.feed(full(GOOD, BEFORE, 0), full(OUTSIDE, OUTSIDE, 1))
    assert desk.overdue(1) == []
    assert desk.feed(full(GOOD, OUTSIDE, 2)) == [full(OUTSIDE, OUTSIDE, 1), full(GOOD, OUTSIDE, 2)]


@pytest.mark.parametrize(("price", "believed"), [(50, True), (70, True), (49, False), (71, False)])
def test_two_steps_of_a_small_price_are_believed_and_three_are_not(price: int, believed: bool) -> None:
    desk = Desk(SymbolGuard(FeedPolicy(), SESSION, tick_size=5))
    desk.feed(tick(60, close=60))
    assert bool(desk.feed(tick(price, 1, close=60))) is believed
