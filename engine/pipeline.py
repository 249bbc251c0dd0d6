"""The ten steps of one event: validate, claim, decide, then build, intend, call and route, commit; and around again.

What to do is `engine.domain.decision`; steps 5 to 7 are `engine.actions`; storage is the store's scripts.
"""

import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from engine import lifecycle
from engine.actions import Actions, Stepped, Turn
from engine.domain.account_positions import with_own_fills
from engine.domain.action import Decision, Ignore, Policy, Submit, Wait
from engine.domain.decision import decide, next_action, outlook
from engine.domain.events import Event, EventType, MalformedEvent, parse_event
from engine.domain.moment import Moment
from engine.domain.run import Run
from engine.ports import (
    Clock,
    CorruptState,
    Glanced,
    Holding,
    LockLost,
    Log,
    NoSlot,
    Note,
    Publisher,
    Refused,
    Slot,
    Store,
    StoreClosed,
    StoreFault,
)

#: A wake-up this much too early waits for its time under the lock; an earlier one comes back by `due`.
EARLY_BY = timedelta(milliseconds=200)
#: A longer pause is no message: it would only wait in a worker's memory.
RETRY_BY_MESSAGE = timedelta(seconds=10)
#: How long a run waits whose account has no slot for another call.
PARKED = timedelta(milliseconds=200)
#: More steps than any run needs in one holding; past it the sweeper goes on.
MOST_STEPS = 50
#: Longest a thread goes on with one run, real time; the step under way is finished, and the sweeper goes on.
HOLDS_FOR = timedelta(seconds=10)

#: How long a commit is repeated while the live state is away, which is longer than a lease lasts, and how often.
INSISTS_FOR, INSISTS_EVERY = timedelta(seconds=15), timedelta(milliseconds=200)

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


class Pipeline:
    """Serves events. One instance a process; safe to call from many threads."""

    def __init__(
        self, store: Store, actions: Actions, clock: Clock, publisher: Publisher, policy: Policy, log: Log
    ) -> None:
        self._store = store
        self._actions = actions
        self._clock = clock
        self._publisher = publisher
        self._policy = policy
        self._log = log

    def process(self, message: object, reading: object = None) -> str:
        """Serve one message off a queue; returns the event's terminal outcome. Raises StoreClosed.

        `reading`: the run as the message tells it. Where that asks for an order, and is still so, `intend` locks the
        run, and no claim is needed.
        """
        try:
            event = parse_event(message)
        except MalformedEvent as error:
            self._store.dead_letter("queue", str(error), repr(message))
            self._log("dead_letter", reason=str(error))
            return "dead_letter"
        try:
            return self._take(event, reading)
        except CorruptState as error:
            self._log("state_unreadable", reason=str(error), **event.as_wire())
            self._store.unreadable(str(event.run_id), str(error))
            self._store.note(event, "state_unreadable")
            return "state_unreadable"

    def _take(self, event: Event, reading: object) -> str:
        """Serve an event under its run's lock. Raises CorruptState, StoreClosed."""
        began, token = self._clock.now().real, secrets.token_hex(8)
        if reading is not None and (glanced := self._store.glance(event, token, reading)):
            with suppress(Glanced):
                return self._serve(glanced, event, began)
        claimed = self._store.claim(event, token, SLOT_OF[event.type])
        if isinstance(claimed, Refused):
            self._log("event_refused", outcome=claimed.value, **event.as_wire())
            return claimed.value
        return self._serve(claimed, event, began)

    def _serve(self, holding: Holding, event: Event, began: datetime) -> str:
        """Act on the run until nothing is asked of it. Raises Glanced, having changed nothing."""
        try:
            return self._act(holding, event, began)
        except LockLost as error:
            # Nothing of the lost step was applied; the run's own fields bring whoever holds it to the same end.
            self._log("lock_lost", reason=str(error), **event.as_wire())
            self._store.note(event, "lock_lost")
            return "lock_lost"

    def _act(self, claimed: Holding, event: Event, began: datetime) -> str:
        """One step after the other; the first is the event's own and its terminal record."""
        outcome = ""
        holding: Holding | None = claimed
        announced = _pauses(claimed.run)
        for number in range(MOST_STEPS):
            if holding is None:
                break
            try:
                stepped = self._step(holding, event if number == 0 else None, number, began)
            except NoSlot:
                outcome = outcome or "parked"
                note = Note("event", event.id, event.type, "parked") if number == 0 else None
                holding = self._let_go(holding, number, note, after=PARKED)
                continue
            except StoreClosed as error:
                # Whoever asks next must not wait for the end of a lease nobody uses. A fault would only come again.
                if not isinstance(error, StoreFault):
                    with suppress(LockLost):
                        self._let_go(holding, number)
                raise
            outcome = outcome or stepped.note.outcome
            holding = self._commit(stepped, number, began)
            self._tell(stepped)
            for woken in stepped.wakes:
                self._publisher.publish(woken)
            announced = self._announce_retries(stepped.run, announced)
        took = round((self._clock.now().real - began) / timedelta(milliseconds=1), 2)
        self._log("event_served", outcome=outcome, ms=took, **event.as_wire())
        return outcome

    def _let_go(
        self, holding: Holding, number: int, note: Note | None = None, *, after: timedelta = timedelta(0)
    ) -> Holding | None:
        """Let go of a run and change nothing: what was signaled stays in it, and `due` brings it back `after` now."""
        untouched, due = replace(holding, evidence=(), consumed=()), self._clock.now().real + after
        return self._insist(lambda: self._store.commit(untouched, f"c{number}", holding.run, due, note, release=True))

    def _insist(self, commit: Callable[[], Holding | None]) -> Holding | None:
        """Commit, again and again while the live state is away: what a broker answered is lost otherwise, and the run
        is locked until its lease ends. Raises StoreClosed, LockLost."""
        until = self._clock.now().real + INSISTS_FOR
        while True:
            try:
                return commit()
            except StoreClosed as error:
                now = self._clock.now().real
                if isinstance(error, StoreFault) or now >= until:
                    raise
                self._clock.sleep_until(now + INSISTS_EVERY)

    def _tell(self, stepped: Stepped) -> None:
        """Alerts are rows by way of the record, and log lines at once."""
        for alert in stepped.note.alerts:
            facts = {"severity": alert.severity, "code": alert.code, "message": alert.message}
            self._log("alert", run=str(stepped.run.id), tenant=stepped.run.strategy.tenant, **facts)

    def _announce_retries(self, run: Run, announced: Collection[datetime]) -> Collection[datetime]:
        """Publish a wake-up for the end of each pause that is new and short; a long one is the sweeper's.

        An exit's is a SELL: it takes the slots and the threads of exits, whatever the account's entries hold.
        """
        pauses = {EventType.RETRY: run.entry_retry_at, EventType.SELL: run.exit_retry_at}
        for kind, due in pauses.items():
            if due is not None and due not in announced and due - self._clock.now().real <= RETRY_BY_MESSAGE:
                self._publisher.publish(Event(f"retry:{run.id}:{due:%H%M%S%f}", kind, run.id), at=due)
        return [due for due in pauses.values() if due is not None]

    def _step(self, holding: Holding, event: Event | None, number: int, began: datetime) -> Stepped:
        """One action: what arrived is absorbed, then the event, or else the run itself, says what to do."""
        now, kind = self._clock.now(), event.type if event else None
        absorbed = lifecycle.absorb(holding.run, holding.evidence, now.real)
        absorbed = replace(absorbed, run=with_own_fills(holding.run, absorbed.run, now.market))
        if absorbed.is_first_fill:
            # Whether an older breach still counts is the commit's to say, before anything else is decided.
            decision: Decision = Ignore("first_fill")
        else:
            kind, decision, now = self._decide(absorbed.run, kind, now)
        if holding.glanced_at and not isinstance(decision, Submit):
            raise Glanced(f"run {holding.run.id}: only an order locks what was glanced at")
        stepped = self._actions.perform(
            Turn(holding, absorbed.run, now, number, began, kind or EventType.ORDER_UPDATE), decision
        )
        note = replace(
            stepped.note,
            event_id=event.id if event else "",
            event_type=kind.value if kind else "",
            market_time=now.market,
            alerts=(*absorbed.alerts, *stepped.note.alerts),
        )
        if not absorbed.is_first_fill and not stepped.is_first_fill:
            return replace(stepped, note=note)
        return replace(stepped, note=note, first_fill=self._actions.first_fill(stepped))

    def _decide(self, run: Run, kind: EventType | None, now: Moment) -> tuple[EventType | None, Decision, Moment]:
        """What the event asks for, or, where that is nothing, the most urgent thing the run itself does."""
        decision: Decision = Ignore("nothing_new")
        if kind is not None:
            decision = decide(run, kind, now, self._policy)
            if isinstance(decision, Wait) and decision.until - now.real <= EARLY_BY:
                self._clock.sleep_until(decision.until)
                now = self._clock.now()
                decision = decide(run, kind, now, self._policy)
        if isinstance(decision, Ignore | Wait) and (urgent := next_action(run, now, self._policy)):
            kind, decision = urgent
        return kind, decision, now

    def _commit(self, stepped: Stepped, number: int, began: datetime) -> Holding | None:
        """Store the step and let go of the run, unless it asks for something else right now and its broker answers."""
        now = self._clock.now()
        asks, due = outlook(stepped.run, now, self._policy)
        lets_go = stepped.finished or stepped.lets_go or now.real - began > HOLDS_FOR
        more = asks and not lets_go
        if due is not None and stepped.not_before is not None:
            due = max(due, stepped.not_before)
        note = stepped.note
        says_nothing = not note.event_id and not note.alerts and stepped.run == stepped.holding.run
        return self._insist(
            lambda: self._store.commit(
                stepped.holding,
                f"c{number}",
                stepped.run,
                due,
                None if says_nothing else note,
                release=not more,
                first_fill=stepped.first_fill,
                finished=stepped.finished,
                unsent=stepped.unsent,
            )
        )


def _pauses(run: Run) -> Collection[datetime]:
    """When the run's legs go on that pause now, real time."""
    return [at for at in (run.entry_retry_at, run.exit_retry_at) if at is not None]
