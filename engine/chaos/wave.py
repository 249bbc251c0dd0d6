"""A wave: faults put in at once with the trials they meet, looked at many times a second until all of it is over."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests
from sqlalchemy.exc import SQLAlchemyError

from engine.chaos.fault import ANYTHING, Fault, When
from engine.chaos.field import Course, Field
from engine.chaos.judge import by_hand, by_run
from engine.chaos.trial import QUANTITY, Style, Trial, due_now, finding_of, recovered
from engine.domain.events import EventType
from engine.domain.run import RunStatus
from models.repositories.history import Alerts
from models.repositories.runs import Runs

#: Seconds between two looks; between two looks at what PostgreSQL says; between two prices through a stop.
LOOK_EVERY, ASK_EVERY, PRICE_EVERY = 0.1, 1.0, 0.5
#: How long before the buy time, and before the exit, a fault of that phase is put in, seconds.
AHEAD_OF_ENTRY, AHEAD_OF_EXIT = 1.2, 0.7
#: How long after the buy time strategies that have not bought are no longer waited for, seconds.
HOLDING_BY = 3.0
#: How much before its exit is due a trial may be seen sold: the looks' own grain.
EARLY_BY = timedelta(milliseconds=300)
#: How late a tenant without faults may be sold out, seconds.
BYSTANDER_BOUND = 5.0
#: How long a fault is waited for that does not strike, after everything else is over, seconds.
STRIKES_WITHIN = 2.0


@dataclass(slots=True)
class Placed:
    """A fault, its trials, and how far its course is."""

    fault: Fault
    when: When
    field: Field
    course: Course | None = None
    over_at: float | None = None

    @property
    def trials(self) -> list[Trial]:
        """Those it meets."""
        return self.field.trials


@dataclass(slots=True)
class Wave:
    """Everything in the air at one time."""

    placed: list[Placed]
    buys: datetime
    #: When it was prepared, real time.
    began: datetime
    #: Trials of a tenant no fault concerns.
    bystanders: list[Trial] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    _priced_at: float = 0.0
    _asked_at: float = 0.0
    _idle_since: float | None = None

    @property
    def trials(self) -> list[Trial]:
        """All of them."""
        return [*(trial for each in self.placed for trial in each.trials), *self.bystanders]

    def begin(self, placed: Placed) -> None:
        """Put one fault in."""
        placed.course = placed.fault.put(placed.field)
        self._advance(placed)

    def run(self, told: Callable[[], None]) -> None:
        """Look until everything is over, each trial within its fault's bound."""
        while not self._is_over():
            self._look()
            told()
            time.sleep(LOOK_EVERY)
        for placed in self.placed:
            for undo in placed.field.undo:
                undo()
            placed.field.paper.clear_faults()
        for trial in self.trials:
            self._conclude(trial)

    def _look(self) -> None:
        # A broker that listens to nobody does not listen to us either; its ledger is read when it does again.
        with suppress(requests.RequestException):
            self._read_broker()
        for placed in self.placed:
            if placed.course is None and self._is_time(placed):
                self.begin(placed)
            elif placed.course is not None and placed.over_at is None:
                self._advance(placed)
        self._see_the_ended()

    def _read_broker(self) -> None:
        stack = self.placed[0].field.stack
        ledger = stack.paper.ledger()
        found, hand = by_run(ledger, stack.settings.deployment), by_hand(ledger)
        self.pending = stack.paper.faults()
        for trial in self.trials:
            trial.finding = finding_of(trial, found, hand)
            if trial.mono_done is None and trial.finding.is_flat and self._may_be_over(trial):
                self._see_flat(trial)
        self._ask_for_exits()

    def _may_be_over(self, trial: Trial) -> bool:
        """Whether a position that is gone is all there is to wait for."""
        placed = self._placed(trial)
        if placed is None or placed.field.struck_at is None:
            return True
        is_told = trial.is_told or not trial.to_hear
        settles = placed.fault.settles
        is_settled = trial.mono_exit is not None and time.monotonic() >= trial.mono_exit + settles
        return is_told and (settles == 0 or is_settled)

    def _see_flat(self, trial: Trial) -> None:
        trial.mono_done = time.monotonic()
        early = trial.exit_at - self.placed[0].field.remote.real.now()
        if early > EARLY_BY and trial.finding.sold > 0:
            trial.violations.append(f"sold {early.total_seconds():.1f} s before anything asked for it")

    def _placed(self, trial: Trial) -> Placed | None:
        """The fault it meets; None for a bystander."""
        return next((each for each in self.placed if trial in each.trials), None)

    def _advance(self, placed: Placed) -> None:
        assert placed.course is not None
        try:
            next(placed.course)
        except StopIteration:
            placed.over_at = time.monotonic()

    def _is_time(self, placed: Placed) -> bool:
        now = placed.field.remote.real.now()
        match placed.when:
            case When.START:
                return True
            case When.ENTRY:
                return now >= self.buys - timedelta(seconds=AHEAD_OF_ENTRY)
            case When.HOLDING:
                first = [trial for trial in placed.trials if trial.buy_at == self.buys]
                late = now >= self.buys + timedelta(seconds=HOLDING_BY)
                return late or all(trial.finding.bought > 0 for trial in first)
            case When.EXIT:
                exits = min(trial.exit_at for trial in placed.trials)
                return now >= exits - timedelta(seconds=AHEAD_OF_EXIT)

    def _ask_for_exits(self) -> None:
        """Do what makes each trial's exit due; a price through a stop stays there until it is sold."""
        press = time.monotonic() >= self._priced_at + PRICE_EVERY
        self._priced_at = time.monotonic() if press else self._priced_at
        for placed in self.placed:
            for trial in placed.trials:
                if trial.mono_done is None:
                    self._ask_for_exit(placed.field, trial, press=press and not placed.fault.dips)
        for trial in self.bystanders:
            if due_now(trial, self.placed[0].field.remote.real.now()):
                trial.mono_exit = time.monotonic()

    @staticmethod
    def _ask_for_exit(field_: Field, trial: Trial, *, press: bool) -> None:
        is_due = due_now(trial, field_.remote.real.now())
        if trial.style in {Style.FORCE_STOP, Style.OVERTAKEN} and is_due:
            # Asked for once it is in the run; the message after it is only a wake-up.
            if field_.signal_stop(trial):
                trial.mono_exit = time.monotonic()
                field_.publish(trial, EventType.FORCE_STOP, f"chaos:stop:{trial.run}")
            return
        if is_due:
            trial.mono_exit = time.monotonic()
        falls = trial.style in {Style.STOP_LOSS, Style.TRIPLE} and trial.mono_exit is not None
        if falls and (press or is_due):
            field_.paper.price(trial.symbol, str(trial.breach))

    def _see_the_ended(self) -> None:
        """Runs that ended without a position: PostgreSQL knows, and a human must have been told."""
        if time.monotonic() < self._asked_at + ASK_EVERY:
            return
        self._asked_at = time.monotonic()
        with suppress(SQLAlchemyError):
            self._see_the_told()
        idle = {trial.run: trial for trial in self.trials if trial.mono_done is None and trial.finding.bought == 0}
        idle = {run: trial for run, trial in idle.items() if trial.mono_exit is not None and not trial.finding.live}
        # While PostgreSQL is away by a fault it is asked again at the next look.
        if idle:
            with suppress(SQLAlchemyError):
                self._ask_for_ended(idle)

    def _see_the_told(self) -> None:
        """Whether those heard of it who must, since the wave began."""
        alerts = Alerts(self.placed[0].field.stack.sessions)
        for placed in self.placed:
            for trial in placed.trials:
                if not trial.to_hear or trial.is_told or placed.field.struck_at is None:
                    continue
                codes = {each.code for each in alerts.list(trial.tenant) if each.at >= self.began}
                trial.is_told = bool(codes if trial.to_hear == ANYTHING else codes & trial.to_hear)
                if trial.is_told and not placed.fault.buys and trial.mono_exit is not None:
                    trial.mono_done = time.monotonic()

    def _ask_for_ended(self, idle: dict[Any, Trial]) -> None:
        sessions = self.placed[0].field.stack.sessions
        for run in Runs(sessions).of_strategies([each.strategy_id for each in idle]):
            trial = idle.get(run.id)
            # A run that was stopped may live on only to watch for an attempt that was given up.
            is_watching = run.stop_requested is not None and bool(run.watched)
            if trial is None or (run.status is RunStatus.ACTIVE and not is_watching):
                continue
            trial.is_flagged = any(alert.run == str(run.id) for alert in Alerts(sessions).list(trial.tenant))
            # A stop asked for before anything was bought is an end nobody needs to be told of.
            if trial.is_flagged or trial.style in {Style.FORCE_STOP, Style.TRIPLE}:
                trial.mono_done = time.monotonic()

    def _is_over(self) -> bool:
        now = time.monotonic()
        if any(trial.mono_done is None and now < self._limit(trial) for trial in self.trials):
            self._idle_since = None
            return False
        waits = [each for each in self.placed if each.over_at is None]
        if all(each.field.struck_at is None for each in waits):
            # What did not strike by now has nothing left to meet.
            self._idle_since = self._idle_since or now
            return not waits or now >= self._idle_since + STRIKES_WITHIN
        return False

    def _limit(self, trial: Trial) -> float:
        """Until when it must be done; as late as can be while its fault or its exit is still to come."""
        placed = self._placed(trial)
        if trial.mono_exit is None:
            return time.monotonic() + 1.0
        if placed is None:
            return trial.mono_exit + max(each.fault.bound for each in self.placed)
        over = placed.over_at if placed.field.struck_at is not None else trial.mono_exit
        if over is None:
            return time.monotonic() + 1.0
        return max(trial.mono_exit, over) + placed.fault.bound

    def _conclude(self, trial: Trial) -> None:
        """What is to be said of it against its bound; what the ledger proves is judged once more at the very end."""
        placed = self._placed(trial)
        bound = placed.fault.bound if placed else BYSTANDER_BOUND
        trial.struck = placed is None or placed.field.struck_at is not None
        trial.recovery = recovered(trial, placed.over_at if placed and trial.struck else None, time.monotonic())
        if trial.mono_done is None:
            after = f"{trial.recovery:.1f} s after the fault"
            trial.violations.append(f"not over {after}: holds {trial.finding.held}, {trial.finding}")
            if trial.to_hear and not trial.is_told:
                trial.violations.append(f"nobody was told {after}: none of {', '.join(sorted(trial.to_hear))}")
        elif trial.recovery > bound:
            trial.violations.append(f"over only {trial.recovery:.1f} s after the fault, not within {bound:.0f} s")
        if placed is not None and trial.struck and not placed.fault.buys and trial.finding.bought > 0:
            trial.violations.append(f"bought {trial.finding.bought} where nothing may be bought")
        if placed is None and trial.finding.bought != QUANTITY:
            trial.violations.append(f"a bystander bought {trial.finding.bought} of {QUANTITY}")
