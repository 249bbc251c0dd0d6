"""Orders that stand at the broker while what they were sent for is gone, has come already, or is not all of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from engine.cli.resolving import WAYS, Choice
from engine.domain.account_positions import AccountReading
from engine.domain.broker import BookEntry, BrokerUnreachable, NetPosition, Outcome, Quote, RejectCause, Reply
from engine.domain.events import EventType
from engine.domain.exits import REPRICES
from engine.domain.orders import TERMINAL, Evidence, OrderStatus, Product, Side
from engine.domain.strategy import AbortPolicy
from engine.reconcile import Reconciler
from tests.builders import CLOSES, QUANTITY, SELL_AT, STOP, SYMBOL, S, entry, run, strategy
from tests.fakes import OK, REFUSED, Answer
from tests.livestate import ACCOUNT, run_id
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
LIMITED = Reply(Outcome.REJECTED, cause=RejectCause.RATE_LIMITED, message="HTTP 429: Too many requests")
VANISHES = Answer(OK, reaches_book=False)
#: Seconds after which an order the book never showed is given up.
GRACE = 15


@pytest.fixture
def breached(breached: World) -> World:
    """A run that holds and whose stop is breached, at a broker that tells the day's band."""
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), breached.clock.market)]
    return breached


def _sold(world: World) -> int:
    return sum(quantity for side, quantity in world.sides() if side is Side.SELL)


def _appears(world: World, number: int, filled: int = 0) -> None:
    request, name = world.broker.sent[number - 1], f"B{number}"
    told = Evidence(request.client_order_id, name, OrderStatus.ACCEPTED, request.quantity, 0, Decimal(0))
    world.broker.book[name] = BookEntry(told, SYMBOL, request.side, request.client_order_id)
    world.push(world.broker.fill(name, filled) if filled else world.broker.book[name])


def _may_still_sell(world: World) -> int:
    return sum(
        each.evidence.quantity - each.evidence.filled_quantity
        for each in world.broker.book.values()
        if each.side is Side.SELL and each.evidence.status not in TERMINAL
    )


@pytest.mark.parametrize("filled", [4, 10])
def test_an_exit_whose_given_up_forerunner_filled_is_taken_back(breached: World, filled: int) -> None:
    breached.broker.answers.append(VANISHES)
    breached.serve(E.STOPLOSS)
    breached.pass_time(GRACE + 3)
    assert breached.sides() == [BUY, SELL, SELL]
    _appears(breached, 2, filled)
    breached.pass_time(20)
    assert _may_still_sell(breached) <= QUANTITY - filled


def test_an_entry_whose_given_up_forerunner_filled_is_taken_back(world: World) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(VANISHES)
    world.serve(E.BUY)
    world.pass_time(GRACE + 3)
    assert world.sides() == [BUY, BUY]
    _appears(world, 1, QUANTITY)
    world.pass_time(4)
    assert world.broker.canceled == ["B2"]


@pytest.mark.parametrize("by_hand", [10, 6])
def test_an_exit_that_rests_while_its_owner_sells_by_hand_is_taken_back(breached: World, by_hand: int) -> None:
    """At the lower circuit nobody buys; its owner sells in the broker's app."""
    breached.serve(E.STOPLOSS)
    breached.pass_time(40)
    breached.broker.trade_by_hand(Side.SELL, by_hand)
    breached.pass_time(120)
    left = sum(each.quantity for each in breached.broker.held())
    assert _may_still_sell(breached) <= left


def test_the_broker_squares_off_while_an_exit_rests_that_can_be_lowered(world: World) -> None:
    world.buy()
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), world.clock.market)]
    world.clock.jump(CLOSES - timedelta(minutes=12))
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.pass_time(60)
    assert _may_still_sell(world) == 0


def test_the_whole_chain_of_a_manual_sale_beside_a_resting_exit_opens_no_short(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.pass_time(10)
    breached.broker.trade_by_hand(Side.SELL, QUANTITY)
    breached.pass_time(40)
    if breached.broker.book["B2"].evidence.status not in TERMINAL:
        # Lowered by us to the band meanwhile: somebody buys.
        breached.push(breached.broker.fill("B2"))
    breached.pass_time(10)
    net = sum(each.quantity for each in breached.broker.held())
    assert net == 0


def test_a_breach_meets_an_exit_its_owner_has_made_needless(world: World) -> None:
    """Not even two readings are needed: the stop reprices an exit of ten though the account is known to have none."""
    world.buy()
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), world.clock.market)]
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.pass_time(10)
    assert "not_covered" in world.alerts()
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(3)
    assert world.broker.modified == []


def test_what_an_entry_fills_beside_a_resting_exit_has_an_exit_too(world: World) -> None:
    """Four of ten have filled at the breach; the cancel of the rest races its fill, and the exit of four rests."""
    world.buy(quantity=4)
    world.clock.advance(2)
    world.breach(STOP)
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(90), Decimal(110), world.clock.market)]
    world.broker.cancel_answers.append(Answer(REFUSED))
    world.serve(E.STOPLOSS)
    world.push(world.broker.fill("B1"))
    world.pass_time(120)
    assert _may_still_sell(world) == world.run().held == QUANTITY


def test_what_is_covered_again_beside_a_resting_exit_has_an_exit_too(world: World) -> None:
    """Positions lag behind the last six that were bought as the stop is reached; the exit of four rests."""
    world.buy()
    world.clock.advance(60)
    told = world.broker.held
    world.broker.held = lambda: [NetPosition(SYMBOL, Product.INTRADAY, 4)]  # type: ignore[method-assign]
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(90), Decimal(110), world.clock.market)]
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.broker.held = told  # type: ignore[method-assign]
    world.pass_time(120)
    assert _may_still_sell(world) == world.run().held == QUANTITY


def _twin(world: World, of: str, filled: int = 0) -> str:
    """Another order stands under the id of `of`, as where a proxy sent the request twice."""
    first, name = world.broker.book[of], f"{of}twin"
    told = replace(first.evidence, broker_order_id=name, status=OrderStatus.ACCEPTED, filled_quantity=0)
    world.broker.book[name] = replace(first, evidence=told)
    world.push(world.broker.fill(name, filled) if filled else world.broker.book[name])
    return name


def _may_still_buy(world: World) -> int:
    open_entries = [each.evidence for each in world.broker.book.values() if each.side is Side.BUY]
    return sum(each.quantity - each.filled_quantity for each in open_entries if each.status not in TERMINAL)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (4, 0), (0, 4), (4, 3), (QUANTITY, 0), (QUANTITY, 4)])
def test_of_two_entries_under_one_id_no_more_may_fill_than_is_wanted(world: World, first: int, second: int) -> None:
    world.buy(quantity=first)
    _twin(world, "B1", second)
    world.pass_time(20)
    assert _may_still_buy(world) <= max(0, QUANTITY - first - second)
    assert world.alerts().count("double_order") == 1


def test_the_entry_that_is_left_of_two_under_one_id_fills_and_is_sold(world: World) -> None:
    world.buy(quantity=0)
    name = _twin(world, "B1")
    world.pass_time(10)
    assert world.broker.canceled == ["B1"]
    world.push(world.broker.fill(name))
    world.clock.advance(5)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    assert world.sides() == [BUY, SELL]


def test_of_two_exits_under_one_id_no_more_may_fill_than_is_held(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    _twin(breached, "B2")
    breached.pass_time(10)
    assert _may_still_sell(breached) == QUANTITY


def test_nothing_is_sent_beside_the_other_one_of_two_under_one_id(world: World) -> None:
    """The exchange cancels the entry we know; another one rests under its id, and nobody pushed that."""
    world.buy(quantity=0)
    told = world.broker.book["B1"]
    other = replace(told.evidence, broker_order_id="B1twin")
    world.broker.book["B1twin"] = replace(told, evidence=other)
    world.push(world.broker.end("B1", OrderStatus.CANCELED))
    world.pass_time(20)
    assert _may_still_buy(world) <= QUANTITY


def _stands_needlessly(world: World) -> None:
    """The first exit was given up, and has filled since: the second one stands for nothing."""
    _appears(world, 3, QUANTITY)


def _cannot_be_canceled(world: World) -> None:
    """The first exit was given up, and rests since; its cancel is lost."""
    world.broker.cancel_answers.append(Answer(Reply(Outcome.TIMEOUT, message="timed out")))
    _appears(world, 3)


@pytest.mark.parametrize("happens", [_stands_needlessly, _cannot_be_canceled])
def test_another_run_of_the_account_is_sold_whatever_the_first_ones_exits_did(
    world: World, happens: Callable[[World], None]
) -> None:
    world.buy()
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100))
    world.clock.advance(60)
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), world.clock.market)]
    world.broker.tells_limits = True
    assert world.price(STOP) == 1
    world.broker.answers.append(VANISHES)
    world.serve(E.STOPLOSS)
    world.pass_time(GRACE + 3)
    assert len(world.sides()) == 4
    happens(world)
    world.pass_time(120)
    assert world.price(STOP - 100) == 1
    world.serve(E.STOPLOSS, "sl-8", run_id(8))
    world.pass_time(120)
    assert len(world.sides()) == 5


@pytest.mark.parametrize("reply", [LIMITED, Reply(Outcome.TIMEOUT, message="timed out")])
def test_a_given_up_exit_that_appeared_is_canceled_until_it_is_gone(breached: World, reply: Reply) -> None:
    breached.broker.answers.append(VANISHES)
    breached.serve(E.STOPLOSS)
    breached.pass_time(GRACE + 3)
    assert breached.sides() == [BUY, SELL, SELL]
    breached.push(breached.broker.fill("B3"))
    breached.broker.cancel_answers.append(Answer(reply))
    _appears(breached, 2)
    breached.pass_time(120)
    assert breached.broker.book["B2"].evidence.status is OrderStatus.CANCELED


def test_a_given_up_exit_that_stands_is_canceled_again_and_the_next_follows(breached: World) -> None:
    """The second one is canceled by the exchange; the first, whose cancel was lost, rests far above the market."""
    breached.broker.answers.append(VANISHES)
    breached.serve(E.STOPLOSS)
    breached.pass_time(GRACE + 3)
    breached.broker.cancel_answers.append(Answer(LIMITED))
    _appears(breached, 2)
    breached.push(breached.broker.end("B3", OrderStatus.CANCELED))
    breached.pass_time(120)
    assert len(breached.sides()) > 3


def test_a_given_up_entry_whose_cancel_was_lost_is_not_bought_minutes_later(world: World) -> None:
    world.live.arm(buying=False)
    world.broker.answers.append(VANISHES)
    world.serve(E.BUY)
    world.pass_time(GRACE + 3)
    assert world.sides() == [BUY, BUY]
    world.push(world.broker.fill("B2"))
    world.broker.cancel_answers.append(Answer(LIMITED))
    _appears(world, 1)
    world.pass_time(120)
    assert world.broker.book["B1"].evidence.status is OrderStatus.CANCELED


def test_an_order_that_cannot_be_canceled_is_asked_ever_more_seldom_and_not_once_its_session_is_over(
    breached: World,
) -> None:
    breached.broker.answers.append(VANISHES)
    breached.serve(E.STOPLOSS)
    breached.pass_time(GRACE + 3)
    breached.push(breached.broker.fill("B3"))
    breached.broker.cancel_answers.extend([Answer(REFUSED)] * 1000)
    _appears(breached, 2)
    breached.pass_time(120)
    assert 6 <= len(breached.broker.canceled) <= 10
    breached.clock.jump(CLOSES + timedelta(minutes=5))
    before = len(breached.broker.canceled)
    breached.pass_time(120)
    assert len(breached.broker.canceled) == before


@pytest.mark.parametrize("answer", [Answer(REFUSED), Answer(OK, reaches_book=False)])
def test_an_entry_whose_cancel_comes_to_nothing_is_told_of_once(world: World, answer: Answer) -> None:
    world.live.arm(buying=False)
    world.broker.cancel_answers.extend([answer] * 1000)
    world.serve(E.BUY)
    world.pass_time(200)
    assert len(world.broker.canceled) > 3
    assert world.alerts() == ["cancel_in_vain"]


def test_an_exit_whose_cancel_is_refused_for_ever_is_told_of_once(breached: World) -> None:
    """No quote names the day's lowest price: it could only be sent again."""
    breached.broker.quotes = []
    breached.broker.cancel_answers.extend([Answer(REFUSED)] * 1000)
    breached.serve(E.STOPLOSS)
    breached.pass_time(200)
    assert sorted(breached.alerts()) == ["cancel_in_vain", "exit_rests"]


def test_an_exit_is_priced_anew_though_a_hint_cannot_be_followed(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    breached.push(breached.broker.book["B2"])
    breached.live.store.signal(run().id, {"dirty": "1"}, breached.clock.real)

    def unread() -> list[BookEntry]:
        raise BrokerUnreachable("no answer")

    breached.broker.orders = unread  # type: ignore[method-assign]
    breached.pass_time(60)
    assert [name for name, _ in breached.broker.modified][:1] == ["B2"]


def test_a_breach_takes_back_an_entry_that_rests_unfilled(world: World) -> None:
    world.live.arm(buying=False)
    world.serve(E.BUY)
    world.push(world.broker.book["B1"])
    world.clock.advance(3)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(4)
    assert world.broker.canceled == ["B1"]


def _end_live_exits(world: World, status: OrderStatus) -> None:
    for name, each in [*world.broker.book.items()]:
        if each.side is Side.SELL and each.evidence.status is OrderStatus.ACCEPTED:
            world.push(world.broker.end(name, status, "cancelled by the system"))


def test_exits_canceled_again_and_again_by_the_exchange_are_told_of(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    for _ in range(90):
        _end_live_exits(breached, OrderStatus.CANCELED)
        breached.pass_time(1)
    assert breached.run().held == QUANTITY
    assert breached.alerts() != []


def test_a_look_at_the_book_costs_no_more_for_every_attempt_that_ended_long_ago(breached: World) -> None:
    breached.serve(E.STOPLOSS)
    costs: list[int] = []
    sent, before = len(breached.sides()), breached.broker.reads
    for _ in range(300):
        for name, each in [*breached.broker.book.items()]:
            if each.side is Side.SELL and each.evidence.status is OrderStatus.ACCEPTED:
                breached.push(breached.broker.end(name, OrderStatus.CANCELED, "by the system"))
        breached.pass_time(1)
        if len(breached.sides()) > sent:
            costs.append(breached.broker.reads - before)
            sent, before = len(breached.sides()), breached.broker.reads
    assert max(costs) <= 12


@pytest.mark.parametrize("seconds", [60, 200])
def test_an_exit_whose_change_is_refused_for_ever_is_told_of(breached: World, seconds: int) -> None:
    """Kite: the order is stuck in 'OPEN PENDING' or 'VALIDATION PENDING', and no change is taken."""
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), breached.clock.market)]
    breached.broker.modify_answers.extend([REFUSED] * 1000)
    breached.serve(E.STOPLOSS)
    breached.pass_time(seconds)
    assert breached.run().held == QUANTITY
    assert breached.alerts() != []


def test_an_exit_nobody_takes_that_no_quote_can_lower_is_told_of_once(breached: World) -> None:
    """No quote names the day's lowest price: it is canceled and sent again, and nobody takes the next one either."""
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(0), Decimal(0), breached.clock.market)]
    breached.serve(E.STOPLOSS)
    breached.pass_time(150)
    assert breached.broker.canceled
    assert breached.broker.modified == []
    assert breached.alerts() == ["exit_rests"]


def rest_into_the_night(world: World, lower_band: Decimal) -> None:
    """An exit that nobody takes all day: its session ends."""
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), lower_band, Decimal(110), world.clock.market)]
    world.serve(E.STOPLOSS)
    world.pass_time(60)
    world.clock.jump(CLOSES + timedelta(minutes=2))
    world.pass_time(10)


def test_an_exit_nobody_takes_is_told_of_again_on_the_next_day(breached: World) -> None:
    world = breached
    rest_into_the_night(world, Decimal(80))
    world.push(world.broker.end("B2", OrderStatus.EXPIRED))
    held, morning = world.broker.held(), CLOSES + timedelta(hours=18)
    world.clock.jump(morning)
    world.broker.book.clear()
    world.broker.held = lambda: list(held)  # type: ignore[method-assign]
    world.live.store.prolong(run().id, morning + timedelta(hours=6), world.clock.real)
    world.pass_time(120)
    assert world.alerts() == ["exit_rests", "safety_abort", "exit_rests"]


@pytest.mark.parametrize(("answer", "seconds"), [(REFUSED, 45), (OK, 100)])
def test_an_exit_whose_price_is_changed_in_vain_is_canceled_and_sent_anew(
    breached: World, answer: Reply, seconds: int
) -> None:
    """Every change is refused, or accepted and its limit stays: it rests above the market."""
    breached.broker.modify_answers.extend([answer] * 1000)
    breached.serve(E.STOPLOSS)
    breached.pass_time(seconds)
    assert [name for name, _ in breached.broker.modified[:REPRICES]] == ["B2"] * REPRICES
    assert breached.broker.canceled == ["B2"]
    assert breached.sides() == [BUY, SELL, SELL]
    assert breached.alerts() == ["exit_rests"]


def test_a_stop_that_finds_no_quote_for_a_resting_exit_leaves_the_run_looked_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit was canceled at the broker, and the push that told so was lost."""

    def no_quote(_symbols: object) -> list[Quote]:
        raise BrokerUnreachable("too many requests")

    world.buy()
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    monkeypatch.setattr(world.broker, "quote", no_quote)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.broker.end("B2", OrderStatus.CANCELED)
    world.pass_time(30)
    assert world.sides() == [BUY, SELL, SELL]


def test_a_stop_whose_change_is_refused_sells_by_a_new_order_in_seconds(world: World) -> None:
    """It meets the exit of the schedule, which rests above the market."""
    world.buy()
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), world.clock.market)]
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    world.breach(STOP)
    world.broker.modify_answers.extend([REFUSED] * 1000)
    world.serve(E.STOPLOSS)
    world.pass_time(8)
    assert world.sides() == [BUY, SELL, SELL]


def _at_the_circuit(world: World, limit: int) -> None:
    """Nothing trades above the day's lowest price, and the book tells what the exit's limit is."""
    world.broker.quotes = [Quote(SYMBOL, Decimal(80), Decimal(80), Decimal(110), world.clock.market)]
    world.serve(E.STOPLOSS)
    told = world.broker.book["B2"]
    priced = replace(told.evidence, limit_price=Decimal(limit))
    world.broker.book["B2"] = replace(told, evidence=priced)
    world.pass_time(120)


def test_an_exit_at_the_days_lowest_price_keeps_its_place_though_no_change_is_taken(breached: World) -> None:
    breached.broker.modify_answers.extend([REFUSED] * 1000)
    _at_the_circuit(breached, 80)
    assert (breached.broker.canceled, breached.broker.modified) == ([], [])


def test_an_exit_its_book_shows_above_the_lower_circuit_is_sent_anew(breached: World) -> None:
    """Its changes are accepted and come to nothing."""
    _at_the_circuit(breached, 85)
    assert breached.broker.canceled == ["B2"]


def test_an_exit_its_book_shows_at_the_days_lowest_price_keeps_its_place_while_few_trade(breached: World) -> None:
    """The last price is an old one: the change had its effect, and a new order would only be dearer."""
    breached.broker.tells_limits = True
    breached.serve(E.STOPLOSS)
    breached.pass_time(200)
    assert (breached.broker.canceled, len(breached.broker.modified)) == ([], 1)


def test_a_change_that_was_accepted_and_then_refused_by_the_exchange_is_tried_again_or_told(breached: World) -> None:
    """The PUT is answered with success, the exchange refuses the change, the order stays OPEN at its old limit."""
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), breached.clock.market)]
    breached.serve(E.STOPLOSS)
    breached.pass_time(120)
    assert breached.alerts() == ["exit_rests"]


def test_a_stop_that_meets_a_resting_exit_while_the_quote_fails_once_is_priced_in_seconds(world: World) -> None:
    world.buy()
    world.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), world.clock.market)]
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    world.breach(STOP)
    world.broker.modify_answers.append(LIMITED)
    world.serve(E.STOPLOSS)
    world.pass_time(8)
    assert len(world.broker.modified) == 2


def test_a_cancel_that_is_rate_limited_is_asked_again_in_seconds(world: World) -> None:
    """No band is told; the stop meets the exit of the schedule."""
    world.buy()
    world.clock.jump(SELL_AT)
    world.serve(E.SELL, "sell")
    world.pass_time(5)
    world.breach(STOP)
    world.broker.cancel_answers.append(Answer(LIMITED))
    world.serve(E.STOPLOSS)
    world.pass_time(8)
    assert len(world.sides()) == 3


def test_no_order_is_changed_while_its_exchange_is_closed(breached: World) -> None:
    breached.broker.quotes = [Quote(SYMBOL, Decimal(90), Decimal(80), Decimal(110), breached.clock.market)]
    breached.broker.modify_answers.extend([REFUSED] * 5000)
    breached.serve(E.STOPLOSS)
    breached.pass_time(40)
    breached.clock.jump(CLOSES + timedelta(hours=2))
    before = len(breached.broker.modified)
    breached.pass_time(120)
    assert len(breached.broker.modified) == before


def test_a_second_night_with_the_position_is_told_of_too(breached: World) -> None:
    """At the lower circuit two days in a row: nobody buys."""
    world = breached
    rest_into_the_night(world, Decimal(90))
    assert world.alerts() == ["exit_rests", "safety_abort"]
    world.push(world.broker.end("B2", OrderStatus.CANCELED))
    held = world.broker.held()
    for day in (1, 2):
        morning = CLOSES + timedelta(hours=18, days=day - 1)
        world.clock.jump(morning)
        # A new day: a new book; the position is one over night.
        world.broker.book.clear()
        world.broker.held = lambda: list(held)  # type: ignore[method-assign]
        world.live.store.prolong(run().id, morning + timedelta(hours=6), world.clock.real)
        world.pass_time(30)
        world.clock.jump(morning + timedelta(hours=6, minutes=2))
        world.pass_time(20)
        name = f"B{len(world.broker.sent)}"
        world.push(world.broker.end(name, OrderStatus.CANCELED))
    assert world.run().held == QUANTITY
    assert world.alerts().count("safety_abort") == 3


def test_a_position_row_that_cannot_be_read_is_told_of_where_a_stop_waits(world: World) -> None:
    world.buy()
    world.pass_time(5)
    unread = [NetPosition(SYMBOL, Product.INTRADAY, 0, unread="quantity")]
    world.broker.held = lambda: list(unread)  # type: ignore[method-assign]
    reconciler = Reconciler(world.live.store, world.stream, world.clock, world.log)
    for _ in range(40):
        world.pass_time(1)
        reconciler.cover(ACCOUNT, world.broker)
        reconciler.reconcile(ACCOUNT, world.broker)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    for _ in range(40):
        world.pass_time(1)
        reconciler.cover(ACCOUNT, world.broker)
        reconciler.reconcile(ACCOUNT, world.broker)
    assert world.alerts() == ["book_unreadable"]


def test_a_position_that_cannot_be_read_since_a_rebuild_is_told_of_where_a_stop_waits(world: World) -> None:
    bought = entry(OrderStatus.FILLED, 10, updated_at=world.clock.real - timedelta(hours=1), broker_order_id="B0")
    world.live.store.cover(1, AccountReading(world.clock.real - S, []))
    world.live.arm(run(bought), buying=True)
    unread = [NetPosition(SYMBOL, Product.INTRADAY, 0, unread="quantity")]
    world.broker.held = lambda: list(unread)  # type: ignore[method-assign]
    world.clock.advance(60)
    world.breach(STOP)
    world.serve(E.STOPLOSS)
    world.pass_time(30)
    assert (world.alerts(), world.sides()) == (["book_unreadable"], [])


def _lags(world: World, units: int) -> None:
    world.broker.held = lambda: [NetPosition(SYMBOL, Product.INTRADAY, units)]  # type: ignore[method-assign]


def test_a_healthy_position_is_not_sold_because_positions_lag_behind_another_runs_purchase(world: World) -> None:
    spec = strategy(on_abort=AbortPolicy.FLATTEN)
    world.buy(run(spec=spec))
    world.pass_time(20)
    told = world.broker.held
    _lags(world, QUANTITY)
    world.buy(run(spec=strategy(id=8)))
    world.pass_time(4)
    world.broker.held = told  # type: ignore[method-assign]
    world.pass_time(5)
    assert _sold(world) == 0


def test_a_run_that_flattens_is_not_sold_because_one_share_is_missing(world: World) -> None:
    world.buy(run(spec=strategy(on_abort=AbortPolicy.FLATTEN)))
    world.pass_time(60)
    world.broker.trade_by_hand(Side.SELL, 1)
    world.pass_time(10)
    assert _sold(world) == 0


def test_positions_that_lag_do_not_take_back_the_rest_of_an_entry(world: World) -> None:
    world.broker.held = list  # type: ignore[method-assign]
    world.buy(quantity=4)
    world.pass_time(8)
    assert world.broker.canceled == []


def test_positions_that_lag_behind_a_part_of_our_sale_cover_nothing_twice(world: World) -> None:
    """Two runs of ten; the owner sold ten. One run sells its ten in two parts, of which positions show the first."""
    world.buy()
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100))
    world.pass_time(40)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.pass_time(6)
    world.price(STOP)
    world.serve(E.STOPLOSS)
    world.push(world.broker.fill("B3", 5))
    world.push(world.broker.fill("B3"))
    _lags(world, 5)
    world.clock.advance(1)
    world.cover()
    world.price(STOP - 100)
    world.serve(E.STOPLOSS, "sl-8", run_id(8))
    assert _sold(world) == QUANTITY


def test_positions_that_lag_behind_our_sale_while_another_run_bought(world: World) -> None:
    """A cut of the account's time line: what C bought is in it, what A sold after that is not yet."""
    world.buy()
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100))
    world.pass_time(40)
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.pass_time(6)
    world.buy(run(spec=strategy(id=9, quantity=3), stop_units=STOP - 200, buy_at=world.clock.market))
    world.price(STOP)
    world.serve(E.STOPLOSS)
    world.push(world.broker.fill(f"B{len(world.broker.sent)}"))
    world.broker.held = lambda: [NetPosition(SYMBOL, Product.INTRADAY, QUANTITY + 3)]  # type: ignore[method-assign]
    world.clock.advance(1)
    world.cover()
    world.price(STOP - 100)
    world.serve(E.STOPLOSS, "sl-8", run_id(8))
    assert _sold(world) <= QUANTITY + 3


def test_what_positions_alone_show_covers_no_two_exits(world: World) -> None:
    """A's exit is out and filled in part; the owner sells ten: positions alone have shown that six are left, A's."""
    world.buy()
    world.buy(run(spec=strategy(id=8), stop_units=STOP - 100))
    world.clock.advance(31)
    world.cover()
    world.price(STOP)
    world.serve(E.STOPLOSS)
    world.push(world.broker.fill("B3", 4))
    world.cover = lambda: None  # type: ignore[method-assign]
    world.broker.trade_by_hand(Side.SELL, QUANTITY)
    world.clock.advance(2)
    world.live.store.cover(1, AccountReading(world.clock.real, world.broker.held(), None))
    world.price(STOP - 100)
    world.serve(E.STOPLOSS, "sl-8", run_id(8))
    assert _sold(world) == QUANTITY


@pytest.mark.parametrize("hangs", [3.2, 4.9])
def test_an_exit_that_waits_for_a_broker_that_hangs_is_told_of_in_seconds(world: World, hangs: float) -> None:
    world.buy()
    world.clock.advance(60)
    world.broker.unreachable, world.broker.hangs = True, hangs
    world.cover = lambda: None  # type: ignore[method-assign]
    world.breach(STOP)
    began = world.clock.real
    world.serve(E.STOPLOSS)
    while not world.alerts() and world.clock.real < began + 120 * S:
        world.pass_time(0.5, 0.5)
    took = (world.clock.real - began).total_seconds()
    assert took <= 5


def test_a_position_closed_by_hand_twice_is_closed() -> None:
    """Ten were stated to be closed; five more that filled after that are closed by hand as well."""
    held = run(entry(OrderStatus.FILLED, 15, quantity=15), closed_elsewhere=10)
    assert held.held == 5
    said = replace(held, closed_elsewhere=int(WAYS[Choice.CLOSED].fields(held)["closed_elsewhere"]))
    assert said.held == 0
