"""How each action a decision asks for is carried out: steps 5 to 7, build, intend and call, route.

One handler an action, in one table. What is decided before and committed after is `engine.pipeline`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from engine import lifecycle
from engine.account_reading import settle, trades_of
from engine.accounts import AccountWatch
from engine.domain.account_positions import AccountReading, with_own_fills
from engine.domain.action import Abort, AskBook, Cancel, Decision, Finish, GiveUp, Ignore, Reprice, Submit, Tell, Wait
from engine.domain.broker import (
    BrokerUnreachable,
    OrderChange,
    OrderRequest,
    Outcome,
    RejectCause,
    Reply,
    TokenInvalid,
)
from engine.domain.disputes import told_of_disputes
from engine.domain.events import Event, EventType
from engine.domain.exits import REPRICES, UNPROVEN, ask, rests_at_the_lowest, tells_the_lowest
from engine.domain.health import DENIALS, DeniedBy, Heard, heard_of
from engine.domain.moment import Moment
from engine.domain.orders import Leg, Order, OrderTrigger
from engine.domain.routing import NOT_TAKEN, Alert, apply_reply, hold_for_token
from engine.domain.run import ExitReason, Run
from engine.domain.untraded import settled_by_agreement
from engine.domain.waiting import told_why
from engine.domain.whole_book import why_not_whole
from engine.ports import (
    BookWaits,
    Broker,
    Brokers,
    Clock,
    Denied,
    Holding,
    Log,
    NoSlot,
    Note,
    Store,
    StoreClosed,
    Timers,
)
from engine.shared_book import LOOKS_AGAIN, SharedBooks

#: Longest a broker's answer to a read or a cancel may take, retries included.
ANSWER_WITHIN = timedelta(seconds=15)
#: How long an attempt waits at least that was denied.
DENIED_FOR = timedelta(milliseconds=100)
#: When the sweeper looks at an attempt whose sender said nothing more, after `send_by`.
LOOK_AFTER = timedelta(seconds=5)
#: When an entry is tried again whose token is refused to orders and not to reads.
TOKEN_ASKED_AGAIN = timedelta(seconds=1)
#: When a resting exit is priced again where the broker said nothing of its price, or did not take the change.
PRICED_AGAIN = timedelta(seconds=2)
#: How often the book is asked because of an exit that was denied what its account has less of than was known.
COVER_ASKED_EVERY = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of one holding: the run with all evidence absorbed, and the instant everything is decided at."""

    holding: Holding
    run: Run
    now: Moment
    number: int
    #: When the event was taken up, real time.
    began: datetime
    #: What the step is about.
    kind: EventType = EventType.ORDER_UPDATE


@dataclass(frozen=True, slots=True)
class Stepped:
    """A run after one action: what it was stored as before, and what the commit must do beside storing it."""

    #: What the commit proves itself against; `intend` has stored a part already.
    holding: Holding
    run: Run
    note: Note
    #: Whether this step learned of the first fill, and when that was, market time.
    is_first_fill: bool = False
    first_fill: datetime | None = None
    finished: bool = False
    #: Whether the broker did not answer: the run is let go, and comes back by `due`, so that no thread waits for it.
    lets_go: bool = False
    #: Where it is let go: when it comes back by `due` at the earliest.
    not_before: datetime | None = None
    #: Runs that waited for what this step has learned.
    wakes: Sequence[Event] = ()
    #: Whether the attempt of this step provably never was taken by the broker.
    unsent: bool = False


class Actions:
    """Carries decisions out. Effects go through ports only."""

    def __init__(self, store: Store, brokers: Brokers, clock: Clock, timers: Timers, deployment: str, log: Log) -> None:
        self._store = store
        self._brokers = brokers
        self._clock = clock
        self._timers = timers
        self._deployment = deployment
        self._log = log
        self._accounts = AccountWatch(store, log)
        self._books = SharedBooks(store, clock, deployment)
        self._handlers: dict[type[Decision], Callable[[Turn, Any], Stepped]] = {
            Submit: self._submit,
            Cancel: self._cancel,
            Reprice: self._reprice,
            AskBook: self._ask_book,
            GiveUp: self._give_up,
            Tell: self._tell,
            Abort: self._abort,
            Finish: self._finish,
            Ignore: self._ignore,
            Wait: self._wait,
        }

    def perform(self, turn: Turn, decision: Decision) -> Stepped:
        """Carry `decision` out; raises LockLost, StoreClosed."""
        return self._handlers[type(decision)](turn, decision)

    def first_fill(self, stepped: Stepped) -> datetime:
        """When the first unit filled, market time: a breach older than that does not count.

        Evidence tells an order's last fill, only its trades the first. They are asked for where a breach waits for
        the answer; elsewhere, and where they are not to be had, every breach counts since the entry was granted.
        """
        run, entries = stepped.run, [o for o in stepped.run.orders if o.leg is Leg.ENTRY and o.filled_quantity]
        earliest = run.held_since or run.buy_at
        if run.latch is None:
            return earliest
        self._store.extend(stepped.holding, ANSWER_WITHIN)
        broker = self._brokers.of(run.strategy.account_id, stepped.holding.account_version)
        try:
            trades = [trade for order in entries for trade in trades_of(broker, order.broker_order_id)]
        except (BrokerUnreachable, TokenInvalid):
            return earliest
        return min((trade.filled_at for trade in trades), default=earliest)

    def _submit(self, turn: Turn, submit: Submit) -> Stepped:
        """Build, intend, send, route."""
        # Before an attempt is granted: an account that cannot be reached from here must not cost one.
        broker = self._broker(turn)
        run, now, settles_after = turn.run, turn.now, broker.profile.settles_after
        order = lifecycle.next_order(run, submit.leg, submit.quantity, self._deployment, now, settles_after)
        wanted = lifecycle.granted(run, order, submit.exit_reason)
        denied = self._store.intend(
            turn.holding,
            f"i{turn.number}",
            turn.holding.run,
            wanted,
            order,
            order.send_by + LOOK_AFTER,
            Note(f"{submit.leg}_intended", outcome="intended", market_time=now.market),
        )
        # Granted or denied: by now it is locked.
        turn = replace(turn, holding=replace(turn.holding, glanced_at=""))
        if denied is not None:
            return self._denied(turn, order, denied)
        granted, sent_at = self._clock.now().real, list[datetime]()

        def may_send() -> bool:
            sent_at.append(self._clock.now().real)
            return sent_at[-1] <= order.send_by

        reply = broker.place(_request(run, order), may_send)
        answered = self._clock.now().real
        is_not_taken = reply.outcome in NOT_TAKEN
        reply = self._doubting_its_token(turn, broker, order.leg, reply)
        # A connection that could not be made was never asked about: that is trouble of the line, not of ours.
        was_late = bool(sent_at) and sent_at[0] > order.send_by
        if was_late and order.leg is Leg.EXIT:
            # Nothing is wrong with its broker: the next exit need not wait. An entry has few attempts to spend.
            reply = replace(reply, retry_after=0.0)
        self._hear(turn, order.leg, reply, was_late=was_late)
        routed = apply_reply(wanted, order, reply, answered, is_not_taken=is_not_taken)
        stages = _stages(turn, submit, granted, sent_at[0], answered) if sent_at else {}
        self._log(
            "order_sent",
            run=str(run.id),
            tenant=run.strategy.tenant,
            client_order_id=order.client_order_id,
            broker_order_id=reply.broker_order_id,
            outcome=reply.outcome,
            message=reply.message,
            **stages,
        )
        asked_for = timedelta(seconds=reply.retry_after or 0.0)
        waits = lifecycle.denied_alert(order, DENIALS[DeniedBy.BROKER], asked_for)
        action, outcome = f"{submit.leg}_{reply.outcome}", f"submitted: {reply.outcome}"
        note = Note(action, outcome=outcome, alerts=(*routed.alerts, *waits), stages=stages)
        held = replace(turn.holding, run=wanted, consumed=(), evidence=())
        return Stepped(held, routed.run, note, unsent=is_not_taken)

    def _denied(self, turn: Turn, order: Order, denied: Denied) -> Stepped:
        """The engine's own no: asked again when that can help, and an entry that cannot wait for a human ends."""
        why, until = DENIALS[denied.by], turn.now.real + max(denied.retry_after, DENIED_FOR)
        if denied.by is DeniedBy.TOKEN and order.leg is Leg.ENTRY:
            if not self._refuses_token(turn, self._broker(turn)):
                after = turn.run.pausing(order.leg, turn.now.real + TOKEN_ASKED_AGAIN)
                return Stepped(turn.holding, after, Note("denied", outcome="denied: access token is asked for again"))
            after = replace(turn.run, abort_requested=f"entry_denied: {why}")
            return Stepped(turn.holding, after, Note("denied", outcome=f"denied: {why}"))
        if denied.by is DeniedBy.TOKEN:
            # As where its own attempt had been refused: the account's exits share one that tries.
            held = hold_for_token(turn.run.pausing(order.leg, until))
            return Stepped(turn.holding, held.run, Note("denied", outcome=f"denied: {why}", alerts=held.alerts))
        if denied.by is DeniedBy.COVER and turn.run.net is None:
            # Positions alone have shown that there is less than this run holds: how much, the book says.
            asked = ask(turn.run, "cover", turn.now, COVER_ASKED_EVERY)
            if isinstance(asked, AskBook):
                return self.perform(turn, asked)
        alerts = lifecycle.denied_alert(order, why, denied.retry_after)
        note = Note("denied", outcome=f"denied: {why} until {until.isoformat()}", alerts=alerts)
        after = lifecycle.denied(turn.run, order, why).pausing(order.leg, until)
        return Stepped(turn.holding, after, note)

    def _doubting_its_token(self, turn: Turn, broker: Broker, leg: Leg, reply: Reply) -> Reply:
        """`reply`, or a plain refusal where it alone says that the token is dead: no entry is aborted for a slip.

        An exit is not asked about: it is tried on anyway, and sooner.
        """
        if reply.outcome is not Outcome.TOKEN_INVALID or leg is Leg.EXIT:
            return reply
        try:
            is_dead = self._refuses_token(turn, broker)
        except (NoSlot, StoreClosed):
            # The answer itself is what must be kept.
            is_dead = False
        return reply if is_dead else replace(reply, outcome=Outcome.REJECTED, cause=RejectCause.OTHER)

    def _refuses_token(self, turn: Turn, broker: Broker) -> bool:
        """Whether the broker refuses the account's token to a cheap read too. Raises LockLost, NoSlot."""
        self._store.extend(turn.holding, ANSWER_WITHIN)
        try:
            broker.account_id()
        except TokenInvalid:
            return True
        except BrokerUnreachable:
            return False
        self._accounts.read(turn.run.strategy.account_id, turn.holding.account_version)
        return False

    def _hear(self, turn: Turn, leg: Leg, reply: Reply, *, was_late: bool) -> None:
        """What the reply tells of the account; nothing where it says what is known, or where we were late ourselves."""
        if was_late or (heard_of(reply) is Heard.ANSWERED and not turn.holding.is_troubled):
            return
        self._accounts.placed(turn.run.strategy.account_id, turn.holding.account_version, leg, reply)

    def _cancel(self, turn: Turn, cancel: Cancel) -> Stepped:
        self._store.extend(turn.holding, ANSWER_WITHIN)
        reply = self._broker(turn).cancel(cancel.order.broker_order_id)
        order = cancel.order.on(OrderTrigger.REQUEST_CANCEL, turn.now.real, cancel.reason)
        order = replace(order, cancels=order.cancels + 1)
        asked = turn.run.with_order(order)
        # Anything but a plain yes, and the book tells what became of it: refused may well mean filled.
        doubtful = reply.outcome is not Outcome.ACCEPTED
        after = replace(asked, dirty=turn.run.dirty or doubtful)
        unanswered = reply.outcome in (Outcome.TIMEOUT, Outcome.SERVER_DOWN)
        alerts = lifecycle.told_that_it_stays(turn.run, order, reply.message or reply.outcome)
        note = Note("cancel", outcome=f"cancel: {reply.outcome}", alerts=alerts)
        return Stepped(turn.holding, after, note, lets_go=unanswered)

    def _reprice(self, turn: Turn, reprice: Reprice) -> Stepped:
        """Lower a resting exit's limit to the day's lowest price, where it takes whatever is bid.

        It keeps its id, so no second exit can come of it, and at the lower circuit its place in the queue. One whose
        price is changed in vain, refused or without effect, or that no quote can be read for, is canceled: it would
        rest above the market for ever.
        """
        self._store.extend(turn.holding, ANSWER_WITHIN)
        run, order, broker = turn.run, reprice.order, self._broker(turn)
        try:
            quotes = broker.quote([run.strategy.symbol])
        except (BrokerUnreachable, TokenInvalid) as error:
            if order.reprices < REPRICES or run.unread_since is not None:
                # The book is read before the next try: where it cannot be either, no exit could follow this one.
                return self._unpriced(turn, reprice, f"left: {error}", dirty=True)
            quotes = ()
        quote = next((each for each in quotes if tells_the_lowest(order, each)), None)
        if quote is not None and rests_at_the_lowest(order, quote):
            return self._repriced(turn, reprice, "left: nothing better is allowed")
        if quote is None or order.reprices >= REPRICES:
            # Nothing says how low a limit may be, or its broker changes none: only a new order is priced by the broker.
            order, alerts = lifecycle.told_that_it_rests(run, order, reprice.reason)
            canceled = self._cancel(turn, Cancel(order, reprice.reason))
            return replace(canceled, note=replace(canceled.note, alerts=alerts))
        lowest = quote.lower_band
        reply = broker.modify(order.broker_order_id, OrderChange(limit_price=lowest))
        tried = replace(reprice, order=replace(order, reprices=order.reprices + 1))
        if reply.outcome is Outcome.ACCEPTED:
            lowered = replace(tried, order=replace(tried.order, limit_price=lowest))
            return self._repriced(turn, lowered, f"limit {lowest}")
        if reply.outcome is not Outcome.REJECTED or reply.cause is RejectCause.RATE_LIMITED:
            return self._unpriced(turn, reprice, reply.outcome, dirty=reply.outcome is Outcome.TIMEOUT)
        # Refused may well mean filled, or canceled by somebody else.
        return self._unpriced(turn, reprice, reply.outcome, dirty=True)

    def _repriced(self, turn: Turn, reprice: Reprice, outcome: str) -> Stepped:
        order, alerts = lifecycle.told_that_it_rests(turn.run, reprice.order, reprice.reason)
        after = turn.run.with_order(replace(order, repriced_at=turn.now.real))
        after = replace(after, exit_reason=reprice.exit_reason or after.exit_reason)
        return Stepped(turn.holding, after, Note("reprice", outcome=f"{reprice.reason}: {outcome}", alerts=alerts))

    def _unpriced(self, turn: Turn, reprice: Reprice, outcome: str, *, dirty: bool = False) -> Stepped:
        """Nothing was priced: it is tried again soon, and told as if it had been.

        A stronger cause tries so a few times: then it counts as met, and the exit is looked after as any that rests.
        """
        tried = replace(reprice.order, reprices=reprice.order.reprices + 1)
        order, alerts = lifecycle.told_that_it_rests(turn.run, tried, reprice.reason)
        is_given_up = reprice.exit_reason is not None and order.reprices > REPRICES
        after = replace(turn.run.with_order(order), dirty=turn.run.dirty or dirty)
        after = replace(after, exit_reason=reprice.exit_reason) if is_given_up else after
        note = Note("reprice", outcome=f"{reprice.reason}: {outcome}", alerts=alerts)
        return Stepped(turn.holding, after, note, lets_go=True, not_before=turn.now.real + PRICED_AGAIN)

    def _ask_book(self, turn: Turn, ask: AskBook) -> Stepped:
        """Read the account, and settle what became of the run's orders and what the account has."""
        self._store.extend(turn.holding, ANSWER_WITHIN)
        broker = self._broker(turn)
        if ask.reason == UNPROVEN:
            turn = replace(turn, run=replace(turn.run, unproven_since=turn.run.unproven_since or turn.now.real))
        try:
            found = self._books.read(turn.holding, turn.run, broker, turn.kind, anew=turn.number > 0)
            if isinstance(found, BookWaits):
                return self._await_book(turn, found)
            now = turn.now.at(found.at)
            if why := why_not_whole(turn.run, {entry.tag for entry in found.book}, now):
                return self._book_unread(turn, why, found.wakes)
            adopted = lifecycle.adopt(turn.run, found.book, self._deployment, now.real)
            booked = lifecycle.evidence_of(found.book, adopted)
            evidence, untraded = settle(broker, adopted, booked)
        except (BrokerUnreachable, TokenInvalid) as error:
            return self._book_unread(turn, str(error))
        if turn.holding.is_troubled:
            self._accounts.read(turn.run.strategy.account_id, turn.holding.account_version)
        adopted, doubles = lifecycle.told_of_doubles(found.book, adopted)
        learned = lifecycle.after_book(adopted, evidence, now, broker.profile.settles_after, untraded)
        read, disputes = told_of_disputes(learned.run, booked, now.real)
        checked, uncovered = self._cover(turn, found.reading, read, now, untraded)
        checked = lifecycle.await_cover(checked, now)
        alerts = (*learned.alerts, *doubles, *disputes, *uncovered)
        note = Note("book_read", outcome=f"book read: {ask.reason}", alerts=alerts)
        return Stepped(turn.holding, checked, note, is_first_fill=learned.is_first_fill, wakes=found.wakes)

    def _book_unread(self, turn: Turn, why: str, wakes: Sequence[Event] = ()) -> Stepped:
        # The answer took its time: the pause before the next question begins now.
        after, alerts = lifecycle.book_unread(turn.run, self._clock.now(), why, turn.now.real)
        note = Note("book_unreadable", outcome=f"book unreadable: {why}", alerts=alerts)
        return Stepped(turn.holding, after, note, lets_go=True, wakes=wakes)

    def _cover(
        self, turn: Turn, reading: AccountReading | str, read: Run, now: Moment, untraded: Mapping[str, str]
    ) -> tuple[Run, tuple[Alert, ...]]:
        """`read`, whose orders are settled but for those `untraded`, with what its account has by `reading`, if any."""
        unread = reading if isinstance(reading, str) else reading.unread(read.strategy.symbol, read.strategy.product)
        net = None if isinstance(reading, str) else self._store.cover(read.strategy.account_id, reading, read)
        seen, untold = settled_by_agreement(read, untraded, None if unread else net, now.real)
        if not isinstance(reading, str):
            seen = with_own_fills(turn.holding.run, replace(seen, net=net), now.market)
        if why := unread or untold:
            return lifecycle.positions_unread(turn.run, seen, self._clock.now(), why, turn.now.real)
        return lifecycle.check_cover(seen)

    def _await_book(self, turn: Turn, waits: BookWaits) -> Stepped:
        """Another reads the account: the run is let go, and woken once that is told."""
        run, alerts, now = turn.run, tuple[Alert, ...](), self._clock.now()
        if waits.failed:
            run, alerts = lifecycle.book_unread(run, now, "its account is asked, and does not answer", turn.now.real)
        note = Note("book_awaited", outcome="waits for the account's book", alerts=alerts)
        return Stepped(turn.holding, run, note, lets_go=True, not_before=now.real + LOOKS_AGAIN)

    def _give_up(self, turn: Turn, give_up: GiveUp) -> Stepped:
        order = give_up.order
        message = f"{order.client_order_id} stayed absent from the book; the next attempt goes out, it is watched on"
        after = turn.run.with_order(replace(order, given_up=True))
        note = Note("given_up", outcome="given_up", alerts=(Alert("warning", "attempt_given_up", message),))
        return Stepped(turn.holding, after, note)

    def _tell(self, turn: Turn, tell: Tell) -> Stepped:
        after, alert = told_why(turn.run, tell)
        return Stepped(turn.holding, after, Note("told", outcome=f"told: {alert.code}", alerts=(alert,)))

    def _abort(self, turn: Turn, abort: Abort) -> Stepped:
        after, alerts = lifecycle.abort(turn.run, abort.reason)
        return Stepped(turn.holding, after, Note("aborted", outcome=f"aborted: {abort.reason}", alerts=alerts))

    def _finish(self, turn: Turn, finish: Finish) -> Stepped:
        """STOP: timers first, for they can be removed again; group, state and row go with the commit."""
        after, alerts = lifecycle.finish(turn.run, finish.status, finish.reason, turn.now.real)
        self._timers.cancel(turn.run.id)
        note = Note("stopped", outcome=f"{finish.status}: {finish.reason}", alerts=alerts)
        return Stepped(turn.holding, after, note, finished=True)

    def _ignore(self, turn: Turn, ignore: Ignore) -> Stepped:
        return Stepped(turn.holding, turn.run, Note("event", outcome=f"ignored: {ignore.reason}"))

    def _wait(self, turn: Turn, wait: Wait) -> Stepped:
        return Stepped(turn.holding, turn.run, Note("event", outcome=f"waits: {wait.until.isoformat()}"))

    def _broker(self, turn: Turn) -> Broker:
        return self._brokers.of(turn.run.strategy.account_id, turn.holding.account_version)


def _request(run: Run, order: Order) -> OrderRequest:
    strategy = run.strategy
    return OrderRequest(
        client_order_id=order.client_order_id,
        symbol=strategy.symbol,
        side=order.side,
        quantity=order.quantity,
        order_type=strategy.order_type,
        product=strategy.product,
    )


def _stages(turn: Turn, submit: Submit, granted: datetime, sent: datetime, answered: datetime) -> dict[str, float]:
    """Real ms: each step of the order, and how late it left after its cause."""
    run, now = turn.run, turn.now
    stages = {"intend_ms": granted - now.real, "send_ms": sent - granted, "broker_ms": answered - sent}
    if turn.number == 0:
        stages["claim_ms"] = now.real - turn.began
    if submit.leg is Leg.ENTRY:
        stages["timer_lateness_ms"] = now.late(run.buy_at)
    elif submit.exit_reason is ExitReason.SCHEDULE:
        stages["timer_lateness_ms"] = now.late(run.sell_at)
    elif submit.exit_reason is ExitReason.STOP_LOSS and run.latch and run.latch.seen_at:
        stages["wake_ms"] = turn.began - run.latch.seen_at
        if run.latch.latched_at:
            stages["publish_ms"] = run.latch.latched_at - run.latch.seen_at
            stages["queue_ms"] = turn.began - run.latch.latched_at
        stages["tick_to_order_ms"] = sent - run.latch.seen_at
    return {name: _ms(span) for name, span in stages.items()}


def _ms(span: timedelta) -> float:
    return round(span / timedelta(milliseconds=1), 3)
