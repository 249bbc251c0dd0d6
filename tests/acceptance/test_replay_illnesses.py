"""The feed's illnesses in a recorded day: nobody is sold by one, and everybody by the true breach that follows."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.replays import (
    Ending,
    assert_endings,
    assert_history_is_the_brokers,
    assert_one_buy_and_one_sell,
    moment,
    replay,
    row,
    seconds,
    strategy,
    write_day,
    write_strategies,
)

FIRST, BUY, SELL, LAST = "09:30:00", "09:35:00", "09:46:00", "09:50:00"
PRICE, STOP, BREACH = 1000.0, 970.0, 965.0
#: When illnesses strike, and the true breach: one tick.
SICK = seconds("09:36:00", "09:42:00")[::30]
BREACHED_AT = moment("09:44:00")
SPEED = 60.0

Rows = list[tuple[datetime, str]]


def healthy(_: Rows) -> None:
    """Nothing is wrong."""


def insert(rows: Rows, make: Callable[[datetime, int], list[str]]) -> None:
    """Put what `make` makes of each sick moment right behind its healthy row."""
    for n, at in enumerate(SICK):
        place = next(index for index, (stamp, _) in enumerate(rows) if stamp == at) + 1
        rows[place:place] = [(at, text) for text in make(at, n)]


def epoch_stamps(rows: Rows) -> None:
    """1970-01-01 05:30:00, a circuit-limit price 10 % away, volume 0."""
    insert(rows, lambda at, n: [f"1970-01-01 05:30:00,{PRICE * (0.9 if n % 2 else 1.1):.2f},0"])


def spikes(rows: Rows) -> None:
    """8 to 15 % down for one row, which takes the place of a healthy one."""
    for n, at in enumerate(SICK):
        place = next(index for index, (stamp, _) in enumerate(rows) if stamp == at)
        rows[place] = (at, row(at, PRICE * (0.92 - 0.005 * n)))


def out_of_order(rows: Rows) -> None:
    """Rows that come some seconds after their stamps."""
    for at in SICK:
        place = next(index for index, (stamp, _) in enumerate(rows) if stamp == at)
        rows.insert(place + 4, rows.pop(place))


def repeated_stamps(rows: Rows) -> None:
    """The same stamp again and again, prices moving."""
    insert(rows, lambda at, n: [row(at, PRICE + 0.05 * step) for step in range(5)])


def other_dates(rows: Rows) -> None:
    """Rows of the day before and the day after, below the stop."""
    insert(rows, lambda at, n: [row(at + timedelta(days=-3 if n % 2 else 1), BREACH)])


def no_stamps(rows: Rows) -> None:
    """Rows without a stamp, or with one nobody can read, below the stop."""
    insert(
        rows, lambda at, n: [f",{BREACH:.2f},100", f"yesterday,{BREACH:.2f},100", f"2021-04-12 25:61:00,{BREACH:.2f},1"]
    )


def broken_numbers(rows: Rows) -> None:
    """Prices that are no numbers, or no prices."""
    words = ("abc", "", "nan", "-5", "0", "1e12", "inf", "-inf", "0x3E8", "9,65")
    insert(rows, lambda at, n: [f"{at:%Y-%m-%d %H:%M:%S},{words[n % len(words)]},100"])


def truncated_lines(rows: Rows) -> None:
    """Lines that end too soon; some leave a price that is a tenth of the true one."""
    whole = 19
    insert(rows, lambda at, n: [row(at, PRICE)[: (4, 7, 13, whole - 1, whole, whole + 1, whole + 3, whole + 4)[n % 8]]])


def gaps(rows: Rows) -> None:
    """Minutes without a tick, twice; one longer than a gap the listener bridges by the last price."""
    silent = {*seconds("09:35:30", "09:37:00"), *seconds("09:37:30", "09:43:00")}
    rows[:] = [each for each in rows if each[0] not in silent]


def outside_the_session(rows: Rows) -> None:
    """Ticks after the close, and before the open, below the stop."""
    rows += [(at, row(at, BREACH)) for at in seconds("15:31:00", "15:40:00")]
    rows[:0] = [(at, row(at, BREACH)) for at in seconds("09:00:00", "09:14:59")]


ILLNESSES: dict[str, Callable[[Rows], None]] = {
    "AXISBANK": epoch_stamps,
    "BHARTIARTL": spikes,
    "HDFC": out_of_order,
    "ICICIBANK": repeated_stamps,
    "INFY": other_dates,
    "ITC": no_stamps,
    "LT": broken_numbers,
    "NTPC": truncated_lines,
    "SBIN": gaps,
    "TCS": outside_the_session,
    "WIPRO": healthy,
}


def base(breached: bool) -> Rows:
    """A healthy symbol, with the true breach or without."""
    prices = {at: PRICE + 0.05 * (n % 3) for n, at in enumerate(seconds(FIRST, LAST))}
    if breached:
        prices[BREACHED_AT] = BREACH
    return [(at, row(at, price)) for at, price in prices.items()]


def sick(name: str, *, breached: bool) -> list[str]:
    rows = base(breached)
    ILLNESSES[name](rows)
    return [text for _, text in rows]


@dataclass(frozen=True)
class SickDay:
    """Files, strategies and how they end."""

    ticks: Path
    strategies: Path
    endings: dict[str, Ending]


@pytest.fixture
def sick_day(tmp_path: Path) -> SickDay:
    """Each illness on a symbol that breaches later, and on one that never does; and a fall that is no illness."""
    files = {name: sick(name, breached=True) for name in ILLNESSES}
    files |= {f"{name}X": sick(name, breached=False) for name in ILLNESSES}
    fall = {at: PRICE if at < BREACHED_AT else PRICE * 0.93 for at in seconds(FIRST, LAST)}
    files["FALLS"] = [row(at, price) for at, price in fall.items()]
    endings = {name: Ending("exited_by_sl", BREACHED_AT) for name in (*ILLNESSES, "FALLS")}
    endings |= {f"{name}X": Ending("sold", moment(SELL)) for name in ILLNESSES}
    strategies = [strategy(name, name, f"{STOP:.2f}", BUY, SELL) for name in files]
    return SickDay(write_day(tmp_path, files), write_strategies(tmp_path, strategies), endings)


DANGEROUS = ("AXISBANK", "BHARTIARTL", "INFY", "ITC", "LT", "NTPC", "TCS")


@pytest.mark.parametrize("name", DANGEROUS)
def test_an_engine_that_believed_the_illness_would_sell(name: str) -> None:
    """The fixtures are what they say: below the stop while nothing was breached."""
    prices = []
    for line in sick(name, breached=False):
        try:
            prices.append(float(line.split(",")[1]))
        except (ValueError, IndexError):
            continue
    assert min(prices) <= STOP < PRICE


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nobody_is_sold_by_an_illness_and_everybody_by_the_true_breach(
    sick_day: SickDay, scratch: Path, tmp_path: Path
) -> None:
    report = replay(sick_day.ticks, sick_day.strategies, scratch, tmp_path / "report.json", speed=SPEED, market=1500)
    assert_endings(report, sick_day.endings)
    assert_one_buy_and_one_sell(report)
    assert_history_is_the_brokers(report)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_prices_from_before_the_open_sell_nothing_that_is_bought_at_it(scratch: Path, tmp_path: Path) -> None:
    """The replay begins a minute before the first BUY: the pre-open ticks are live, the last one below the stop."""
    before = [row(at, BREACH) for at in seconds("09:14:00", "09:14:59")]
    # Nothing is traded at first: a stop that looked at the last price would see the pre-open's.
    after = [row(at, PRICE) for at in seconds("09:15:30", "09:22:00")]
    ticks = write_day(tmp_path, {"INFY": [*before, *after]})
    strategies = write_strategies(tmp_path, [strategy("opener", "INFY", f"{STOP:.2f}", "09:15:00", "09:20:00")])
    report = replay(ticks, strategies, scratch, tmp_path / "report.json", speed=SPEED, market=600)
    assert_endings(report, {"opener": Ending("sold", moment("09:20:00"))})
    assert_one_buy_and_one_sell(report)
