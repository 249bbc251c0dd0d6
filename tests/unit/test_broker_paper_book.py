"""The paper broker's matching book: whatever is asked of it, its sums hold."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_connector.paper.book import Book
from broker_connector.paper.orders import LIVE_ENDS, BookOrder, BookSettings, Change, Ticket
from broker_connector.paper.portfolio import holdings_of, positions_json

TOKEN = 408065
START = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


@dataclass
class Desk:
    """A book and the price it trades at."""

    settings: BookSettings = field(default_factory=BookSettings)
    price: Decimal | None = Decimal("100.00")
    now: datetime = START
    told: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = count(1)
        self.book = Book(self.settings, lambda: str(next(ids)), lambda _: self.price, self._changed)

    def _changed(self, order: BookOrder) -> None:
        self.told.append((order.order_id, order.status))

    def place(self, side: str = "BUY", quantity: int = 10, limit: str = "", **fields: str) -> BookOrder:
        order_type = "LIMIT" if limit else "MARKET"
        words = {"order_type": order_type, "validity": "DAY"} | fields
        ticket = Ticket(
            "NSE", "INFY", TOKEN, Decimal("0.05"), side, quantity, "MIS", words["order_type"],
            price=Decimal(limit or 0), trigger_price=Decimal(words.get("trigger", "0")), validity=words["validity"],
        )  # fmt: skip
        return self.book.place(ticket, self.now)

    def tick(self, price: str, seconds: float = 1.0) -> None:
        self.price = Decimal(price)
        self.now += timedelta(seconds=seconds)
        self.book.on_price(TOKEN, self.now)
        self.book.advance(self.now)


def test_a_market_order_fills_at_the_last_price_at_once() -> None:
    desk = Desk()
    order = desk.place()
    assert (order.status, order.filled_quantity, order.average_price) == ("COMPLETE", 10, Decimal("100.00"))
    assert [state.status for state in order.history] == [
        "PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING", "OPEN", "COMPLETE",
    ]  # fmt: skip
    assert desk.told == [("1", "OPEN"), ("1", "COMPLETE")]


@pytest.mark.parametrize(("side", "price"), [("BUY", "100.10"), ("SELL", "99.90")])
def test_the_spread_costs_both_sides(side: str, price: str) -> None:
    assert Desk(BookSettings(spread_ticks=2)).place(side).average_price == Decimal(price)


def test_a_fill_waits_for_its_delay_and_takes_the_price_of_that_moment() -> None:
    desk = Desk(BookSettings(fill_delay=2.0))
    order = desk.place()
    assert order.status == "OPEN"
    assert desk.book.next_due(desk.now) == START + timedelta(seconds=2)
    desk.tick("101.00", seconds=1.0)
    assert order.status == "OPEN"
    desk.tick("102.00", seconds=1.0)
    assert (order.status, order.average_price) == ("COMPLETE", Decimal("102.00"))


def test_an_order_before_the_first_price_waits_for_it() -> None:
    desk = Desk(price=None)
    order = desk.place()
    assert order.status == "OPEN"
    desk.tick("99.00")
    assert order.average_price == Decimal("99.00")


def test_a_market_order_may_be_left_resting_as_a_limit_order() -> None:
    desk = Desk(BookSettings(rest_probability=1.0))
    order = desk.place()
    assert (order.status, order.order_type, order.price) == ("OPEN", "LIMIT", Decimal("99.00"))
    assert desk.book.modify(order.order_id, Change(price=Decimal("100.00")), desk.now) is order
    assert order.status == "COMPLETE"


@pytest.mark.parametrize(
    ("side", "trigger", "quiet", "loud"), [("SELL", "95.00", "96.00", "94.90"), ("BUY", "105.00", "104.00", "105.50")]
)
def test_a_stop_order_waits_for_its_trigger(side: str, trigger: str, quiet: str, loud: str) -> None:
    desk = Desk()
    order = desk.place(side, order_type="SL-M", trigger=trigger)
    desk.tick(quiet)
    assert order.status == "TRIGGER PENDING"
    desk.tick(loud)
    assert (order.status, order.average_price) == ("COMPLETE", Decimal(loud))


def test_an_immediate_order_does_not_rest() -> None:
    assert Desk().place(limit="90.00", validity="IOC").status == "CANCELLED"


def test_an_ended_order_cannot_be_canceled_or_modified() -> None:
    desk = Desk()
    order = desk.place()
    assert desk.book.cancel(order.order_id, desk.now) is None
    assert desk.book.modify(order.order_id, Change(price=Decimal(90)), desk.now) is None
    assert desk.book.cancel("404", desk.now) is None


@pytest.mark.parametrize(
    ("ist", "is_open"), [("09:14:59", False), ("09:15:00", True), ("15:29:59", True), ("15:30:00", False)]
)
def test_the_session_is_the_exchanges(ist: str, is_open: bool) -> None:
    now = datetime.fromisoformat(f"2026-11-23T{ist}+05:30").astimezone(UTC)
    assert BookSettings().is_open(now) is is_open
    assert BookSettings(always_open=True).is_open(now)


places = st.tuples(
    st.just("place"), st.sampled_from(["BUY", "SELL"]), st.integers(1, 50), st.sampled_from(["", "99.00", "101.00"])
)
ticks = st.tuples(st.just("tick"), st.integers(1900, 2100), st.floats(0, 3), st.none())
cancels = st.tuples(st.just("cancel"), st.integers(0, 9), st.none(), st.none())


@given(
    st.lists(st.one_of(places, ticks, cancels), max_size=30),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 5),
)
def test_whatever_happens_the_sums_hold(
    steps: list[tuple[str, object, object, object]], delay: float, chance: float, seed: int
) -> None:
    desk = Desk(BookSettings(fill_delay=delay, partial_probability=chance, rest_probability=chance / 2, seed=seed))
    ended: dict[str, tuple[str, int]] = {}
    for step in steps:
        _take(desk, step)
        for order in desk.book.orders.values():
            _check(order)
            state = (order.status, order.filled_quantity)
            if order.status in LIVE_ENDS:
                assert ended.setdefault(order.order_id, state) == state
    _check_positions(desk)


def _take(desk: Desk, step: tuple[str, object, object, object]) -> None:
    match step:
        case ("place", str(side), int(quantity), str(limit)):
            desk.place(side, quantity, limit)
        case ("tick", int(units), float(seconds), _):
            desk.tick(str(Decimal(units) * 5 / 100), seconds)
        case ("cancel", int(which), _, _):
            ids = list(desk.book.orders)
            desk.book.cancel(ids[which % len(ids)] if ids else "0", desk.now)


def _check(order: BookOrder) -> None:
    assert order.filled_quantity <= order.quantity
    assert (order.status == "COMPLETE") == (order.filled_quantity == order.quantity)
    assert all(fill.quantity > 0 for fill in order.fills)
    if order.order_type == "LIMIT":
        for fill in order.fills:
            assert fill.price <= order.price if order.is_buy else fill.price >= order.price


def _check_positions(desk: Desk) -> None:
    orders = desk.book.orders.values()
    signed = sum(order.filled_quantity if order.is_buy else -order.filled_quantity for order in orders)
    net = positions_json(holdings_of(orders), {TOKEN: Decimal(100)})["net"]
    assert sum(row["quantity"] for row in net) == signed
