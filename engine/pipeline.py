"""The ten steps of one event: validate, claim, decide, build, intend, call, route, commit, and around again.

Effects go through ports only. What to do is `engine.domain.decision`, what follows is `engine.domain.routing`.
"""

import secrets
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from engine import lifecycle
from engine.domain.broker import BrokerUnreachable, OrderRequest, Outcome, TokenInvalid
from engine.domain.decision import (
    Abort,
    Action,
    AskBook,
    Cancel,
    Finish,
    GiveUp,
    Ignore,
    Policy,
    Submit,
    Wait,
    decide,
    next_action,
    next_attention,
)
from engine.domain.events import Event, EventType, MalformedEvent, parse_event
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderTrigger
from engine.domain.routing import Alert, apply_reply
from engine.domain.run import Run
from engine.ports import (
    Broker,
    Brokers,
    Clock,
    Denied,
    Holding,
    LockLost,
    Log,
    Note,
    Publisher,
    Refused,
    Slot,
    Store,
    Timers,
)

#: Real time from `intend` within which the order's bytes must be written.
SEND_WITHIN = timedelta(seconds=2)
#: A wake-up this much too early waits for its time under the lock; an earlier one comes back by `due`.
EARLY_BY = timedelta(milliseconds=200)
#: More steps than any run needs in one holding; past it the sweeper goes on.
MOST_STEPS = 50

#: Which of the account's in-flight slots an event takes.
SLOT_OF: dict[EventType, Slot] = {
    EventType.BUY: Slot.ENTRY,
    EventType.RETRY: Slot.ENTRY,
    EventType.SELL: Slot.EXIT,
    EventType.STOPLOSS: Slot.EXIT,
    EventType.FORCE_STOP: Slot.EXIT,
    EventType.SAFETY_ABORT: Slot.EXIT,
    EventType.ORDER_UPDATE: Slot.NONE,
}


@dataclass(frozen=True, slots=True)
class Stepped:
    """A run after one action: what its record says, and what the commit must do beside storing it."""

    run: Run
    note: Note
    first_fill: datetime | None = None
    finished: bool = False


class Pipeline:
    """Serves events. One instance a process; safe to call from many threads."""

    def __init__(
        self,
        store: Store,
        brokers: Brokers,
        clock: Clock,
        timers: Timers,
        publisher: Publisher,
        policy: Policy,
        deployment: str,
        log: Log,
    ) -> None:
        self._store = store
        self._brokers = brokers
        self._clock = clock
        self._timers = timers
        self._publisher = publisher
        self._policy = policy
        self._deployment = deployment
        self._log = log

    def process(self, message: object) -> str:
        """Serve one message off a queue; returns the event's terminal outcome. Raises StoreClosed."""
        try:
            event = parse_event(message)
        except MalformedEvent as error:
            self._store.dead_letter("queue", str(error), repr(message))
            self._log("dead_letter", reason=str(error))
            return "dead_letter"
        claimed = self._store.claim(event, secrets.token_hex(8), SLOT_OF[event.type])
        if isinstance(claimed, Refused):
            self._log("event_refused", outcome=claimed.value, **event.as_wire())
            return claimed.value
        try:
            return self._serve(claimed, event)
        except LockLost as error:
            # Nothing of the lost step was applied; the run's own fields bring whoever holds it to the same end.
            self._log("lock_lost", reason=str(error), **event.as_wire())
            return "lock_lost"

    def _serve(self, holding: Holding | None, event: Event) -> str:
        """Act until nothing is asked of the run; the first step is the event's own and its terminal record."""
        outcome, started = "", time.monotonic()
        for turn in range(MOST_STEPS):
            assert holding is not None
            stepped, holding = self._step(holding, event if turn == 0 else None, turn)
            outcome = outcome or stepped.note.outcome
            retry_at = stepped.run.retry_at
            more = self._more(stepped)
            holding = self._commit(holding, stepped, turn, release=not more)
            if holding is None:
                if retry_at is not None:
                    self._publisher.publish(_retry(event, retry_at), at=retry_at)
                break
        self._log("event_served", outcome=outcome, ms=round((time.monotonic() - started) * 1e3, 2), **event.as_wire())
        return outcome

    def _step(self, holding: Holding, event: Event | None, turn: int) -> tuple[Stepped, Holding]:
        """One action: what arrived is absorbed, then the event, or else the run itself, says what to do."""
        now = self._clock.now()
        absorbed = lifecycle.absorb(holding.run, holding.evidence, now.real, now.market)
        run = absorbed.run
        action: Action | Ignore | Wait | None = None
        kind = event.type if event else None
        if event is not None:
            action = decide(run, event.type, now, self._policy)
            if isinstance(action, Wait) and action.until - now.real <= EARLY_BY:
                self._clock.sleep_until(action.until)
                now = self._clock.now()
                action = decide(run, event.type, now, self._policy)
        if absorbed.first_fill is not None:
            # Whether an older breach still counts is the commit's to say, before anything else is decided.
            action = action if isinstance(action, Abort) else Ignore("first_fill")
        elif action is None or isinstance(action, Ignore | Wait):
            urgent = next_action(run, now, self._policy)
            kind, action = urgent or (kind, action)
        stepped, holding = self._perform(run, holding, action, now, turn)
        event_type = kind.value if kind else ""
        note = replace(stepped.note, event_id=event.id if event else "", event_type=event_type, market_time=now.market)
        note = replace(note, alerts=(*absorbed.alerts, *note.alerts))
        return replace(stepped, note=note, first_fill=absorbed.first_fill or stepped.first_fill), holding

    def _perform(
        self, run: Run, holding: Holding, action: Action | Ignore | Wait | None, now: Moment, turn: int
    ) -> tuple[Stepped, Holding]:
        match action:
            case Submit():
                return self._submit(run, holding, action, now, turn)
            case Cancel(order, reason):
                return self._cancel(run, holding, order, reason, now), holding
            case AskBook(reason):
                return self._ask_book(run, holding, reason, now), holding
            case GiveUp(order):
                alert = Alert("warning", "attempt_given_up", f"{order.client_order_id} stayed absent; watched on")
                after = run.with_order(replace(order, given_up=True))
                return Stepped(after, Note("given_up", outcome="given_up", alerts=(alert,))), holding
            case Abort(reason):
                after, alerts = lifecycle.abort(run, reason)
                return Stepped(after, Note("aborted", outcome=f"aborted: {reason}", alerts=alerts)), holding
            case Finish(status, reason):
                after, alerts = lifecycle.finish(run, status, reason)
                self._timers.cancel(run.id)
                note = Note("stopped", outcome=f"{status}: {reason}", alerts=alerts)
                return Stepped(after, note, finished=True), holding
            case Ignore(reason):
                return Stepped(run, Note("event", outcome=f"ignored: {reason}")), holding
            case Wait(until):
                return Stepped(run, Note("event", outcome=f"waits: {until.isoformat()}")), holding
            case None:
                return Stepped(run, Note("event", outcome="served")), holding

    def _submit(self, run: Run, holding: Holding, submit: Submit, now: Moment, turn: int) -> tuple[Stepped, Holding]:
        """Build, intend, send, route."""
        order = lifecycle.next_order(run, submit.leg, submit.quantity, self._deployment, now.real + SEND_WITHIN)
        wanted = replace(run.with_order(order), exit_reason=submit.exit_reason or run.exit_reason, retry_at=None)
        due = order.send_by + self._policy.silence_limit
        intended = Note(f"{submit.leg}_intended", outcome="intended")
        denied = self._store.intend(holding, f"i{turn}", holding.run, wanted, order, due, intended)
        if denied is not None:
            return self._denied(run, denied, now), holding
        holding = replace(holding, run=wanted, consumed=(), evidence=())
        sent_at: list[datetime] = []

        def may_send() -> bool:
            sent_at.append(self._clock.now().real)
            return sent_at[-1] <= order.send_by

        reply = self._broker(holding).place(self._request(run, order), may_send)
        answered = self._clock.now().real
        routed = apply_reply(wanted, order, reply, answered)
        note = Note(
            f"{submit.leg}_{reply.outcome}",
            outcome=f"submitted: {reply.outcome}",
            alerts=routed.alerts,
            stages=self._stages(run, submit, now, sent_at[0] if sent_at else None, answered),
        )
        self._log(
            "order_sent",
            run=str(run.id),
            tenant=run.strategy.tenant,
            client_order_id=order.client_order_id,
            broker_order_id=reply.broker_order_id,
            outcome=reply.outcome,
            message=reply.message,
            **note.stages,
        )
        return Stepped(routed.run, note), holding

    def _denied(self, run: Run, denied: Denied, now: Moment) -> Stepped:
        """Our own refusal: the account's rate window is full; again when it opens."""
        outcome = f"denied: {denied.window} rate"
        return Stepped(replace(run, retry_at=now.real + denied.retry_after), Note("denied", outcome=outcome))

    @staticmethod
    def _stages(
        run: Run, submit: Submit, now: Moment, sent_at: datetime | None, answered: datetime
    ) -> dict[str, float]:
        """Real ms: how late the order left after its cause, and how long the broker took."""
        if sent_at is None:
            return {}
        stages = {"broker_ms": _ms(answered - sent_at), "decide_to_send_ms": _ms(sent_at - now.real)}
        if submit.leg is Leg.ENTRY:
            stages["timer_lateness_ms"] = _ms(now.late(run.buy_at))
        elif submit.exit_reason == "schedule":
            stages["timer_lateness_ms"] = _ms(now.late(run.sell_at))
        elif submit.exit_reason == "stop_loss" and run.latch and run.latch.seen_at:
            stages["tick_to_order_ms"] = _ms(sent_at - run.latch.seen_at)
        return stages

    def _cancel(self, run: Run, holding: Holding, order: Order, reason: str, now: Moment) -> Stepped:
        reply = self._broker(holding).cancel(order.broker_order_id)
        asked = run.with_order(order.on(OrderTrigger.REQUEST_CANCEL, now.real, reason))
        # Anything but a plain yes, and the book tells what became of it: refused may well mean filled.
        doubtful = reply.outcome is not Outcome.ACCEPTED
        return Stepped(replace(asked, dirty=run.dirty or doubtful), Note("cancel", outcome=f"cancel: {reply.outcome}"))

    def _ask_book(self, run: Run, holding: Holding, reason: str, now: Moment) -> Stepped:
        broker = self._broker(holding)
        try:
            book = broker.orders()
        except (BrokerUnreachable, TokenInvalid) as error:
            after = replace(run, book_asked_at=now.real)
            return Stepped(after, Note("book_unreadable", outcome=f"book unreadable: {error}"))
        adopted = lifecycle.adopt(run, book, self._deployment, now.real)
        evidence, doubles = lifecycle.evidence_of(book, adopted)
        learned = lifecycle.absorb(adopted, evidence, now.real, now.market)
        after = replace(learned.run, dirty=False, book_asked_at=now.real, book_read_at=now.real)
        note = Note("book_read", outcome=f"book read: {reason}", alerts=(*learned.alerts, *doubles))
        return Stepped(after, note, first_fill=learned.first_fill)

    def _more(self, stepped: Stepped) -> bool:
        """Whether the run asks for something else right now; a first fill's latch is decided by the commit."""
        if stepped.finished:
            return False
        return next_action(stepped.run, self._clock.now(), self._policy) is not None

    def _commit(self, holding: Holding, stepped: Stepped, turn: int, *, release: bool) -> Holding | None:
        due = next_attention(stepped.run, self._clock.now(), self._policy)
        note = stepped.note
        says_nothing = not note.event_id and not note.alerts and stepped.run == holding.run
        return self._store.commit(
            holding,
            f"c{turn}",
            stepped.run,
            due,
            None if says_nothing else note,
            release=release,
            first_fill=stepped.first_fill,
            finished=stepped.finished,
        )

    def _broker(self, holding: Holding) -> Broker:
        return self._brokers.of(holding.run.strategy.account_id, holding.account_version)

    def _request(self, run: Run, order: Order) -> OrderRequest:
        strategy = run.strategy
        return OrderRequest(
            client_order_id=order.client_order_id,
            symbol=strategy.symbol,
            side=order.side,
            quantity=order.quantity,
            order_type=strategy.order_type,
            product=strategy.product,
        )


def _retry(event: Event, at: datetime) -> Event:
    return Event(f"retry:{event.run_id}:{at:%H%M%S%f}", EventType.RETRY, event.run_id)


def _ms(span: timedelta) -> float:
    return round(span / timedelta(milliseconds=1), 3)
