"""Random lives of a run at an honest broker, in the pure domain: whatever happens, no order too many, and an end."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine import lifecycle
from engine.domain.action import (
    Abort,
    Action,
    AskBook,
    Cancel,
    Decision,
    Finish,
    GiveUp,
    Ignore,
    Policy,
    Reprice,
    Submit,
    Tell,
    Wait,
)
from engine.domain.broker import BookEntry, Outcome, RejectCause, Reply
from engine.domain.decision import decide, next_action, outlook
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.orders import TERMINAL, Evidence, Leg, Order, OrderStatus, OrderTrigger
from engine.domain.routing import apply_reply
from engine.domain.run import NetSeen, Position, Run, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from engine.domain.waiting import told_why
from tests.builders import BUY_AT, DEPLOYMENT, PATIENCE, QUANTITY, book_entry, latch, run, strategy

POLICY = Policy()
ST = OrderStatus
#: Acceptance often, so that walks get far; whatever else a call can end in, now and then.
OUTCOMES = st.sampled_from([Outcome.ACCEPTED] * 5 + [*Outcome])


@dataclass
class HonestBroker:
    """A book that never lies: what it says of an order is true, in the order it happened."""

    book: dict[str, Evidence] = field(default_factory=dict)
    said: list[Evidence] = field(default_factory=list)

    def place(self, order: Order) -> None:
        self._say(Evidence(order.client_order_id, f"B{len(self.book)}", ST.ACCEPTED, order.quantity, 0, Decimal(0)))

    def move(self, about: str, status: OrderStatus, filled: int) -> None:
        price = Decimal(100) if filled else Decimal(0)
        self._say(replace(self.book[about], status=status, filled_quantity=filled, average_price=price))

    def live(self) -> list[Evidence]:
        return [item for item in self.book.values() if item.status not in TERMINAL]

    def lines(self) -> list[BookEntry]:
        return [book_entry(item) for item in self.book.values()]

    def filled(self, letter: str) -> int:
        return sum(item.filled_quantity for item in self.book.values() if item.client_order_id[14] == letter)

    def _say(self, item: Evidence) -> None:
        self.book[item.client_order_id] = item
        self.said.append(item)


class Life(RuleBasedStateMachine):
    """One run. A rule is something the world does, or one event served."""

    run: Run
    now: datetime

    def __init__(self) -> None:
        super().__init__()
        self.broker = HonestBroker()
        self.sent: list[Order] = []
        self.finished = False

    @initialize(policy=st.sampled_from(AbortPolicy))
    def armed(self, policy: AbortPolicy) -> None:
        self.run, self.now = run(spec=strategy(on_abort=policy)), BUY_AT

    @rule(seconds=st.sampled_from((0.1, 1, 5)))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.sent)
    @rule(seconds=st.sampled_from((13, 31)))
    def more_time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.run.held > 0)
    @rule()
    def the_day_passes(self) -> None:
        self.now = max(self.now, self.run.sell_at)

    @precondition(lambda self: self.sent and not self.finished)
    @rule()
    def the_stop_is_breached(self) -> None:
        self.run = replace(self.run, latch=self.run.latch or latch())

    @precondition(lambda self: self.sent and not self.finished)
    @rule(mode=st.sampled_from(StopMode))
    def the_user_wants_it_stopped(self, mode: StopMode) -> None:
        self.run = replace(self.run, stop_requested=mode)

    @precondition(lambda self: self.sent and not self.finished)
    @rule()
    def stored_state_asks_for_an_abort(self) -> None:
        self.run = replace(self.run, abort_requested="unsafe")

    @precondition(lambda self: self.broker.live())
    @rule(data=st.data(), end=st.sampled_from((ST.PARTIALLY_FILLED, ST.FILLED, ST.CANCELED, ST.EXPIRED, ST.REJECTED)))
    def an_order_moves_at_the_broker(self, data: st.DataObject, end: OrderStatus) -> None:
        item = data.draw(st.sampled_from(self.broker.live()))
        filled = item.filled_quantity
        if end is ST.FILLED:
            filled = item.quantity
        elif end is ST.PARTIALLY_FILLED:
            filled = data.draw(st.integers(filled, item.quantity - 1))
            end = ST.PARTIALLY_FILLED if filled else ST.ACCEPTED
        elif end is ST.REJECTED and filled:
            end = ST.CANCELED
        self.broker.move(item.client_order_id, end, filled)

    @precondition(lambda self: self.broker.said and not self.finished)
    @rule(data=st.data())
    def an_update_arrives_however_late(self, data: st.DataObject) -> None:
        told = data.draw(st.lists(st.sampled_from(self.broker.said), min_size=1, max_size=4))
        self.run = lifecycle.absorb(self.run, told, self.now).run

    @precondition(lambda self: self.broker.said and not self.finished)
    @rule()
    def every_update_arrives(self) -> None:
        self.run = lifecycle.absorb(self.run, self.broker.said, self.now).run

    @precondition(lambda self: not self.finished)
    @rule(kind=st.none() | st.sampled_from(EventType), data=st.data())
    def an_event_is_served(self, kind: EventType | None, data: st.DataObject) -> None:
        moment = Moment(self.now, self.now)
        if kind is None:
            urgent = next_action(self.run, moment, POLICY)
            decision: Decision = urgent[1] if urgent else Ignore("nothing")
        else:
            decision = decide(self.run, kind, moment, POLICY)
        if isinstance(decision, Wait):
            assert decision.until > self.now
        elif not isinstance(decision, Ignore):
            self._perform(decision, data.draw(OUTCOMES), really=data.draw(st.booleans()))

    def _perform(self, action: Action, outcome: Outcome, *, really: bool) -> None:
        """Carry `action` out; `really` says whether what ended in doubt had reached the broker."""
        match action:
            case Submit():
                self._submit(action, outcome, really=really)
            case Cancel():
                assert action.order.is_resting
                if outcome is Outcome.ACCEPTED and any(
                    item.client_order_id == action.order.client_order_id for item in self.broker.live()
                ):
                    filled = self.broker.book[action.order.client_order_id].filled_quantity
                    self.broker.move(action.order.client_order_id, ST.CANCELED, filled)
                self.run = self.run.with_order(action.order.on(OrderTrigger.REQUEST_CANCEL, self.now))
            case AskBook():
                self.run = replace(self.run, book_asked_at=self.now)
                self._read_book(is_answered=really)
            case Reprice():
                assert action.order.is_resting
                self.run = self.run.with_order(replace(action.order, repriced_at=self.now))
                self.run = replace(self.run, exit_reason=action.exit_reason or self.run.exit_reason)
            case GiveUp():
                assert action.order.client_order_id not in self.broker.book
                self.run = self.run.with_order(replace(action.order, given_up=True))
            case Tell():
                self.run, _ = told_why(self.run, action)
            case Abort():
                self.run, _ = lifecycle.abort(self.run, action.reason)
            case Finish():
                assert not self.broker.live()
                self.run, _ = lifecycle.finish(self.run, action.status, action.reason, self.now)
                self.finished = True

    def _read_book(self, *, is_answered: bool) -> None:
        if is_answered:
            told = lifecycle.evidence_of(self.broker.lines(), self.run)
            assert lifecycle.told_of_doubles(self.broker.lines(), self.run) == (self.run, ())
            learned = lifecycle.after_book(self.run, told, Moment(self.now, self.now), PATIENCE).run
            self.run = replace(learned, net=NetSeen(learned.held, self.now))

    def _submit(self, submit: Submit, outcome: Outcome, *, really: bool) -> None:
        assert self.run.live(submit.leg) is None
        if submit.leg is Leg.EXIT:
            assert 0 < submit.quantity <= self.run.held
        else:
            assert self.run.position is Position.NONE
        now = Moment(self.now, self.now)
        order = lifecycle.next_order(self.run, submit.leg, submit.quantity, DEPLOYMENT, now, PATIENCE)
        assert all(order.attempt > earlier.attempt for earlier in self.sent if earlier.leg is order.leg)
        self.sent.append(order)
        self.run = lifecycle.granted(self.run, order, submit.exit_reason)
        if outcome is Outcome.ACCEPTED or (outcome is Outcome.TIMEOUT and really):
            self.broker.place(order)
        cause = RejectCause.OTHER if outcome is Outcome.REJECTED else None
        self.run = apply_reply(self.run, order, Reply(outcome, cause=cause), self.now).run

    @invariant()
    def nothing_is_bought_or_sold_too_often(self) -> None:
        bought, sold = self.broker.filled("E"), self.broker.filled("X")
        assert bought <= QUANTITY
        assert sold <= bought
        assert sum(order.leg is Leg.ENTRY for order in self.sent) <= POLICY.entry_attempts
        assert sum(item.client_order_id[14] == "X" for item in self.broker.live()) <= 1

    @invariant()
    def the_run_never_believes_more_than_the_broker_proved(self) -> None:
        if self.sent:
            assert self.run.filled(Leg.ENTRY) <= self.broker.filled("E")
            assert self.run.filled(Leg.EXIT) <= self.broker.filled("X")

    def teardown(self) -> None:
        """From wherever it is, a broker that works brings the run to its end, or to where a human must look."""
        # Enough for a session of looks at what was given up.
        for _ in range(2000):
            if self.finished or not hasattr(self, "run"):
                return
            for item in self.broker.live():
                self.broker.move(item.client_order_id, ST.FILLED, item.quantity)
            self.run = lifecycle.absorb(self.run, self.broker.said, self.now).run
            urgent = next_action(self.run, Moment(self.now, self.now), POLICY)
            if urgent is not None:
                self._perform(urgent[1], Outcome.ACCEPTED, really=True)
                continue
            due = outlook(self.run, Moment(self.now, self.now), POLICY)[1]
            if due is None:
                break
            assert due > self.now
            self.now = due
        assert self.run.is_frozen
        assert self.run.held > 0
        assert self.run.status is RunStatus.FAILED


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
