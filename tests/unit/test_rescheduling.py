"""Rescheduling: which runs follow a session that changed, and what is written, told and kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from typing import Any

import pytest

from engine.calendar import Calendar, Override, OverrideKind
from engine.domain.moment import Moment
from engine.domain.orders import OrderStatus
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.schedule import Times
from engine.rescheduling import Rescheduler
from tests.builders import BUY_AT, CLOSES, DAY, OPENS, SELL_AT, entry, run, strategy

SHORT = Override("NSE", DAY, OverrideKind.SPECIAL, time(9, 15), time(13))
EVENING = Override("NSE", DAY, OverrideKind.SPECIAL, time(18), time(19))
CLOSED = Override("NSE", DAY, OverrideKind.CLOSED)
UTC_1300 = Calendar().to_utc("NSE", DAY, time(13))
SOLD_EARLIER = Times(BUY_AT, Calendar().to_utc("NSE", DAY, time(12, 48)), UTC_1300)
CANCELED = Times(BUY_AT, SELL_AT, BUY_AT)
HELD = entry(OrderStatus.FILLED, 10)


@dataclass
class Desk:
    """The rows, the live state and the timers of one run, and a calendar an operator can change."""

    row: Run
    now: datetime = OPENS
    answer: str = "ok"
    calendar: Calendar = field(default_factory=Calendar)
    written: list[Times] = field(default_factory=list)
    told: list[Alert] = field(default_factory=list)
    timed: list[Times] = field(default_factory=list)

    def open_runs(self) -> Sequence[Run]:
        return [self.row]

    def reschedule(self, where: Any, times: Times | None = None, due: datetime | None = None) -> str:
        if times is None:
            self.row = where
        else:
            assert (where, due) == (self.row.id, self.now)
            self.written.append(times)
        return self.answer

    def alert(self, tenant: str, alert: Alert) -> None:
        assert tenant == self.row.strategy.tenant
        self.told.append(alert)

    def schedule(self, moved: Run, now: Moment) -> None:
        self.timed.append(Times.of(moved))

    def cancel(self, run_id: RunId) -> None:
        raise AssertionError(run_id)

    def look(self) -> int:
        """What a recoverer's process does, one that has just started."""
        parts: Any = self
        clock: Any = type("Clock", (), {"now": lambda _: Moment(self.now, self.now)})()
        return Rescheduler(parts, parts, parts, self.calendar, clock, lambda *_, **__: None).look()


#: The operator's word, the run, the times it is given and how many alerts tell of it here.
CHANGES: list[tuple[Override, Run, Times, int]] = [
    (SHORT, run(), SOLD_EARLIER, 1),
    (SHORT, run(HELD), SOLD_EARLIER, 1),
    (SHORT, run(spec=strategy(symbol="BSE:SBIN")), Times(BUY_AT, SELL_AT, CLOSES), 0),
    (CLOSED, run(), CANCELED, 0),
    (CLOSED, run(HELD), CANCELED, 0),
    (EVENING, run(), CANCELED, 0),
]


@pytest.mark.parametrize(("word", "of", "times", "alerts"), CHANGES)
def test_a_run_of_today_follows_its_session_once(word: Override, of: Run, times: Times, alerts: int) -> None:
    desk = Desk(of)
    assert desk.look() == 0
    desk.calendar.learn([word], [])
    changes = times != Times.of(of)
    assert desk.look() == changes
    assert desk.look() == 0
    assert desk.written == desk.timed == [times] * changes
    assert Times.of(desk.row) == times
    assert len(desk.told) == alerts


def test_a_word_taken_back_gives_the_times_back() -> None:
    desk = Desk(run(HELD))
    desk.calendar.learn([SHORT], [])
    assert desk.look() == 1
    desk.calendar.learn([], [])
    assert desk.look() == 1
    assert Times.of(desk.row) == Times(BUY_AT, SELL_AT, CLOSES)


@pytest.mark.parametrize("answer", ["gone", "unknown"])
def test_a_run_that_is_not_alive_is_left_as_it_is(answer: str) -> None:
    desk = Desk(run(), answer=answer)
    desk.calendar.learn([CLOSED], [])
    assert desk.look() == 0
    assert (Times.of(desk.row), desk.timed) == (Times(BUY_AT, SELL_AT, CLOSES), [])


def test_what_is_left_of_another_day_is_not_moved_by_that_days_session() -> None:
    desk = Desk(run(HELD), now=Calendar().to_utc("NSE", date(2026, 1, 6), time(10)))
    desk.calendar.learn([CLOSED], [])
    assert desk.look() == 0


def test_a_special_session_taken_back_in_a_year_nobody_vouches_for_leaves_the_times_as_they_are() -> None:
    day = date(2027, 1, 4)
    special = Calendar([Override("NSE", day, OverrideKind.SPECIAL, time(9, 15), time(15, 30))])
    session = special.session("NSE:SBIN", day)
    assert session is not None
    began = run(HELD, spec=strategy(trading_date=day))
    times = Times(special.to_utc("NSE", day, time(9, 30)), special.to_utc("NSE", day, time(14, 30)), session.closes)
    desk = Desk(times.put_into(replace(began, id=replace(began.id, trading_date=day))), now=times.buy_at)
    desk.calendar = special
    before = Times.of(desk.row)
    desk.calendar.learn([], [])
    assert desk.look() == 0
    assert (Times.of(desk.row), desk.written) == (before, [])
