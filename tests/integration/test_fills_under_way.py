"""What a reading of an account contains of the fills that are learned of, or told late, as it is made."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.account_reading import read_account
from engine.domain.account_positions import AccountReading, SeenOrder
from engine.domain.broker import NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Leg, Order, OrderStatus, Product, Side
from engine.domain.run import NetSeen
from engine.reconcile import Reconciler
from tests.builders import DEPLOYMENT, QUANTITY, STOP, SYMBOL, entry, exit_, run, strategy
from tests.livestate import ACCOUNT, LiveState, run_id
from tests.world import World

BOUGHT = entry(OrderStatus.FILLED, QUANTITY)
RESTING, SOLD = exit_(OrderStatus.ACCEPTED), exit_(OrderStatus.FILLED, QUANTITY)
CANCELED = exit_(OrderStatus.CANCELED, 6)


@dataclass(frozen=True)
class Sale:
    """Two runs hold ten each; the exit of one is `before` as the broker is asked, and `after` as it has answered."""

    before: Order | None
    after: Order
    #: Units that positions and book say, the book before the positions and after them; None where it lacks the order.
    units: int
    book: tuple[int, int] | None
    is_over: bool
    #: What may be sold after that, and what is missing.
    free: int
    missing: int
    #: Units it may have filled by the book.
    at_most: int | None = None


SALES = {
    "a push told it before, and the book is behind": Sale(SOLD, SOLD, 10, (0, 0), False, 10, 0),
    "it was canceled, and only its trades tell what it sold": Sale(CANCELED, CANCELED, 14, (0, 0), True, 14, 0),
    "it fills in small parts": Sale(RESTING, RESTING, 17, (2, 4), False, 9, 0),
    "it fills while positions are read": Sale(RESTING, SOLD, 20, (0, 10), True, 10, 0),
    "it fills while positions are read, which contain it": Sale(RESTING, SOLD, 10, (0, 10), True, 0, 0),
    "it is granted and fills after the book was read": Sale(None, SOLD, 20, None, False, 10, 0),
    "it is granted and fills after the book was read, and positions contain it": Sale(
        None, SOLD, 10, None, False, 0, 0
    ),
    "it is over, and its fills are told later": Sale(RESTING, RESTING, 10, (0, 0), True, 0, 0, QUANTITY),
    "it is canceled, its fills are told later, and its owner sold besides": Sale(
        CANCELED, CANCELED, 9, (0, 0), True, 9, 5, 10
    ),
    "the book of its day is gone": Sale(SOLD, SOLD, 10, None, False, 10, 0),
    "its owner sold five besides": Sale(SOLD, SOLD, 5, (10, 10), True, 5, 5),
    "its owner sold five besides, and the book is behind": Sale(SOLD, SOLD, 5, (0, 0), False, 5, 5),
}


@pytest.mark.parametrize("sale", SALES.values(), ids=SALES.keys())
def test_what_a_reading_contains_of_a_sale(live: LiveState, sale: Sale) -> None:
    live.arm(run(BOUGHT, *([sale.before] if sale.before else [])), buying=False)
    live.arm(run(BOUGHT, spec=strategy(id=8)), buying=False)
    begun = live.store.pool_mark(1)
    if sale.after != sale.before:
        held = live.claim()
        live.commit(held, replace(held.run, orders=(BOUGHT, sale.after)))
    id_ = sale.after.client_order_id
    orders = [] if sale.book is None else [SeenOrder(id_, *sale.book, sale.is_over, sale.at_most)]
    position = NetPosition(SYMBOL, Product.INTRADAY, sale.units)
    now = datetime.now(UTC)
    live.store.cover(1, AccountReading(now, [position], orders, begun))
    assert live.run_seen() == NetSeen(sale.free, now, sale.missing)


#: Of an entry of ten that is all there is: units filled as the broker is asked, and as it has answered; units of the
#: positions, book before and after, whether it is over there; what may be sold, and what is missing.
PURCHASES = {
    "the book is behind a push, as positions are": (10, 10, 0, (0, 0), False, 10, 0),
    "the book is behind a push that ended it, as positions are": (10, 10, 4, (4, 4), True, 10, 0),
    "it fills while positions are read": (0, 10, 0, (0, 10), True, 0, 0),
    "it fills while positions are read, which contain it": (0, 10, 10, (0, 10), True, 10, 0),
}


@pytest.mark.parametrize(
    ("before", "after", "units", "book", "is_over", "free", "missing"), PURCHASES.values(), ids=PURCHASES.keys()
)
def test_what_a_reading_contains_of_a_purchase(
    live: LiveState,
    before: int,
    after: int,
    units: int,
    book: tuple[int, int],
    is_over: bool,
    free: int,
    missing: int,
) -> None:
    live.arm(run(BOUGHT if before else entry(OrderStatus.ACCEPTED)), buying=False)
    begun = live.store.pool_mark(1)
    if after != before:
        held = live.claim()
        live.commit(held, replace(held.run, orders=(BOUGHT,)))
    now = datetime.now(UTC)
    seen = SeenOrder(BOUGHT.client_order_id, *book, is_over)
    live.store.cover(1, AccountReading(now, [NetPosition(SYMBOL, Product.INTRADAY, units)], [seen], begun))
    assert live.run_seen() == NetSeen(free, now, missing)


@pytest.mark.parametrize(("units", "free", "missing"), [(10, 10, 0), (0, 0, 10)])
def test_a_purchase_whose_book_stays_behind_is_in_the_positions(
    live: LiveState, units: int, free: int, missing: int
) -> None:
    now = datetime.now(UTC)
    live.arm(run(BOUGHT), buying=False)
    seen = SeenOrder(BOUGHT.client_order_id, 4, 4, is_over=True)
    for ago, orders in ((16, [seen]), (8, None), (0, [seen])):
        at = now - timedelta(seconds=ago)
        live.store.cover(1, AccountReading(at, [NetPosition(SYMBOL, Product.INTRADAY, units)], orders))
    assert live.run_seen() == NetSeen(free, now, missing)


def test_positions_alone_say_nothing_of_what_filled_while_they_were_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read before the sale, they show twenty: the ten that are left, and the ten that are sold."""
    world.buy()
    world.buy(run(spec=strategy(id=8)))
    world.cover()
    monkeypatch.setattr(World, "cover", lambda _self: None)
    world.clock.advance(1)
    world.price(STOP)
    world.serve(EventType.STOPLOSS, "sl-7", run_id(7))
    held = world.broker.held()

    def fills_meanwhile() -> list[NetPosition]:
        world.push(world.broker.fill("B3"))
        return held

    world.broker.positions = fills_meanwhile  # type: ignore[method-assign]
    Reconciler(world.live.store, world.stream, world.clock, world.log).cover(ACCOUNT, world.broker)
    seen = world.live.run_seen(8)
    assert seen is not None
    assert (seen.quantity, seen.missing) == (QUANTITY, 0)


def test_an_exit_that_fills_share_by_share_is_not_taken_for_a_sale_by_somebody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy()
    world.breach(STOP)
    world.serve(EventType.STOPLOSS)
    filled = 0

    def one_more() -> None:
        nonlocal filled
        filled += 1
        world.broker.fill("B2", min(filled, QUANTITY - 1))

    def cover() -> None:
        begun = world.live.store.pool_mark(1)
        reading = read_account(world.broker, DEPLOYMENT, world.clock, begun)[1]
        assert isinstance(reading, AccountReading)
        world.live.store.cover(1, reading)

    monkeypatch.setattr(world, "cover", cover)
    world.broker.on_read = one_more
    for _ in range(3):
        world.pass_time(2)
    assert (world.alerts(), world.broker.canceled) == ([], [])


def test_positions_that_have_caught_up_prove_nothing_of_others_while_an_entry_rests(live: LiveState) -> None:
    """They lagged behind the purchase of the first run; another's entry rests as they show it, and as that is sold."""
    began = datetime.now(UTC) - timedelta(minutes=1)
    live.arm(run(BOUGHT), buying=False)

    def cover(after: float, units: int) -> None:
        orders = [
            SeenOrder(each.client_order_id, each.filled_quantity, each.filled_quantity, not each.is_live)
            for each in live.run().orders
        ]
        position = NetPosition(SYMBOL, Product.INTRADAY, units)
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], orders))

    for after in (0, 2):
        cover(after, 0)
    live.arm(run(entry(OrderStatus.ACCEPTED, attempt=2), spec=strategy(id=8)), buying=False)
    cover(4, QUANTITY)
    held = live.claim()
    live.commit(held, replace(held.run, orders=(BOUGHT, exit_(OrderStatus.FILLED, 5, quantity=5))))
    cover(6, 5)
    seen = live.run_seen()
    assert seen is not None
    assert (seen.quantity, seen.missing) == (5, 0)


@pytest.mark.parametrize("is_first_kept_last", [False, True])
def test_of_two_readings_that_which_began_after_the_sale_counts_whatever_their_clocks(
    live: LiveState, is_first_kept_last: bool
) -> None:
    live.arm(run(BOUGHT, RESTING), buying=False)
    live.arm(run(BOUGHT, spec=strategy(id=8)), buying=False)
    now = datetime.now(UTC)
    by_a_clock_ahead = AccountReading(
        now + timedelta(seconds=1), [NetPosition(SYMBOL, Product.INTRADAY, 20)], [], live.store.pool_mark(1)
    )
    held = live.claim()
    live.commit(held, replace(held.run, orders=(BOUGHT, SOLD)))
    seen = SeenOrder(SOLD.client_order_id, QUANTITY, QUANTITY, is_over=True)
    younger = AccountReading(now, [NetPosition(SYMBOL, Product.INTRADAY, 10)], [seen], live.store.pool_mark(1))
    for reading in (younger, by_a_clock_ahead) if is_first_kept_last else (by_a_clock_ahead, younger):
        live.store.cover(1, reading)
    assert live.run_seen() == NetSeen(QUANTITY, now)


def test_the_side_of_a_sale_is_what_the_account_was_told(world: World) -> None:
    """The same on the whole way: two runs, the first one's exit told by a push that the book is behind of."""
    world.buy()
    world.buy(run(spec=strategy(id=8)))
    world.clock.advance(60)
    world.price(STOP)
    world.serve(EventType.STOPLOSS, "sl-7", run_id(7))
    behind = dict(world.broker.book)
    world.push(world.broker.fill("B3"))
    held = world.broker.held()
    world.broker.held = lambda: held  # type: ignore[method-assign]
    world.broker.book["B3"] = behind["B3"]
    world.pass_time(4)
    assert world.serve(EventType.STOPLOSS, "sl-8", run_id(8)) in ("submitted: accepted", "ignored: exit_in_flight")
    assert (world.alerts(), [side for side, _ in world.sides()].count(Side.SELL)) == ([], 2)


def test_a_reading_that_began_before_a_loss_says_nothing_of_the_pool_after_it(live: LiveState) -> None:
    live.arm(run(BOUGHT), buying=False)
    begun = live.store.pool_mark(1).replace(live.epoch.current(), "4:the-server-before")
    live.store.cover(1, AccountReading(datetime.now(UTC), [], [], begun))
    assert live.run_seen() is None


def test_an_order_that_its_run_has_not_settled_proves_nothing_of_others_though_its_book_calls_it_over(
    live: LiveState,
) -> None:
    """Its status is told before its fills."""
    began = datetime.now(UTC) - timedelta(minutes=1)
    live.arm(run(BOUGHT, RESTING), buying=False)
    live.arm(run(entry(OrderStatus.FILLED, QUANTITY, attempt=2), spec=strategy(id=8)), buying=False)
    position = NetPosition(SYMBOL, Product.INTRADAY, QUANTITY)
    behind = SeenOrder(RESTING.client_order_id, 0, 0, True, QUANTITY)
    for after, orders in ((0, [behind]), (1, None), (3, [behind])):
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], orders))
    held = live.claim()
    live.commit(held, replace(held.run, orders=(BOUGHT, SOLD)))
    told = SeenOrder(SOLD.client_order_id, QUANTITY, QUANTITY, True, QUANTITY)
    live.store.cover(1, AccountReading(began + timedelta(seconds=5), [position], [told]))
    seen = live.run_seen(8)
    assert seen is not None
    assert (seen.quantity, seen.missing) == (QUANTITY, 0)


NOT_TAKEN = entry(OrderStatus.REJECTED, attempt=9)
OF_YESTERDAY = exit_(OrderStatus.CANCELED, attempt=9, settled=True)


@pytest.mark.parametrize("old", [NOT_TAKEN, OF_YESTERDAY])
def test_an_order_that_no_book_of_today_shows_hides_nothing_of_what_others_sold(live: LiveState, old: Order) -> None:
    """It is of another day, or its broker never took it: it fills no more."""
    began = datetime.now(UTC) - timedelta(minutes=1)
    other = entry(OrderStatus.FILLED, QUANTITY, attempt=2)
    live.arm(run(BOUGHT, old), buying=False)
    live.arm(run(other, spec=strategy(id=8)), buying=False)
    # Ten were sold by hand; then our exit sells the other ten, and the positions lag behind that.
    position = NetPosition(SYMBOL, Product.INTRADAY, QUANTITY)
    known = [SeenOrder(each.client_order_id, QUANTITY, QUANTITY, True) for each in (BOUGHT, other)]
    for after in (0, 2):
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], known))
    held = live.claim()
    live.commit(held, replace(held.run, orders=(BOUGHT, old, SOLD)))
    told = [*known, SeenOrder(SOLD.client_order_id, QUANTITY, QUANTITY, True)]
    live.store.cover(1, AccountReading(began + timedelta(seconds=4), [position], told))
    seen = live.run_seen(8)
    assert seen is not None
    assert seen.quantity == 0


def test_what_a_resting_exit_may_have_sold_is_not_free_for_another_run_by_positions_alone(world: World) -> None:
    """Ten of twenty are left: by the exit that rests, or by hand, and then that exit wants the ten that are left."""
    world.buy()
    world.buy(run(spec=strategy(id=8)))
    world.cover()
    world.price(STOP)
    world.serve(EventType.STOPLOSS, "sl-7", run_id(7))
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.clock.advance(2)
    world.live.store.cover(
        1, AccountReading(world.clock.real, world.broker.held(), begun=world.live.store.pool_mark(1))
    )
    seen = world.live.run_seen(8)
    assert seen is not None
    assert (seen.quantity, seen.missing) == (0, 0)


#: Readings of an account whose two runs hold ten each, one of them with an exit that rests: seconds, units of the
#: positions, and units that the book says the exit sold by then, which its run learns of as it is told; None where only
#: positions were read. And what the other run may sell.
SOLD_BESIDE_AN_EXIT: dict[str, tuple[list[tuple[float, int, int | None]], int]] = {
    "its owner sold ten as it rested, and positions lag behind it": (
        [(0, 20, 0), (2, 10, 0), (8, 10, 0), (10, 10, 10)], 0,
    ),
    "the same, and only positions are read once it has filled": (
        [(0, 20, 0), (2, 10, 0), (4, 10, None), (8, 10, 0), (10, 10, 10), (12, 10, None)], 0,
    ),
    "the same, and it fills in two parts": ([(0, 20, 0), (2, 10, 0), (8, 10, 0), (10, 10, 4), (12, 6, 10)], 0),
    "the same, and what lags has come": ([(0, 20, 0), (2, 10, 0), (8, 10, 0), (10, 10, 10), (12, 0, 10)], 0),
    "only four are proven": ([(0, 20, 0), (2, 16, 0), (8, 10, 0), (10, 10, 10)], 6),
    "the book is behind for seconds": ([(0, 20, 0), (2, 10, 0), (5, 10, 0), (7, 10, 10)], 10),
    "what seemed to lack was there again": ([(0, 20, 0), (2, 10, 0), (5, 20, 0), (8, 10, 0), (10, 10, 10)], 10),
    "no positions lag that long": ([(0, 20, 0), (2, 10, 0), (8, 10, 0), (10, 10, 10), (26, 10, 10)], 10),
}  # fmt: skip


@pytest.mark.parametrize(("readings", "free"), SOLD_BESIDE_AN_EXIT.values(), ids=SOLD_BESIDE_AN_EXIT.keys())
def test_what_others_sold_beside_an_exit_that_rests_is_not_there_for_another_run(
    live: LiveState, readings: list[tuple[float, int, int | None]], free: int
) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    other = entry(OrderStatus.FILLED, QUANTITY, attempt=2)
    live.arm(run(BOUGHT, RESTING), buying=False)
    live.arm(run(other, spec=strategy(id=8)), buying=False)
    bought = [SeenOrder(each.client_order_id, QUANTITY, QUANTITY, True) for each in (BOUGHT, other)]
    for after, units, sold in readings:
        if sold and live.run().filled(Leg.EXIT) != sold:
            held = live.claim()
            status = OrderStatus.FILLED if sold == QUANTITY else OrderStatus.PARTIALLY_FILLED
            live.commit(held, replace(held.run, orders=(BOUGHT, exit_(status, sold))))
        seen = None if sold is None else [*bought, SeenOrder(RESTING.client_order_id, sold, sold, sold == QUANTITY)]
        position = NetPosition(SYMBOL, Product.INTRADAY, units)
        begun = live.store.pool_mark(1)
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], seen, begun))
    told = live.run_seen(8)
    assert told is not None
    assert told.quantity == free


def test_an_exit_sells_nothing_that_its_owner_sold_while_another_runs_exit_rested(world: World) -> None:
    """Positions lag behind what that exit sold: the ten that they show are those."""
    world.buy()
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100))
    world.pass_time(30)
    world.price(STOP)
    world.serve(EventType.STOPLOSS, "sl-7", run_id(7))
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.pass_time(8)
    held = world.broker.held()
    world.broker.held = lambda: held  # type: ignore[method-assign]
    world.push(world.broker.fill("B3"))
    world.clock.advance(2)
    world.cover()
    world.price(STOP - 100)
    world.serve(EventType.STOPLOSS, "sl-8", run_id(8))
    assert [quantity for side, quantity in world.sides() if side is Side.SELL] == [QUANTITY]
