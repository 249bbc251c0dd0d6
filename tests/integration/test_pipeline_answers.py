"""Every way the broker can answer, for entry and exit, and the doubt that only the book can settle."""

from dataclasses import replace

import pytest

from engine.domain.broker import RejectCause, Reply
from engine.domain.events import EventType
from engine.domain.health import OPENS_AFTER, Heard
from engine.domain.orders import Leg, OrderStatus, Side
from engine.domain.run import Position, Run, RunStatus, client_order_id
from tests.builders import DEPLOYMENT, QUANTITY, STOP, run, strategy
from tests.fakes import DEAD_TOKEN, DOUBT, DOWN, NO_MARGIN, REFUSED, Answer
from tests.livestate import ACCOUNT
from tests.world import World

E = EventType
BUY, SELL = (Side.BUY, QUANTITY), (Side.SELL, QUANTITY)
#: From the deadline of an attempt in doubt to when its absence from the book is proof.
GRACE = 2 + 13


@pytest.fixture
def buying(world: World) -> World:
    """A run at its time to buy."""
    world.live.arm(buying=False)
    return world


def _answers(world: World, *answers: Answer) -> World:
    world.broker.answers.extend(answers)
    return world


@pytest.mark.parametrize("reply", [REFUSED, DOWN])
def test_a_refused_entry_is_tried_three_more_times_then_the_run_fails(buying: World, reply: Reply) -> None:
    _answers(buying, *[Answer(reply)] * 9)
    assert buying.serve(E.BUY).startswith("submitted: ")
    for pause, sends in ((1, 2), (2, 3), (4, 4)):
        buying.clock.advance(pause - 0.01)
        assert (buying.deliver(), len(buying.sides())) == ([], sends - 1)
        buying.clock.advance(0.01)
        buying.deliver()
        assert len(buying.sides()) == sends
    buying.pass_time(2)
    assert (buying.ended()["status"], buying.alerts()) == ("failed", ["safety_abort"])
    assert [request.client_order_id[-3:] for request in buying.broker.sent] == ["001", "002", "003", "004"]


@pytest.mark.parametrize(("reply", "told"), [(NO_MARGIN, []), (DEAD_TOKEN, ["token_dead"])])
def test_an_entry_no_retry_can_help_fails_at_once(buying: World, reply: Reply, told: list[str]) -> None:
    _answers(buying, Answer(reply))
    buying.broker.token_dead = reply is DEAD_TOKEN
    buying.serve(E.BUY)
    buying.pass_time(2)
    assert (buying.sides(), buying.ended()["status"], buying.alerts()) == ([BUY], "failed", [*told, "safety_abort"])


def test_an_entry_is_tried_again_where_no_read_confirms_that_its_token_is_dead(buying: World) -> None:
    _answers(buying, Answer(DEAD_TOKEN))
    buying.serve(E.BUY)
    buying.pass_time(1)
    assert (buying.sides(), buying.run().status, buying.alerts()) == ([BUY, BUY], RunStatus.ACTIVE, [])


def test_an_entry_is_not_aborted_for_its_token_while_nobody_answers(buying: World) -> None:
    _answers(buying, Answer(DEAD_TOKEN))
    buying.broker.unreachable = True
    buying.serve(E.BUY)
    buying.pass_time(2)
    assert (buying.run().status, buying.run().abort_requested, buying.alerts()) == (RunStatus.ACTIVE, "", [])
    buying.broker.unreachable = False
    buying.pass_time(10)
    assert (buying.sides(), buying.alerts()) == ([BUY, BUY], [])


def test_a_token_believed_dead_that_reads_accept_is_alive_again_and_the_entry_goes_out(buying: World) -> None:
    buying.live.store.heard(ACCOUNT.id, ACCOUNT.version, Heard.TOKEN_DEAD, Leg.EXIT, None)
    assert buying.serve(E.BUY) == "denied: access token is asked for again"
    buying.pass_time(1)
    assert (buying.sides(), buying.alerts()) == ([BUY], ["token_lives"])


def test_a_book_that_was_read_heals_what_was_believed_of_the_token(world: World) -> None:
    world.buy()
    world.live.store.heard(ACCOUNT.id, ACCOUNT.version, Heard.TOKEN_DEAD, Leg.EXIT, None)
    world.live.store.signal(world.run().id, {"dirty": "1"}, world.clock.real)
    world.pass_time(1)
    assert world.alerts() == ["token_lives"]


def test_an_entry_is_refused_unsent_under_a_token_that_is_known_dead(buying: World) -> None:
    buying.broker.token_dead = True
    buying.live.store.heard(ACCOUNT.id, ACCOUNT.version, Heard.TOKEN_DEAD, Leg.EXIT, None)
    assert buying.serve(E.BUY) == "denied: access token is dead"
    assert (buying.sides(), buying.ended()["status"], buying.alerts()) == ([], "failed", ["safety_abort"])


def test_a_retry_is_published_for_its_time_and_survives_without_its_message(buying: World) -> None:
    _answers(buying, Answer(REFUSED))
    buying.serve(E.BUY)
    (retry,) = buying.publisher.published
    assert (retry.type, buying.publisher.waiting[0][1]) == (E.RETRY, buying.run().entry_retry_at)
    buying.publisher.waiting.clear()
    buying.clock.advance(1)
    buying.sweep()
    assert buying.sides() == [BUY, BUY]


@pytest.mark.parametrize("reply", [REFUSED, DOWN, NO_MARGIN])
def test_a_refused_exit_is_tried_until_flat_and_alerted_once(breached: World, reply: Reply) -> None:
    _answers(breached, *[Answer(reply)] * 8)
    breached.serve(E.STOPLOSS, "sl")
    breached.pass_time(125)
    assert breached.sides() == [BUY, *[SELL] * 9]
    assert breached.alerts().count("exit_keeps_failing") == 1
    assert breached.run().status is RunStatus.FAILED
    breached.push(breached.broker.fill("B10"))
    assert breached.ended()["position"] == "exited_by_sl"


def test_an_exit_with_a_dead_token_keeps_its_latch_and_resumes(breached: World) -> None:
    _answers(breached, *[Answer(DEAD_TOKEN)] * 3)
    breached.serve(E.STOPLOSS, "sl")
    assert breached.run().latch is not None
    breached.pass_time(30)
    assert breached.sides() == [BUY, *[SELL] * 4]
    assert breached.alerts() == ["token_dead", "token_invalid", "token_lives"]


def test_a_broker_that_asks_for_patience_gets_it(breached: World) -> None:
    _answers(breached, Answer(replace(REFUSED, retry_after=7.0)))
    breached.serve(E.STOPLOSS, "sl")
    breached.pass_time(6)
    assert breached.sides() == [BUY, SELL]
    breached.pass_time(1)
    assert breached.sides() == [BUY, SELL, SELL]


def test_a_silent_broker_pauses_entries_and_an_exit_that_is_answered_ends_the_pause(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    for _ in range(OPENS_AFTER - 1):
        world.live.store.heard(ACCOUNT.id, ACCOUNT.version, Heard.SILENT, Leg.ENTRY, None)
    _answers(world, Answer(DOWN))
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    assert world.alerts() == ["breaker_opened"]
    other = world.live.arm(run(spec=strategy(id=8)), buying=False)
    with_time = world.clock.market
    world.clock.market = other.buy_at
    assert world.serve(E.BUY, "b8", other.id).startswith("denied: broker does not answer until ")
    world.clock.market = with_time
    world.pass_time(2)
    assert world.sides() == [BUY, SELL, SELL]
    assert world.alerts()[:2] == ["breaker_opened", "breaker_closed"]


def test_connections_that_are_refused_open_the_breaker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands that could be asked whether it may send."""
    world.buy()
    world.clock.advance(60)
    monkeypatch.setattr(world.broker, "place", lambda _request, _may_send: DOWN)
    world.breach(STOP)
    world.serve(E.STOPLOSS, "sl")
    world.pass_time(60)
    assert world.alerts().count("breaker_opened") == 1


def test_exits_wait_as_long_as_the_broker_asked_one_of_them_to(breached: World) -> None:
    limited = replace(REFUSED, cause=RejectCause.RATE_LIMITED, retry_after=7.0)
    _answers(breached, Answer(limited))
    breached.serve(E.STOPLOSS, "sl")
    other = _holds_too(breached)
    assert breached.serve(E.STOPLOSS, "s8", other.id).startswith("denied: broker asked for a pause until ")
    assert breached.sides() == [BUY, SELL]


@pytest.mark.parametrize(("asked", "told"), [(2.0, []), (7.0, ["exit_denied"])])
def test_an_exit_whose_broker_asks_for_a_long_pause_is_told_of(breached: World, asked: float, told: list[str]) -> None:
    _answers(breached, Answer(replace(REFUSED, cause=RejectCause.RATE_LIMITED, retry_after=asked)))
    breached.serve(E.STOPLOSS, "sl")
    assert breached.alerts() == told


def _holds_too(world: World) -> Run:
    """Another run of the account, as far as the one that is breached was before its exit."""
    first, other = world.run(), run(spec=strategy(id=8))
    name = client_order_id(DEPLOYMENT, other.id, Leg.ENTRY, 1)
    bought = replace(first.orders[0], client_order_id=name, broker_order_id="B8")
    world.broker.trade_by_hand(Side.BUY, QUANTITY)
    return world.live.arm(replace(other, orders=(bought,), latch=first.latch))


LEGS = pytest.mark.parametrize("leg", Leg)


def _in_doubt(world: World, leg: Leg, *, reaches_book: bool) -> None:
    """An attempt of `leg` that ended in a timeout, the book not yet asked."""
    if leg is Leg.EXIT:
        world.buy()
        world.clock.advance(60)
        world.breach(STOP)
    else:
        world.live.arm(buying=False)
    world.broker.unreachable = True
    _answers(world, Answer(DOUBT, reaches_book=reaches_book))
    outcome = world.serve(E.STOPLOSS if leg is Leg.EXIT else E.BUY, "doubt")
    assert outcome == "submitted: timeout"
    order = world.run().last_order(leg)
    assert order is not None
    assert order.status is OrderStatus.UNKNOWN


#: What is told of a doubtful attempt that something that is due waits for.
TOLD_OF_DOUBT = {Leg.ENTRY: [], Leg.EXIT: ["exit_in_doubt"]}


def _of(world: World, leg: Leg) -> list[str]:
    """The attempts of `leg` that left."""
    letter = {Leg.ENTRY: "E", Leg.EXIT: "X"}[leg]
    return [sent.client_order_id[-3:] for sent in world.broker.sent if sent.client_order_id[14] == letter]


@LEGS
def test_a_doubtful_attempt_found_in_the_book_is_adopted_and_not_sent_again(world: World, leg: Leg) -> None:
    _in_doubt(world, leg, reaches_book=True)
    world.broker.unreachable = False
    world.pass_time(GRACE + 3)
    order = world.run().last_order(leg)
    assert order is not None
    assert (order.status, order.attempt) == (OrderStatus.ACCEPTED, 1)
    assert _of(world, leg) == ["001"]


@LEGS
def test_a_doubtful_attempt_absent_through_its_grace_is_followed_by_the_next_number(world: World, leg: Leg) -> None:
    _in_doubt(world, leg, reaches_book=False)
    world.broker.unreachable = False
    world.pass_time(GRACE - 1)
    assert _of(world, leg) == ["001"]
    world.pass_time(3)
    assert _of(world, leg) == ["001", "002"]
    assert world.alerts() == [*TOLD_OF_DOUBT[leg], "attempt_given_up"]
    assert [order.given_up for order in world.run().orders if order.leg is leg] == [True, False]


@LEGS
def test_a_book_asked_for_within_the_grace_proves_no_absence_however_late_it_answers(world: World, leg: Leg) -> None:
    _in_doubt(world, leg, reaches_book=False)
    order = world.run().last_order(leg)
    assert order is not None
    world.clock.advance((order.settles_at - world.clock.real).total_seconds() - 0.5)
    world.broker.unreachable, world.broker.takes = False, 1.0
    # Nothing is read after that.
    world.broker.on_read = lambda: setattr(world.broker, "unreachable", True)
    world.sweep()
    assert (_of(world, leg), world.alerts()) == (["001"], TOLD_OF_DOUBT[leg])
    read_at = world.run().book_read_at
    assert read_at is not None
    assert read_at < order.settles_at < world.clock.real


@LEGS
def test_a_doubtful_attempt_stays_in_doubt_while_the_book_cannot_be_read(world: World, leg: Leg) -> None:
    _in_doubt(world, leg, reaches_book=True)
    world.pass_time(120, step=5)
    order = world.run().last_order(leg)
    assert order is not None
    assert order.status is OrderStatus.UNKNOWN
    assert _of(world, leg) == ["001"]
    world.broker.unreachable = False
    world.pass_time(1)
    adopted = world.run().last_order(leg)
    assert adopted is not None
    assert adopted.broker_order_id == f"B{len(world.broker.sent)}"
    assert _of(world, leg) == ["001"]


def test_a_doubtful_entry_that_filled_is_held_and_protected(world: World) -> None:
    _in_doubt(world, Leg.ENTRY, reaches_book=True)
    world.broker.fill("B1")
    world.broker.unreachable = False
    world.pass_time(3)
    assert world.run().position is Position.BOUGHT
    world.breach(STOP)
    world.sweep()
    world.pass_time(2)
    assert world.sides() == [BUY, SELL]


def test_a_doubtful_exit_that_filled_ends_the_run(world: World) -> None:
    _in_doubt(world, Leg.EXIT, reaches_book=True)
    world.broker.fill("B2")
    world.broker.unreachable = False
    world.pass_time(3)
    assert world.ended()["position"] == "exited_by_sl"
    assert world.sides() == [BUY, SELL]


@pytest.mark.parametrize("reason", ["no margin left", "circuit limit"])
def test_an_entry_rejected_after_its_acceptance_is_tried_again(buying: World, reason: str) -> None:
    buying.serve(E.BUY)
    buying.push(buying.broker.end("B1", OrderStatus.REJECTED, reason))
    buying.clock.advance(1)
    buying.deliver()
    assert buying.sides() == [BUY, BUY]


def test_a_cancellation_refused_because_the_order_filled_adopts_the_fill(buying: World) -> None:
    buying.serve(E.BUY)
    buying.broker.cancel_answers.append(Answer(REFUSED))
    buying.broker.fill("B1")
    buying.live.store.signal(run().id, {"stop_requested": "close"}, buying.clock.real)
    buying.serve(E.FORCE_STOP, "stop")
    assert buying.sides() == [BUY, SELL]


def test_an_attempt_beyond_the_accounts_rate_is_denied_and_sent_when_the_window_ends(world: World) -> None:
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    world.live.store.write_account(replace(ACCOUNT, limits={"rate_minute": 0}))
    assert world.serve(E.STOPLOSS, "sl").startswith("denied: minute rate until ")
    assert world.sides() == [BUY]
    retry_at = world.run().exit_retry_at
    assert retry_at is not None
    waits = (retry_at - world.clock.real).total_seconds()
    assert 0 < waits <= 60
    assert world.alerts() == (["exit_denied"] if waits >= 5 else [])
    world.live.store.write_account(replace(ACCOUNT, limits={"rate_minute": 9}))
    world.clock.advance((retry_at - world.clock.real).total_seconds())
    world.sweep()
    assert world.sides() == [BUY, SELL]
