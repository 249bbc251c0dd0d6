"""What a user asks of a run from the command line: written into it, then announced to the workers.

Trades nothing itself.
"""

import time
import uuid
from collections.abc import Mapping, Sequence

from engine.bootstrap import Remote
from engine.domain.events import Event, EventType
from engine.domain.orders import Leg
from engine.domain.run import Run, RunStatus
from engine.domain.strategy import StopMode, Strategy
from engine.ports import StoreClosed
from engine.stack.problems import EnvironmentProblem
from models.database import Sessions
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies

#: How long a run that was just created may take to be armed, and how often it is looked for, seconds.
ARMED_WITHIN, LOOK_EVERY = 5.0, 0.2


class Stopping:
    """Stops strategies of one engine, in one mode."""

    def __init__(self, sessions: Sessions, remote: Remote, mode: StopMode) -> None:
        self._strategies = Strategies(sessions)
        self._runs = Runs(sessions)
        self._remote = remote
        self._mode = mode

    def stop(self, strategy: Strategy, *, only_run: bool = False) -> str:
        """Stop `strategy`, or `only_run`, the one under way, and say what follows; raises EnvironmentProblem."""
        # First of all: from here on no run is made that this would not find.
        retired = not only_run and self._strategies.retire(strategy.id)
        told = [self._stop_run(run) for run in self._open(strategy)]
        if retired:
            told.append("gets no run any more" if told else "has no run yet and gets none any more")
        elif only_run:
            told.append("its later dates are left as they are" if told else "has no run under way; nothing to stop")
        return "; ".join(told) or "has ended already; nothing to stop"

    def _open(self, strategy: Strategy) -> Sequence[Run]:
        runs = self._runs.of_strategies([strategy.id])
        return [run for run in runs if run.status is RunStatus.ACTIVE or not run.is_terminal]

    def _stop_run(self, run: Run) -> str:
        self._runs.request_stop(run.id, self._mode)
        if not ask(self._remote, run, {"stop_requested": self._mode.value}):
            return "has ended already; nothing to stop"
        live = self._remote.store.run(str(run.id)) or run
        return f"is being stopped; {self._follows(live)}"

    def _follows(self, run: Run) -> str:
        """What becomes of what `run` holds."""
        held = f"its {run.held} {run.strategy.symbol}"
        if run.held and self._mode is StopMode.LEAVE:
            return f"{held} stay with the account, watched by no stop"
        if run.held:
            return f"{held} are being sold at the market"
        if run.live(Leg.ENTRY):
            return "its entry is being withdrawn"
        return "it holds nothing and buys nothing any more"


def ask(remote: Remote, run: Run, fields: Mapping[str, str]) -> bool:
    """Write what is asked of `run` into it and wake a worker; False where it has ended."""
    deadline = time.monotonic() + ARMED_WITHIN
    while True:
        try:
            answer = remote.store.signal(run.id, fields, remote.real.now())
        except StoreClosed as error:
            raise EnvironmentProblem(f"the live state cannot be written ({error}): try again") from None
        if answer == "ok":
            # Only now: a message that finds nothing written would change nothing.
            remote.publisher.publish(Event(f"user:{uuid.uuid4().hex}", EventType.FORCE_STOP, run.id))
        if answer != "unknown":
            return answer != "gone"
        if time.monotonic() > deadline:
            raise EnvironmentProblem(f"run {run.id} is not in the live state: is the recoverer running?")
        time.sleep(LOOK_EVERY)
