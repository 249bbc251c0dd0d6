"""A recorded day on the tape: healthy rows by their stamps, every illness of a feed kept and harmless to the book."""

import gzip
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from broker_connector.paper.clock import MarketClock
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.orders import BookSettings
from broker_connector.paper.recorded import RecordedMarket, price_of
from broker_connector.paper.symbols import listings
from broker_connector.paper.tape import Tape
from broker_connector.ticker import INT32_MAX, INT32_MIN, decode_prices, pack_frame

DAY = date(2021, 4, 12)
HEALTHY = [f"2021-04-12 09:15:{second:02},100.{second:02},{second}" for second in range(10)]


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+05:30").timestamp())


def record(root: Path, **files: list[str]) -> RecordedMarket:
    directory = root / DAY.isoformat()
    directory.mkdir()
    for symbol, lines in files.items():
        with gzip.open(directory / f"{symbol}.csv.gz", "wt") as file:
            file.write("\n".join(["timestamp,ltp,volume", *lines, ""]))
    return RecordedMarket(directory)


def told(tape: Tape) -> list[tuple[int, int, bool]]:
    """(price, stamp, good) of every tick in sending order."""
    return [(tape.price[at], tape.stamp[at], bool(tape.good[at])) for at in range(len(tape))]


def test_rows_go_by_their_stamps_and_ties_as_in_the_file(tmp_path: Path) -> None:
    lines = ["2021-04-12 09:15:03,103,1", "2021-04-12 09:15:01,101,1", "2021-04-12 09:15:03,104,1"]
    tape = record(tmp_path, INFY=lines).tape(DAY)
    assert [price for price, _, _ in told(tape)] == [10100, 10300, 10400]


@pytest.mark.parametrize(
    ("sick", "price", "stamp"),
    [
        ("1970-01-01 05:30:00,110,0", 11000, 0),
        ("2021-04-09 15:29:59,110,0", 11000, epoch("2021-04-09 15:29:59")),
        (",110,0", 11000, 0),
        ("yesterday,110,0", 11000, 0),
        ("2021-04-12 09:15:01,nan,0", 0, epoch("2021-04-12 09:15:01")),
        ("2021-04-12 09:15:01,,0", 0, epoch("2021-04-12 09:15:01")),
        ("2021-04-12 09:15:01,1O0,0", 0, epoch("2021-04-12 09:15:01")),
        ("2021-04-12 09:15:01", 0, epoch("2021-04-12 09:15:01")),
    ],
)
def test_a_row_without_a_moment_of_its_own_follows_the_row_before_it(
    tmp_path: Path, sick: str, price: int, stamp: int
) -> None:
    lines = ["2021-04-12 09:15:05,105,1", sick, "2021-04-12 09:15:02,102,1", "2021-04-12 09:15:06,106,1"]
    tape = record(tmp_path, INFY=lines).tape(DAY)
    rows = told(tape)
    assert rows[2] == (price, stamp, False)
    assert [good for _, _, good in rows] == [True, True, False, True]
    assert tape.due[2] == tape.due[1] == epoch("2021-04-12 09:15:05")


@pytest.mark.parametrize(
    ("prices", "good"),
    [
        ((100, 90, 100.2), (True, False, True)),
        ((100, 110, 100.2), (True, False, True)),
        ((100, 96, 100), (True, True, True)),
        ((100, 90, 90), (True, True, True)),
        ((100, 90, 80), (True, True, True)),
        ((100, 90, 100, 90, 100), (True, False, True, False, True)),
        ((0.6, 0.5, 0.6), (True, True, True)),
        ((90, 100), (True, True)),
    ],
)
def test_a_lone_price_far_off_its_neighbours_was_traded_by_nobody(
    tmp_path: Path, prices: tuple[float, ...], good: tuple[bool, ...]
) -> None:
    lines = [f"2021-04-12 09:15:0{second},{price},1" for second, price in enumerate(prices)]
    assert tuple(each for *_, each in told(record(tmp_path, INFY=lines).tape(DAY))) == good


def test_a_sick_first_row_is_due_with_the_first_healthy_one_and_before_it(tmp_path: Path) -> None:
    tape = record(tmp_path, INFY=["1970-01-01 05:30:00,90,0", "2021-04-12 09:15:05,105,1"]).tape(DAY)
    assert told(tape)[0] == (9000, 0, False)
    assert list(tape.due) == [epoch("2021-04-12 09:15:05")] * 2


@pytest.mark.parametrize(
    ("text", "units"),
    [("-5", -500), ("0", 0), ("1e12", INT32_MAX), ("-1e12", INT32_MIN), ("inf", INT32_MAX), ("1e308", INT32_MAX)],
)
def test_numbers_no_price_can_be_go_out_clamped_by_their_stamp_and_are_not_believed(
    tmp_path: Path, text: str, units: int
) -> None:
    lines = ["2021-04-12 09:15:05,105,1", f"2021-04-12 09:15:01,{text},1"]
    assert told(record(tmp_path, INFY=lines).tape(DAY))[0] == (units, epoch("2021-04-12 09:15:01"), False)


def test_a_price_is_read_to_the_hundredth() -> None:
    assert [price_of(text).units for text in ("1034.35", "0.05", "70000.1", "1.10")] == [103435, 5, 7000010, 110]


def test_the_previous_close_is_the_median_of_the_first_prices_in_session(tmp_path: Path) -> None:
    before = ["2021-04-12 09:00:01,50,1"] * 150
    sick = ["2021-04-12 09:15:00,1000,1"]
    later = ["2021-04-12 14:00:00,200,1"] * 500
    healthy = [f"2021-04-12 09:16:{second:02},100,1" for second in range(60)] * 2
    market = record(tmp_path, INFY=[*before, *sick, *healthy, *later], TCS=["nonsense"])
    assert market.tape(DAY).closes == (10000, 0)


def exchange_at(market: RecordedMarket, start: str, real: datetime) -> Exchange:
    anchor = datetime.fromisoformat(f"{start}+05:30")
    return Exchange(market, BookSettings(), MarketClock(real, anchor, 10.0), first_id=1)


def test_rows_before_the_start_only_seed_the_price(tmp_path: Path) -> None:
    real = datetime(2026, 1, 1, tzinfo=UTC)
    exchange = exchange_at(record(tmp_path, INFY=HEALTHY), "2021-04-12 09:15:05", real)
    (listing,) = exchange.by_token.values()
    assert exchange.advance(real) == []
    assert exchange.last[listing.token] == Decimal("100.04")
    snapshot = exchange.snapshot(listing.token)
    assert snapshot is not None
    at = epoch("2021-04-12 09:15:04")
    assert decode_prices(pack_frame([snapshot])) == [(408065, 10004, at, 10004, at, 10000)]


def test_every_tick_due_is_sent_once_in_order_and_a_standing_market_sends_none(tmp_path: Path) -> None:
    real = datetime(2026, 1, 1, tzinfo=UTC)
    exchange = exchange_at(record(tmp_path, INFY=HEALTHY), "2021-04-12 09:15:00", real)
    assert exchange.advance(real - timedelta(hours=1)) == []
    sent = [tick for step in range(12) for tick in exchange.advance(real + timedelta(seconds=step / 10))]
    frame = pack_frame([tick.body for tick in sent])
    assert [price for _, price, *_ in decode_prices(frame)] == [10000 + second for second in range(10)]
    assert exchange.progress(real)["finished"] is True


def test_sick_ticks_are_sent_but_the_book_keeps_the_last_healthy_price(tmp_path: Path) -> None:
    real = datetime(2026, 1, 1, tzinfo=UTC)
    lines = [HEALTHY[0], "1970-01-01 05:30:00,90,0", "2021-04-12 09:15:01,-3,0", "2021-04-12 09:15:02,nan,0"]
    exchange = exchange_at(record(tmp_path, INFY=lines), "2021-04-12 09:15:00", real)
    (listing,) = exchange.by_token.values()
    assert len(exchange.advance(real + timedelta(seconds=1))) == 4
    assert exchange.last[listing.token] == 100


def test_unknown_symbols_have_tokens_that_stay_and_clash_with_none() -> None:
    names = [f"SYMBOL{number}" for number in range(500)] + ["INFY"]
    tokens = {listing.name: listing.token for listing in listings(names)}
    assert tokens == {listing.name: listing.token for listing in listings(reversed(names))}
    assert len(set(tokens.values())) == len(names)
    assert {token & 0xFF for token in tokens.values()} == {1}
    assert tokens["INFY"] == 408065
