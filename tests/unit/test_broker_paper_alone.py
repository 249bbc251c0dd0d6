"""What a paper broker that stands alone adds: an index, a session played at any hour, candles, and faults by seed."""

import gzip
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path

from broker_connector.kite_words import IST
from broker_connector.paper.arranged import INDEX_CLOSE, WithIndex, played_today
from broker_connector.paper.book import Book
from broker_connector.paper.candles import SESSION_MINUTES, Trade, fold, past
from broker_connector.paper.faults import DRAWN, FAULTS, Fault
from broker_connector.paper.orders import BookSettings, Ticket
from broker_connector.paper.recorded import RecordedMarket
from broker_connector.paper.symbols import INDEX_TOKEN
from broker_connector.paper.synthetic import SyntheticMarket

TODAY = date(2026, 11, 23)
OPENING = datetime(2026, 11, 23, 9, 15, tzinfo=IST).timestamp()


def test_an_index_is_the_mean_gain_of_its_stocks_once_a_second() -> None:
    stocks = SyntheticMarket(7, ["INFY", "TCS"], step=600)
    market = WithIndex(stocks)
    tape, plain = market.tape(TODAY), stocks.tape(TODAY)
    assert market.listed[-1].token == INDEX_TOKEN
    assert [price for price, symbol in zip(tape.price, tape.symbol, strict=True) if symbol < 2] == list(plain.price)
    assert list(tape.symbol[:6]) == [0, 1, 2, 0, 1, 2]
    gains = [price / close for price, close in zip(plain.price[-2:], plain.closes, strict=True)]
    assert tape.price[-1] == round(INDEX_CLOSE * sum(gains) / 2)
    assert list(tape.due) == sorted(tape.due)


def test_a_recorded_session_plays_around_the_clock_with_todays_stamps(tmp_path: Path) -> None:
    folder = tmp_path / "2021-04-12"
    folder.mkdir()
    rows = ["2021-04-12 09:15:08,100.00,10", "1970-01-01 05:30:00,90.00,0", "2021-04-12 15:29:59,101.00,20"]
    with gzip.open(folder / "INFY.csv.gz", "wt") as file:
        file.write("\n".join(["timestamp,ltp,volume", *rows]))
    tape = played_today(RecordedMarket(folder), with_index=False).tape(TODAY)
    midnight = datetime(2026, 11, 23, tzinfo=IST).timestamp()
    session = 6.25 * 3600
    assert [due - midnight for due in tape.due[:4]] == [8, 8, session - 1, session + 8]
    # What was sick in the recording is as sick in the play.
    assert (tape.stamp[0] - midnight, tape.stamp[1], tape.good[1]) == (8, 0, 0)
    assert tape.due[-1] < midnight + 86_400
    assert list(tape.due) == sorted(tape.due)


def test_candles_are_counted_from_the_opening_and_skip_what_did_not_trade() -> None:
    trades = [Trade(OPENING + at, price, 2) for at, price in ((0, 100), (200, 130), (299, 90), (300, 95), (900, 96))]
    found = list(fold(trades, 5))
    assert [(each.start - OPENING, each.open, each.high, each.low, each.close, each.volume) for each in found] == [
        (0, 100, 130, 90, 90, 6), (300, 95, 95, 95, 95, 2), (900, 96, 96, 96, 96, 2),
    ]  # fmt: skip
    (day,) = fold(trades, 24 * 60)
    assert datetime.fromtimestamp(day.start, IST) == datetime(2026, 11, 23, tzinfo=IST)
    before = next(fold([Trade(OPENING - 1, 100, 1)], 60))
    assert before.start == OPENING - 3600


def test_the_invented_past_has_weekdays_and_ends_where_today_began() -> None:
    trades = list(past("INFY", 7, 155_000, TODAY - timedelta(days=7), TODAY))
    days = {datetime.fromtimestamp(each.at, IST).date() for each in trades}
    assert sorted(day.weekday() for day in days) == [0, 1, 2, 3, 4]
    assert len(trades) == 5 * SESSION_MINUTES
    assert trades[-1].price == 155_000
    assert all(one.at < other.at for one, other in pairwise(trades))
    assert trades == list(past("INFY", 7, 155_000, TODAY - timedelta(days=7), TODAY))


def _book() -> tuple[Book, datetime]:
    ids = count(1)
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    return Book(BookSettings(), lambda: str(next(ids)), lambda _: Decimal(100), lambda _: None), now


def _ticket(**fields: object) -> Ticket:
    words: dict[str, object] = {"order_type": "LIMIT", "price": Decimal(90)} | fields
    return Ticket("NSE", "INFY", 408065, Decimal("0.05"), "BUY", 10, "MIS", **words)  # type: ignore[arg-type]


def test_an_order_lives_as_long_as_it_was_given() -> None:
    book, now = _book()
    order = book.place(_ticket(validity="TTL", validity_ttl=2), now)
    assert book.next_due(now) == now + timedelta(minutes=2)
    book.advance(now + timedelta(seconds=119))
    assert order.status == "OPEN"
    book.advance(now + timedelta(minutes=2))
    assert order.status == "CANCELLED"


def test_an_after_market_order_trades_when_its_session_opens() -> None:
    book, now = _book()
    order = book.place(_ticket(order_type="MARKET", price=Decimal(0), variety="amo"), now)
    book.on_price(408065, now)
    assert (order.status, order.fills) == ("AMO REQ RECEIVED", [])
    opening = datetime(2026, 11, 24, 9, 15, tzinfo=IST)
    assert book.next_due(now) == opening
    book.advance(opening)
    assert order.status == "COMPLETE"
    assert [state.status for state in order.history][:2] == ["AMO REQ RECEIVED", "PUT ORDER REQ RECEIVED"]


def test_drawn_faults_are_the_same_for_the_same_seed_and_as_many_as_asked() -> None:
    one, other = (Fault("any", probability=0.2, seed=7) for _ in range(2))
    met = [fault.draw.random() < fault.probability for fault in (one,) for _ in range(1000)]
    assert met == [other.draw.random() < other.probability for _ in range(1000)]
    assert 150 < sum(met) < 250
    assert [one.act() for _ in range(20)] == [other.act() for _ in range(20)]
    assert set(DRAWN) < set(FAULTS)
