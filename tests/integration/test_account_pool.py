"""Runs of one account sell from one pool, whatever the account's owner does beside them and its broker tells late."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.domain.account_positions import AccountReading, SeenOrder
from engine.domain.broker import ANY_SYMBOL, NetPosition
from engine.domain.events import EventType
from engine.domain.orders import Order, OrderStatus, Product, Side
from engine.domain.run import NetSeen, RunStatus
from engine.ports import Note
from engine.runtime import keys
from tests.builders import BUY_AT, CLOSES, QUANTITY, STOP, SYMBOL, S, entry, event, exit_, run, strategy
from tests.fakes import REFUSED, Answer
from tests.livestate import LiveState, run_id
from tests.world import World

E = EventType
BOUGHT = entry(OrderStatus.FILLED, 10)
BUY, SELL = Side.BUY, Side.SELL
#: How long ago the last fill may be for a sale to need no newer reading.
TRUSTED = 30


@pytest.fixture
def two(world: World) -> World:
    """Two runs of one account that hold ten each of one symbol, both breached."""
    world.buy()
    world.buy(run(spec=strategy(id=8)))
    world.clock.advance(TRUSTED + 30)
    return world


def _sold(world: World) -> int:
    return sum(quantity for side, quantity in world.sides() if side is SELL)


def _stop_both(world: World) -> None:
    assert world.price(STOP) == 2
    for number in (7, 8):
        world.serve(E.STOPLOSS, f"sl-{number}", run_id(number))


def test_two_runs_sell_what_both_hold(two: World) -> None:
    _stop_both(two)
    assert _sold(two) == 2 * QUANTITY


@pytest.mark.parametrize("by_hand", [1, 10, 15, 20])
def test_two_runs_do_not_sell_the_same_shares_where_the_owner_sold_some(two: World, by_hand: int) -> None:
    two.broker.trade_by_hand(SELL, by_hand)
    _stop_both(two)
    two.pass_time(20)
    assert _sold(two) == 2 * QUANTITY - by_hand
    assert "not_covered" in two.alerts()


def test_two_runs_granted_at_once_share_what_one_reading_showed(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both workers have read that ten are there when the first of them is granted all ten."""
    two.broker.trade_by_hand(SELL, QUANTITY)
    two.cover()
    assert two.price(STOP) == 2
    grant, asked = two.live.store.intend, list[str]()

    def meanwhile(*args: Any, **more: Any) -> Any:
        if not asked:
            asked.append("the other")
            two.pipeline.process(_event(8))
        return grant(*args, **more)

    monkeypatch.setattr(two.live.store, "intend", meanwhile)
    two.pipeline.process(_event(7))
    assert (asked, _sold(two)) == (["the other"], QUANTITY)


def _event(number: int) -> object:
    return event(E.STOPLOSS, f"at-once-{number}", run_id(number)).as_wire()


def test_a_refused_exit_keeps_its_share_until_the_book_has_said_that_it_does_not_rest(two: World) -> None:
    two.broker.trade_by_hand(SELL, QUANTITY)
    two.broker.refused_rests = True
    two.broker.answers.append(Answer(REFUSED, reaches_book=False))
    _stop_both(two)
    two.pass_time(5)
    assert _sold(two) == QUANTITY


def test_what_is_covered_is_sold_and_the_rest_alerted(world: World) -> None:
    world.buy()
    world.clock.advance(TRUSTED + 30)
    world.broker.trade_by_hand(SELL, 1)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    assert world.sides()[-1] == (SELL, QUANTITY - 1)
    world.push(world.broker.fill("B2"))
    world.pass_time(10)
    assert world.run().held == 1
    assert world.alerts().count("not_covered") == 1
    assert _sold(world) == QUANTITY - 1


def test_one_reading_flags_nothing_and_what_comes_back_is_sold(world: World) -> None:
    world.buy()
    world.clock.advance(TRUSTED + 30)
    told = world.broker.held
    world.broker.held = list  # type: ignore[method-assign]
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    assert (world.alerts(), world.run().status, _sold(world)) == ([], RunStatus.ACTIVE, 0)
    world.broker.held = told  # type: ignore[method-assign]
    world.pass_time(3)
    assert (world.alerts(), _sold(world)) == ([], QUANTITY)


def test_positions_that_stay_empty_are_alerted_in_two_seconds_and_the_flag_goes_with_them(world: World) -> None:
    world.buy()
    world.clock.advance(TRUSTED + 30)
    told = world.broker.held
    world.broker.held = list  # type: ignore[method-assign]
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(2)
    assert (world.alerts(), world.run().failure, _sold(world)) == (["not_covered"], "not_covered", 0)
    world.broker.held = told  # type: ignore[method-assign]
    world.pass_time(12)
    assert _sold(world) == QUANTITY
    world.push(world.broker.fill("B2"))
    assert (world.ended()["status"], world.alerts()) == ("stopped", ["not_covered"])


def test_a_manual_sale_is_alerted_though_no_exit_is_due(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, QUANTITY)
    world.cover()
    world.pass_time(4)
    assert world.alerts() == ["not_covered"]


def test_whoever_was_told_of_one_share_is_told_of_the_others(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    for sold in (1, 9):
        world.broker.trade_by_hand(SELL, sold)
        world.pass_time(4)
    assert world.alerts() == ["not_covered", "not_covered"]


def test_one_empty_reading_takes_no_exit_back_whatever_was_told_long_ago(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 1)
    world.pass_time(4)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(10)
    world.clock.advance(1)
    world.live.store.cover(1, AccountReading(world.clock.real, [], []))
    world.sweep()
    assert (world.sides()[-1], world.broker.canceled) == ((SELL, 9), [])


def test_a_manual_sale_beside_an_entry_that_was_canceled_in_part_is_alerted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cover_by_positions_alone() -> None:
        world.live.store.cover(1, AccountReading(world.clock.real, world.broker.held()))

    monkeypatch.setattr(world, "cover", cover_by_positions_alone)
    world.buy(quantity=4)
    world.push(world.broker.end("B1", OrderStatus.CANCELED))
    world.pass_time(15)
    world.broker.trade_by_hand(SELL, 4)
    world.pass_time(5)
    assert world.alerts() == ["bought_in_part", "not_covered"]


def test_what_an_account_has_again_is_sold_at_the_reading_that_shows_it(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, QUANTITY)
    world.cover()
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(10)
    assert (world.run().failure, _sold(world)) == ("not_covered", 0)
    world.broker.trade_by_hand(BUY, 4)
    world.clock.advance(0.2)
    world.cover()
    world.sweep()
    assert _sold(world) == 4


def test_a_sale_from_a_pool_the_owner_added_to_sells_only_the_runs_own(world: World) -> None:
    world.broker.trade_by_hand(BUY, 50)
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    assert _sold(world) == QUANTITY


#: (units a reading shows, units its book shows filled of an entry and of an exit, of 10 each), taken before the run
#: learns of any of it, and what the account has once it has learned that 10 were bought and 4 sold.
LATE = [(10, 10, 0, 6), (6, 10, 4, 6), (0, 0, 0, 6), (8, 10, 2, 6), (16, 10, 4, 16)]


@pytest.mark.parametrize(("units", "bought", "sold", "has"), LATE)
def test_a_fill_counts_once_however_late_the_run_learns_of_it(
    live: LiveState, units: int, bought: int, sold: int, has: int
) -> None:
    bought_order, sold_order = entry(OrderStatus.ACCEPTED), exit_(OrderStatus.ACCEPTED)
    live.arm(run(bought_order, sold_order))
    told = [
        SeenOrder(bought_order.client_order_id, bought, bought, False),
        SeenOrder(sold_order.client_order_id, sold, sold, False),
    ]
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, Product.INTRADAY, units)], told))
    held = live.claim()
    learned = held.run.with_order(entry(OrderStatus.FILLED, 10)).with_order(exit_(OrderStatus.PARTIALLY_FILLED, 4))
    live.commit(held, learned)
    net = live.claim().run.net
    assert net is not None
    still_out = QUANTITY - 4
    assert (net.quantity + still_out, net.missing) == (has, 0)


def test_a_reading_of_before_a_run_was_armed_does_not_count_what_it_brings_as_bought_since(live: LiveState) -> None:
    """After a rebuild a position may be gone that the history still holds: positions that lack it say so."""
    live.store.cover(1, AccountReading(BUY_AT, []))
    live.arm(run(BOUGHT))
    assert live.claim().run.net is None
    live.lease_runs_out()
    live.store.cover(1, AccountReading(BUY_AT + S, []))
    assert live.claim().run.net == NetSeen(0, BUY_AT + S, missing=QUANTITY)


@pytest.mark.parametrize("orders", [(entry(OrderStatus.ACCEPTED),), (BOUGHT, exit_(OrderStatus.ACCEPTED))])
def test_positions_alone_prove_nothing_of_a_symbol_whose_order_may_still_fill(
    live: LiveState, orders: tuple[Order, ...]
) -> None:
    live.arm(run(*orders))
    live.store.cover(1, AccountReading(BUY_AT, []))
    assert live.claim().run.net is None


def test_a_symbol_whose_position_cannot_be_read_keeps_its_older_reading(live: LiveState) -> None:
    live.arm(run(entry(OrderStatus.FILLED, 10)))
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, Product.INTRADAY, 10)]))
    unread = NetPosition(SYMBOL, Product.INTRADAY, 0, unread="quantity")
    live.store.cover(1, AccountReading(BUY_AT + S, [unread]))
    assert live.claim().run.net == NetSeen(10, BUY_AT)


@pytest.mark.parametrize(("product", "units"), [(Product.DELIVERY, 10), (Product.INTRADAY, 4)])
def test_where_a_whole_list_cannot_be_read_its_product_keeps_its_older_reading(
    live: LiveState, product: Product, units: int
) -> None:
    live.arm(run(entry(OrderStatus.FILLED, 10), spec=strategy(product=product)))
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, product, 10)]))
    positions = [NetPosition(ANY_SYMBOL, Product.DELIVERY, 0, unread="holdings")]
    positions += [NetPosition(SYMBOL, product, 4)] if product is Product.INTRADAY else []
    reading = AccountReading(BUY_AT + S, positions)
    live.store.cover(1, reading)
    net = live.claim().run.net
    assert net is not None
    assert net.quantity == units
    assert bool(reading.unread(SYMBOL, product)) is (product is Product.DELIVERY)


def _told(live: LiveState, at: datetime, units: int) -> NetSeen | None:
    live.store.cover(1, AccountReading(at, [NetPosition(SYMBOL, Product.INTRADAY, units)]))
    held = live.claim()
    live.commit(held)
    return held.run.net


def test_an_older_reading_changes_nothing(live: LiveState) -> None:
    live.arm(run(entry(OrderStatus.FILLED, 10)))
    assert _told(live, BUY_AT + S, 10) == NetSeen(10, BUY_AT + S)
    assert _told(live, BUY_AT, 0) == NetSeen(10, BUY_AT + S)


def test_a_reading_by_a_clock_that_was_ahead_is_replaced_by_the_next_one(live: LiveState) -> None:
    now = datetime.now(UTC)
    live.arm(run(entry(OrderStatus.FILLED, 10)))
    ahead = now + timedelta(hours=1)
    assert _told(live, ahead, 0) == NetSeen(0, ahead, missing=10)
    assert _told(live, now, 10) == NetSeen(10, now)


@pytest.mark.parametrize(("hours", "free"), [(0, 10), (18, 9)])
def test_a_fill_of_yesterday_that_is_told_today_is_nothing_the_account_has_besides(
    live: LiveState, hours: int, free: int
) -> None:
    live.arm(run(entry(OrderStatus.PARTIALLY_FILLED, 9, session_ends=CLOSES)), buying=False)
    live.store.cover(1, AccountReading(datetime.now(UTC), [NetPosition(SYMBOL, Product.INTRADAY, 9)], []))
    held = live.claim()
    after = replace(held.run, orders=(entry(OrderStatus.FILLED, 10, session_ends=CLOSES),))
    told = Note("event", "upd", E.ORDER_UPDATE, "filled", market_time=CLOSES + timedelta(hours=hours))
    live.store.commit(held, "c0", after, None, told, release=True)
    net = live.claim().run.net
    assert net is not None
    assert net.quantity == free


def test_positions_read_beside_an_entry_that_may_fill_are_the_most_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy()
    world.buy(run(spec=strategy(id=8)), quantity=0)
    world.clock.advance(1)
    world.cover()
    world.broker.trade_by_hand(SELL, 1)
    world.clock.advance(1)
    monkeypatch.setattr(World, "cover", lambda _self: None)
    world.live.store.cover(1, AccountReading(world.clock.real, world.broker.held(), None))
    world.price(STOP)
    assert world.serve(E.STOPLOSS, "sl-7", run_id(7)).startswith("submitted")
    assert world.sides()[-1] == (SELL, QUANTITY - 1)


def test_positions_alone_may_contain_what_is_learned_to_have_filled_since(live: LiveState) -> None:
    live.arm(run(entry(OrderStatus.ACCEPTED)))
    # It has filled by then, and its owner has sold seven of its ten.
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, Product.INTRADAY, 3)]))
    held = live.claim()
    live.commit(held, held.run.with_order(BOUGHT))
    never = AccountReading(datetime.fromtimestamp(0, UTC), ())
    seen = live.store.cover(1, never, live.run())
    assert seen is not None
    assert seen.quantity == 3


def test_what_only_positions_have_shown_to_be_less_is_sold_after_a_look_at_the_book(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy()
    # Another one may still fill, so that positions alone say no more than what the most is.
    world.buy(run(spec=strategy(id=8)), quantity=0)
    world.broker.trade_by_hand(SELL, QUANTITY - 2)
    world.live.redis.delete(keys.held(1))
    monkeypatch.setattr(World, "cover", lambda _self: None)
    world.live.store.cover(1, AccountReading(world.clock.real, world.broker.held(), None))
    world.clock.advance(0.1)
    world.price(STOP)
    assert world.serve(E.STOPLOSS, "sl-7", run_id(7)) == "book read: cover"
    assert [quantity for side, quantity in world.sides() if side is SELL] == [2]


#: Readings of an account whose run holds 10 and then sells 5, (seconds, units, whether it has sold by then), and what
#: is left to sell.
LAGS: list[tuple[list[tuple[float, int, bool]], int]] = [
    # The owner had sold 5 before. Units that did not move contain nothing of the sale, for 15 s.
    ([(0, 5, False), (1, 5, True)], 0),
    ([(0, 5, False), (1, 5, True), (3, 5, True)], 0),
    ([(0, 5, False), (1, 5, True), (3, 0, True)], 0),
    ([(0, 5, False), (1, 5, True), (21, 5, True)], 5),
    # Units that moved may contain a part of it, where two readings showed what the owner had sold.
    ([(0, 5, False), (2, 5, False), (3, 3, True)], 0),
    ([(0, 5, False), (2, 5, False), (3, 8, True)], 0),
    ([(0, 5, False), (2, 5, False), (3, 8, True), (21, 8, True)], 8),
    ([(0, 5, False), (2, 5, False), (3, 3, True), (21, 3, True)], 3),
    # One reading proves nothing: it may have been taken before the run bought.
    ([(0, 0, False), (2, 5, True)], 5),
    ([(0, 0, False), (0.5, 0, False), (2, 5, True)], 5),
]


@pytest.mark.parametrize(("readings", "free"), LAGS)
def test_positions_need_not_contain_what_was_sold_since(
    live: LiveState, readings: list[tuple[float, int, bool]], free: int
) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    live.arm(run(BOUGHT), buying=False)
    for after, quantity, is_sold in readings:
        if is_sold and live.run().held == QUANTITY:
            held = live.claim()
            live.commit(held, replace(held.run, orders=(BOUGHT, exit_(OrderStatus.FILLED, 5, quantity=5))))
        orders = [
            SeenOrder(each.client_order_id, each.filled_quantity, each.filled_quantity, True)
            for each in live.run().orders
        ]
        position = NetPosition(SYMBOL, Product.INTRADAY, quantity)
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], orders))
    net = live.claim().run.net
    assert net is not None
    assert net.quantity == free


def test_what_others_have_is_known_by_positions_alone_once_no_order_is_under_way(live: LiveState) -> None:
    """Nobody has read the book since the entry filled; positions were read twice after its owner sold five by hand."""
    began = datetime.now(UTC) - timedelta(minutes=1)
    live.arm(run())
    held = live.claim()
    live.commit(held, replace(held.run, orders=(BOUGHT,)))
    position = NetPosition(SYMBOL, Product.INTRADAY, 5)
    for after in (0, 2):
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position]))
    held = live.claim()
    live.commit(held, replace(held.run, orders=(BOUGHT, exit_(OrderStatus.FILLED, 5, quantity=5))))
    # They lag behind our sale of the other five: there is nothing left.
    orders = [
        SeenOrder(each.client_order_id, each.filled_quantity, each.filled_quantity, True) for each in live.run().orders
    ]
    live.store.cover(1, AccountReading(began + timedelta(seconds=4), [position], orders))
    net = live.claim().run.net
    assert net is not None
    assert net.quantity == 0


def test_a_reading_while_an_exit_was_under_way_proves_nothing_of_what_others_have(live: LiveState) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    live.arm(run(BOUGHT), buying=False)
    # Positions already contain what the book, read a moment before, says to rest.
    for after, status, told in ((1, OrderStatus.ACCEPTED, 0), (3, OrderStatus.FILLED, 5)):
        held = live.claim()
        live.commit(held, replace(held.run, orders=(BOUGHT, exit_(status, told, quantity=5))))
        orders = [
            SeenOrder(each.client_order_id, each.filled_quantity, each.filled_quantity, not each.is_live)
            for each in live.run().orders
        ]
        position = NetPosition(SYMBOL, Product.INTRADAY, 5)
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], orders))
    net = live.claim().run.net
    assert net is not None
    assert net.quantity == 5


def test_how_long_positions_lag_counts_on_while_they_prove_nothing(live: LiveState) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    live.arm(run(BOUGHT), buying=False)

    def cover(after: float, orders: list[SeenOrder] | None) -> None:
        position = NetPosition(SYMBOL, Product.INTRADAY, 5)
        live.store.cover(1, AccountReading(began + timedelta(seconds=after), [position], orders))

    cover(0, [SeenOrder(BOUGHT.client_order_id, QUANTITY, QUANTITY, True)])
    held = live.claim()
    resting = entry(OrderStatus.ACCEPTED, attempt=2)
    live.commit(held, replace(held.run, orders=(BOUGHT, resting, exit_(OrderStatus.FILLED, 5, quantity=5))))
    orders = [
        SeenOrder(each.client_order_id, each.filled_quantity, each.filled_quantity, False) for each in live.run().orders
    ]
    cover(1, orders)
    for after in range(2, 16):
        # Without the book, an order that may still fill leaves the older reading where it is.
        cover(after, None)
    cover(17, orders)
    net = live.claim().run.net
    assert net is not None
    assert net.quantity == 5


def test_while_an_exit_that_only_an_answer_refused_may_rest_positions_alone_prove_nothing_of_others(
    live: LiveState,
) -> None:
    bought, refused = entry(OrderStatus.FILLED, 10), exit_(OrderStatus.REJECTED, seen=False, settled=False)
    live.arm(run(bought, refused))
    # It rests all the same, and has sold nine.
    live.store.cover(1, AccountReading(BUY_AT, [NetPosition(SYMBOL, Product.INTRADAY, 1)]))
    held = live.claim()
    live.commit(held, held.run.with_order(exit_(OrderStatus.PARTIALLY_FILLED, 9)))
    told = [SeenOrder(bought.client_order_id, 10, 10, True), SeenOrder(refused.client_order_id, 9, 9, False)]
    for seconds in (2, 4, 6):
        live.store.cover(1, AccountReading(BUY_AT + seconds * S, [NetPosition(SYMBOL, Product.INTRADAY, 1)], told))
    net = live.claim().run.net
    assert net is not None
    assert net.missing == 0
