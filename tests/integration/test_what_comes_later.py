"""A run whose units others sold does not sell what comes to its account later: that is another's."""

from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

import pytest

from engine.domain.broker import BrokerUnreachable, NetPosition
from engine.domain.events import EventType as E
from engine.domain.orders import OrderStatus, Product, Side
from engine.domain.run import Run, RunStatus
from engine.domain.strategy import StopMode
from engine.runtime import keys
from tests.builders import CLOSES, STOP, SYMBOL, entry, run, strategy
from tests.fakes import REFUSED, Answer
from tests.livestate import run_id
from tests.world import World

BUY, SELL = Side.BUY, Side.SELL


def _buys_later(world: World, stop: int = STOP, quantity: int = 10) -> Run:
    """Another strategy of the account buys the same symbol, at a price above the stop."""
    world.price(STOP + 500)
    at = world.clock.market
    ends = {} if at < CLOSES else {"sell_at": at + timedelta(hours=2), "closes_at": at + timedelta(hours=3)}
    armed = world.live.arm(
        run(spec=strategy(id=8, quantity=quantity), buy_at=at, stop_units=stop, **ends), buying=False
    )
    assert world.serve(E.BUY, "buy-8", armed.id) == "submitted: accepted"
    world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    return armed


def _shows(world: World, units: int) -> None:
    """Positions say so from now on, whatever the account has."""
    world.broker.held = lambda: [NetPosition(SYMBOL, Product.INTRADAY, units)]  # type: ignore[method-assign]


def _shows_what_cannot_be_read(world: World) -> None:
    world.broker.held = lambda: [  # type: ignore[method-assign]
        NetPosition(SYMBOL, Product.INTRADAY, 0, unread="quantity")
    ]


def _shows_the_truth(world: World) -> None:
    del world.broker.held


def _sold_by(world: World, number: int) -> int:
    """Units that a run's exits were sent for."""
    prefix = f"EE{number:07d}"
    return sum(
        each.quantity for each in world.broker.sent if each.side is SELL and each.client_order_id.startswith(prefix)
    )


def _has(world: World) -> int:
    """What the account has, by its broker."""
    return sum(each.quantity for each in world.broker.held())


def _run(world: World, number: int) -> Run:
    found = world.live.store.run(str(run_id(number)))
    assert found is not None
    return found


def _taken(world: World, by_hand: int) -> None:
    """The first run holds ten, of which its owner sells some by hand; its stop sells the rest."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, by_hand)
    world.pass_time(5)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.pass_time(5)
    if by_hand < 10:
        world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    world.pass_time(30)
    world.clock.advance(1800)


@pytest.mark.parametrize("by_hand", [4, 10])
def test_it_does_not_sell_what_another_strategy_buys(world: World, by_hand: int) -> None:
    _taken(world, by_hand)
    told = world.alerts().count("not_covered")
    _buys_later(world)
    world.pass_time(60)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (10 - by_hand, 0)
    assert _has(world) == 10
    # What the first run lacks was told, and is not told of the one that has everything.
    assert (world.alerts().count("not_covered"), _run(world, 8).failure) == (told, "")
    assert (_run(world, 7).failure, _run(world, 7).uncovered_told) == ("not_covered", by_hand)


@pytest.mark.parametrize("by_hand", [4, 10])
def test_the_one_that_bought_later_sells_what_it_bought(world: World, by_hand: int) -> None:
    _taken(world, by_hand)
    armed = _buys_later(world)
    world.pass_time(60)
    world.price(STOP - 100)
    world.serve(E.STOPLOSS, "sl-8", armed.id)
    assert _sold_by(world, 8) == 10
    world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    world.pass_time(5)
    assert (_has(world), _sold_by(world, 7)) == (0, 10 - by_hand)


def test_one_that_was_armed_and_had_bought_nothing_is_a_later_one(world: World) -> None:
    """It waits for its time to buy as the first one's units are sold by hand."""
    later = run(spec=strategy(id=8), buy_at=world.clock.market + timedelta(minutes=40))
    world.live.arm(later, buying=False)
    _taken(world, 10)
    world.price(STOP + 500)
    world.clock.advance((later.buy_at - world.clock.market).total_seconds())
    assert world.serve(E.BUY, "buy-8", later.id) == "submitted: accepted"
    world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    world.pass_time(60)
    assert (_sold_by(world, 7), _sold_by(world, 8), _has(world)) == (0, 0, 10)


def test_what_the_first_still_has_it_sells_beside_an_exit_of_the_other(world: World) -> None:
    """Both stops are reached: the exit of the one rests, and keeps nothing from the other."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 4)
    world.pass_time(10)
    armed = _buys_later(world)
    world.pass_time(60)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-8", armed.id)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    world.pass_time(3)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (6, 10)


def test_it_sells_everything_once_the_account_has_everything_again(world: World) -> None:
    """The positions had lied, or its owner bought back what he had sold."""
    _taken(world, 10)
    _buys_later(world)
    world.pass_time(30)
    world.broker.trade_by_hand(BUY, 10)
    world.pass_time(10)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (10, 0)


def test_once_it_has_everything_again_both_sell_from_what_is_left(world: World) -> None:
    """Its owner sells ten, buys them back, and sells ten again: whose they were nobody knows."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 10)
    world.pass_time(10)
    _buys_later(world)
    for side in (BUY, SELL):
        world.pass_time(30)
        world.broker.trade_by_hand(side, 10)
    world.pass_time(5)
    assert world.price(STOP) == 2
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    world.pass_time(5)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (10, 0)


def test_a_row_that_cannot_be_read_gives_nothing_back(world: World) -> None:
    """Another run that holds something was armed, and the first reading after that tells nothing of the symbol."""
    _taken(world, 10)
    _buys_later(world)
    world.pass_time(30)
    bought = entry(OrderStatus.FILLED, 10, attempt=2, updated_at=world.clock.real - timedelta(hours=1))
    world.live.arm(run(bought, spec=strategy(id=9)), buying=False)
    _shows_what_cannot_be_read(world)
    world.cover()
    _shows_the_truth(world)
    world.pass_time(30)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (0, 0)


def test_what_the_other_lacks_is_told_of_it(world: World) -> None:
    """Its owner sells what the second strategy bought, too: of another loss than the first."""
    _taken(world, 10)
    _buys_later(world)
    world.pass_time(30)
    world.broker.trade_by_hand(SELL, 5)
    world.pass_time(30)
    assert (_run(world, 8).failure, _run(world, 8).uncovered_told) == ("not_covered", 5)


@pytest.mark.parametrize("lag", [3, 14])
def test_positions_that_lag_behind_the_later_purchase_hold_no_stop_back(world: World, lag: int) -> None:
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 4)
    world.pass_time(120)
    _shows(world, 6)
    _buys_later(world, STOP - 500)
    world.pass_time(1)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    for _ in range(lag):
        world.pass_time(1)
        assert _sold_by(world, 7) == 6
    _shows_the_truth(world)
    world.pass_time(20)
    assert (_sold_by(world, 7), world.broker.canceled, _run(world, 8).failure) == (6, [], "")


def test_positions_that_lag_behind_the_sale_of_the_other_give_nothing_back(world: World) -> None:
    """They show for seconds what it has sold: a sale of the first would be a short."""
    _taken(world, 10)
    later = _buys_later(world, STOP - 100)
    world.pass_time(8)
    _shows(world, 10)
    world.price(STOP - 100)
    world.serve(E.STOPLOSS, "sl-8", later.id)
    world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    world.pass_time(9)
    _shows_the_truth(world)
    world.pass_time(30)
    assert (_sold_by(world, 7), _sold_by(world, 8), _has(world)) == (0, 10, 0)


def test_one_reading_of_too_much_gives_nothing_back(world: World) -> None:
    _taken(world, 10)
    _buys_later(world)
    world.pass_time(60)
    _shows(world, 20)
    world.cover()
    world.sweep()
    _shows_the_truth(world)
    world.pass_time(10)
    assert _sold_by(world, 7) == 0


def test_what_is_shown_again_while_nothing_moves_is_sold_at_once(world: World) -> None:
    """Positions were empty for a while, as after a broker's restart."""
    world.buy()
    world.clock.advance(60)
    _shows(world, 0)
    world.pass_time(90, 5)
    _shows_the_truth(world)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    world.pass_time(1)
    assert _sold_by(world, 7) == 10


def test_an_exit_that_is_canceled_gives_nothing_back(world: World) -> None:
    """Until it is settled it may have filled: then nothing would be missing."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 4)
    world.pass_time(30)
    _buys_later(world, STOP - 500)
    world.pass_time(60)
    world.price(STOP)
    world.pass_time(3)
    world.push(world.broker.end(f"B{len(world.broker.sent)}", OrderStatus.CANCELED))
    world.pass_time(6)
    assert [sold for side, sold in world.sides() if side is SELL] == [6, 6]


def test_positions_prove_what_the_other_sold_though_units_were_taken_before(world: World) -> None:
    """Its exit filled nine, its book says none, its trades cannot be read: they are not sold again."""
    world.buy(run(spec=strategy(quantity=30)))
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 20)
    world.pass_time(30)
    later = _buys_later(world, STOP - 100)
    world.pass_time(60)

    def dead(_broker_order_id: str) -> NoReturn:
        raise BrokerUnreachable("trades")

    world.broker.trades_of = dead  # type: ignore[method-assign, assignment]
    world.live.store.signal(later.id, {"stop_requested": StopMode.CLOSE}, world.clock.real)
    world.pass_time(1)
    _shows(world, 11)
    world.push(world.broker.end(f"B{len(world.broker.sent)}", OrderStatus.CANCELED))
    world.pass_time(60)
    assert _sold_by(world, 8) == 10


def test_what_its_owner_keeps_of_the_other_is_not_sold(world: World) -> None:
    _taken(world, 10)
    later = _buys_later(world)
    world.pass_time(60)
    world.live.store.signal(later.id, {"stop_requested": StopMode.LEAVE}, world.clock.real)
    world.pass_time(60)
    assert (world.live.store.run(str(later.id)), _sold_by(world, 7), _has(world)) == (None, 0, 10)


@pytest.mark.parametrize("after", [5, 30])
def test_what_another_buys_within_the_minute_makes_the_loss_no_smaller(world: World, after: int) -> None:
    """It buys less than was taken, while no exit is due."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 10)
    world.pass_time(after)
    later = _buys_later(world, STOP - 500, quantity=4)
    world.pass_time(120, 5)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    world.pass_time(3)
    world.price(STOP - 500)
    world.serve(E.STOPLOSS, "sl-8", later.id)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (0, 4)


def test_a_loss_of_two_runs_that_grows_is_told_again(world: World) -> None:
    world.buy()
    _buys_later(world, STOP - 500)
    world.clock.advance(60)
    for taken in (4, 10):
        world.broker.trade_by_hand(SELL, taken)
        world.pass_time(20)
    assert (_run(world, 7).uncovered_told, _run(world, 8).uncovered_told) == (14, 14)


def test_what_two_runs_lack_is_of_both(world: World) -> None:
    """Nobody knows whose units were taken: whichever stop is reached sells what is left."""
    world.buy()
    _buys_later(world, STOP - 500)
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 10)
    world.pass_time(90, 5)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    assert _sold_by(world, 7) == 10


def test_what_was_missing_for_a_moment_blames_nobody_later(world: World) -> None:
    """One reading lacked what the first run holds alone; what both lack much later is of both."""
    world.buy()
    world.clock.advance(60)
    _shows(world, 0)
    world.pass_time(1)
    _shows_the_truth(world)
    world.pass_time(5)
    _buys_later(world, STOP - 500)
    world.pass_time(60)
    world.broker.trade_by_hand(SELL, 10)
    world.pass_time(30)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    assert _sold_by(world, 7) == 10


def test_what_was_taken_of_a_run_ends_with_it(world: World) -> None:
    _taken(world, 10)
    _buys_later(world)
    world.pass_time(30)
    world.live.store.signal(run_id(7), {"closed_elsewhere": "10"}, world.clock.real)
    world.pass_time(10)
    assert world.ended()
    world.broker.trade_by_hand(SELL, 5)
    world.pass_time(30)
    assert (_run(world, 8).failure, _run(world, 8).uncovered_told) == ("not_covered", 5)


def test_what_a_run_that_ended_lacked_is_taken_of_nobody_else(world: World) -> None:
    """It is resolved before that is certain, and then its owner sells what another has bought."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 10)
    world.pass_time(2)
    later = _buys_later(world, STOP - 500)
    world.broker.trade_by_hand(SELL, 4)
    world.live.store.signal(run_id(7), {"closed_elsewhere": "10"}, world.clock.real)
    world.pass_time(90, 5)
    assert world.ended()
    assert world.live.store.run(str(run_id(7))) is None
    world.price(STOP - 500)
    world.serve(E.STOPLOSS, "sl-8", later.id)
    world.pass_time(2)
    assert (_sold_by(world, 8), _run(world, 8).uncovered_told) == (6, 4)


def test_a_purchase_the_book_tells_first_takes_nothing_from_a_run_of_before(world: World) -> None:
    """For three seconds its run does not know of its fill, and positions lack it longer: nothing was taken."""
    world.buy()
    world.clock.advance(60)
    world.cover()
    _shows(world, 10)
    later = world.live.arm(run(spec=strategy(id=8), buy_at=world.clock.market, stop_units=STOP - 500), buying=False)
    assert world.serve(E.BUY, "buy-8", later.id) == "submitted: accepted"
    filled = world.broker.fill(f"B{len(world.broker.sent)}")
    for _ in range(3):
        world.clock.advance(1)
        world.cover()
    world.push(filled)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    assert (_sold_by(world, 7), world.alerts()) == (10, [])


def _taken_of_both(world: World) -> Run:
    """The first run has lost all ten; positions are empty for long while the second one holds its own."""
    _taken(world, 10)
    later = _buys_later(world, STOP - 500)
    world.pass_time(30)
    _shows(world, 0)
    world.pass_time(90, 5)
    _shows_the_truth(world)
    world.pass_time(10)
    return later


def test_what_was_taken_last_is_given_back_first(world: World) -> None:
    later = _taken_of_both(world)
    world.price(STOP - 500)
    world.serve(E.STOPLOSS, "sl-8", later.id)
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (0, 10)


@pytest.mark.parametrize("units", [4, 10])
def test_what_is_taken_again_is_told_again(world: World, units: int) -> None:
    """Its owner sells by hand, buys back, and sells again."""
    world.buy()
    world.clock.advance(60)
    for side, told in ((SELL, 1), (BUY, 1), (SELL, 2)):
        world.broker.trade_by_hand(side, units)
        world.pass_time(120, 5)
        assert world.alerts().count("not_covered") == told
        assert _run(world, 7).failure == ("" if side is BUY else "not_covered")


def test_rows_that_cannot_be_read_are_no_second_word(world: World) -> None:
    """One reading lacked all, and for a minute none said anything: nothing was taken."""
    world.buy()
    world.clock.advance(60)
    _shows(world, 0)
    world.cover()
    _shows_what_cannot_be_read(world)
    for _ in range(70):
        world.clock.advance(1)
        world.cover()
    _buys_later(world, STOP - 500)
    _shows_the_truth(world)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    world.pass_time(1)
    assert _sold_by(world, 7) == 10


def test_what_positions_lack_of_a_purchase_is_none_of_what_was_taken(world: World) -> None:
    """Its entry fills on as its owner sells the first part: that they show the rest a moment later is no return."""
    world.buy(quantity=5)
    world.pass_time(20)
    world.broker.trade_by_hand(SELL, 5)
    _shows(world, 0)
    world.push(world.broker.fill("B1", 10))
    world.pass_time(2)
    _shows_the_truth(world)
    world.pass_time(90, 5)
    _buys_later(world, STOP - 500)
    world.pass_time(10)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    assert (_sold_by(world, 7), _sold_by(world, 8)) == (5, 0)


def test_a_loss_that_began_before_a_lie_is_no_greater_by_it(world: World) -> None:
    """As it becomes certain positions are empty for a moment: what they show after that was not taken."""
    world.buy()
    world.clock.advance(60)
    world.broker.trade_by_hand(SELL, 4)
    world.pass_time(58)
    _shows(world, 0)
    world.pass_time(5)
    _shows_the_truth(world)
    _buys_later(world, STOP - 500)
    world.pass_time(10)
    world.price(STOP)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    world.pass_time(1)
    assert _sold_by(world, 7) == 6


def test_a_run_of_an_older_engine_is_blamed_for_nothing_and_keeps_no_reading_back(world: World) -> None:
    """It has not kept what it holds: of several nobody knows whose units were taken."""
    world.buy(run(stop_units=STOP - 500))
    world.live.redis.hdel(keys.runtime(str(run_id(7))), "pool_held", "pool_out")
    world.clock.advance(60)
    later = _buys_later(world)
    world.pass_time(30)
    world.broker.trade_by_hand(SELL, 4)
    world.pass_time(120, 5)
    world.price(STOP - 500)
    world.serve(E.STOPLOSS, "sl-8", later.id)
    world.serve(E.STOPLOSS, "sl-7", run_id(7))
    assert (_sold_by(world, 8), _sold_by(world, 7)) == (10, 6)
    for broker_id in [f"B{number}" for number in (3, 4)]:
        world.push(world.broker.fill(broker_id))
    world.pass_time(10)
    assert (world.live.store.run(str(later.id)), _run(world, 7).held, _has(world)) == (None, 4, 0)


def _left_over_night(world: World, in_the_morning: int = 0) -> None:
    """Its broker squares an intraday position off as the session ends, and the next one has begun."""
    world.buy()
    world.clock.jump(CLOSES - timedelta(minutes=10))
    world.broker.trade_by_hand(SELL, 10)
    world.clock.jump(CLOSES + timedelta(minutes=2))
    world.sweep()
    world.clock.jump(CLOSES + timedelta(hours=18))
    world.broker.book.clear()
    _shows(world, in_the_morning)
    world.live.store.prolong(run_id(7), CLOSES + timedelta(days=1), world.clock.real)


def test_an_intraday_run_ends_where_the_next_session_lacks_what_it_held(world: World) -> None:
    _left_over_night(world)
    world.pass_time(90)
    assert (world.ended()["status"], world.ended()["position"]) == (RunStatus.STOPPED, "sold")
    assert world.alerts().count("squared_off") == 1
    _shows(world, 10)
    world.pass_time(30)
    assert world.sides() == [(BUY, 10)]


def test_it_goes_on_where_the_positions_show_it_again_within_a_minute(world: World) -> None:
    _left_over_night(world)
    world.pass_time(40)
    assert not world.ended()
    _shows(world, 10)
    world.pass_time(90)
    assert (world.ended(), world.run().held, world.run().failure) == ({}, 10, "session_over")


def test_what_is_missing_for_a_moment_after_some_was_missing_for_long_ends_nothing(world: World) -> None:
    _left_over_night(world, 6)
    world.broker.answers.extend([Answer(REFUSED, reaches_book=False)] * 300)
    world.pass_time(300)
    _shows(world, 0)
    world.pass_time(3)
    _shows(world, 6)
    world.pass_time(60)
    assert (world.ended(), world.run().held) == ({}, 10)


def test_what_positions_still_show_of_it_keeps_it(world: World) -> None:
    _left_over_night(world, 4)
    world.broker.answers.extend([Answer(REFUSED, reaches_book=False)] * 300)
    world.pass_time(300)
    assert (world.ended(), world.run().held) == ({}, 10)


def test_a_delivery_run_waits_for_a_person(world: World) -> None:
    """Shares may be missing from holdings for days while they settle."""
    world.buy(run(spec=replace(strategy(), product=Product.DELIVERY)))
    world.clock.jump(CLOSES + timedelta(hours=18))
    world.broker.book.clear()
    world.broker.held = list  # type: ignore[method-assign]
    world.live.store.prolong(run_id(7), CLOSES + timedelta(days=1), world.clock.real)
    world.pass_time(300)
    assert (world.ended(), world.run().failure) == ({}, "not_covered")


def test_on_the_day_itself_it_waits_for_a_person(world: World) -> None:
    _taken(world, 10)
    world.pass_time(300)
    assert (world.ended(), world.run().failure) == ({}, "not_covered")
