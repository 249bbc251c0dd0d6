"""What must hold of arming for every recurrence and every stretch of days: each of its trading days once, no other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.calendar import Calendar
from engine.domain.broker import Instrument
from engine.domain.moment import Moment
from engine.domain.recurrence import Recurrence, Weekday
from engine.domain.run import Run, RunId
from engine.domain.strategy import Strategy
from engine.ports import AccountState
from engine.recovery import Recoverer
from tests.builders import strategy

DAYS = st.dates(date(2026, 1, 1), date(2026, 11, 30))
RECURRENCES = st.builds(Recurrence, st.frozensets(st.sampled_from(Weekday), min_size=1), st.none() | DAYS)
#: A moment of a day at the exchange, and whether the recoverer was started anew before it.
LOOKS = st.lists(st.tuples(st.times(time(0), time(9)), st.booleans()), min_size=1, max_size=4)


@dataclass
class Rows:
    """The `Durable` port over one strategy, whose runs end at once."""

    strategy: Strategy
    runs: list[RunId] = field(default_factory=list)

    def accounts(self) -> Sequence[AccountState]:
        return [AccountState(1, "alpha", "paper", "paper", "http://paper", "", "", "")]

    def unarmed(self, day: date) -> Sequence[Strategy]:
        has_run = any(run.trading_date == day or self.strategy.repeat is None for run in self.runs)
        return [self.strategy] if self.strategy.trades_on(day) and not has_run else []

    def create_runs(self, runs: Sequence[Run]) -> None:
        self.runs += [run.id for run in runs]

    def open_runs(self, **_: object) -> Sequence[Run]:
        return []


def _recoverer(rows: Rows, clock: Any) -> Recoverer:
    nothing: Any = SimpleNamespace(write_account=lambda _account: None)
    durable: Any = rows
    listed = SimpleNamespace(instruments=lambda _exchange: [Instrument(rows.strategy.symbol, 1, Decimal("0.05"), 1)])
    brokers: Any = SimpleNamespace(of=lambda _account, _version: listed)
    parts = (durable, nothing, nothing, brokers, nothing, Calendar(), clock, "EE", timedelta(0))
    return Recoverer(*parts, lambda *_, **__: None)


# Without a deadline: the first example reads the holidays.
@settings(deadline=None)
@given(RECURRENCES | st.none(), st.none() | DAYS, DAYS, st.integers(1, 25), st.data())
def test_a_strategy_is_armed_once_on_each_trading_day_it_names_and_on_no_other(
    repeat: Recurrence | None, first: date | None, since: date, length: int, data: st.DataObject
) -> None:
    spec = strategy(repeat=repeat, trading_date=first)
    rows, now = Rows(spec), datetime(2026, 1, 1, tzinfo=UTC)
    clock = SimpleNamespace(now=lambda: Moment(now, now))
    recoverer = _recoverer(rows, clock)
    days = [since + timedelta(days=n) for n in range(length)]
    for day in days:
        for wall, starts_anew in data.draw(LOOKS):
            now = Calendar().to_utc("NSE", day, wall)
            recoverer = _recoverer(rows, clock) if starts_anew else recoverer
            recoverer.arm()
    open_days = [day for day in days if Calendar().session("NSE", day) is not None]
    if repeat is None:
        # Its own date is closed: a run that can buy nothing tells of it.
        expected = open_days[:1] if first is None else [day for day in days if day == first]
    else:
        named = [day for day in open_days if [*Weekday][day.weekday()] in repeat.days]
        expected = [day for day in named if (first or day) <= day <= (repeat.until or day)]
    assert [run.trading_date for run in rows.runs] == expected
    assert len({str(run) for run in rows.runs}) == len(rows.runs)
