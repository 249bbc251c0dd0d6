"""`engine strategy resolve`: what is flagged for a human, what each choice would do, and the choice carried out.

A choice is written into the run, as a stop is; workers act on it. Trades nothing itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.bootstrap import Remote
from engine.cli.rows import Row
from engine.cli.stopping import ask
from engine.domain.orders import Order
from engine.domain.run import Run, RunStatus
from engine.domain.strategy import StopMode
from engine.stack.problems import EnvironmentProblem

COLUMNS = ("run", "flagged_for", "held", "symbol", "choice", "what_it_does")


class Choice(StrEnum):
    """How a human resolves a run."""

    SELL = "sell"
    LEAVE = "leave"
    CLOSED = "closed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class _Way:
    """A choice: the runs it can resolve, what it will do to one, and what is written into it."""

    suits: Callable[[Run], bool]
    does: Callable[[Run], str]
    fields: Callable[[Run], Mapping[str, str]]


def doubtful(run: Run) -> Order | None:
    """The attempt of `run` that nobody knows the fate of."""
    return next((order for order in run.orders if order.is_doubtful), None)


def _doubt_id(run: Run) -> str:
    order = doubtful(run)
    return order.client_order_id if order else ""


WAYS: Mapping[Choice, _Way] = {
    Choice.SELL: _Way(
        lambda run: run.held > 0,
        lambda run: f"sells the {run.held} at the market, as far as the account holds them, and ends the run",
        lambda _run: {"stop_requested": StopMode.CLOSE.value},
    ),
    Choice.LEAVE: _Way(
        lambda run: run.held > 0,
        lambda run: f"ends the run; the {run.held} stay with the account, watched by no stop",
        lambda _run: {"stop_requested": StopMode.LEAVE.value},
    ),
    Choice.CLOSED: _Way(
        lambda run: run.held > 0,
        lambda run: f"ends the run without an order: you sold the {run.held} elsewhere, or the broker did",
        lambda _run: {"closed_elsewhere": "1"},
    ),
    Choice.ABSENT: _Way(
        lambda run: doubtful(run) is not None,
        lambda run: f"treats {_doubt_id(run)} as never placed; the next attempt may follow, and it is watched on",
        lambda run: {"absent": _doubt_id(run)},
    ),
}


def is_flagged(run: Run) -> bool:
    """Whether `run` waits for a human, or may need one: failed and not over, or an attempt in doubt."""
    return (run.status is RunStatus.FAILED and not run.is_terminal) or doubtful(run) is not None


def choices(runs: Sequence[Run]) -> list[Row]:
    """Every flagged run of `runs` with each choice there is and what it would do."""
    return [
        {
            "run": str(run.id),
            "flagged_for": run.failure or "attempt_in_doubt",
            "held": run.held,
            "symbol": run.strategy.symbol,
            "choice": choice.value,
            "what_it_does": way.does(run),
        }
        for run in runs
        if is_flagged(run)
        for choice, way in WAYS.items()
        if way.suits(run)
    ]


def resolve(remote: Remote, runs: Sequence[Run], choice: Choice) -> list[Row]:
    """Carry `choice` out on the flagged run of `runs`; raises EnvironmentProblem where it suits none, or several."""
    way = WAYS[choice]
    fitting = [run for run in runs if is_flagged(run) and way.suits(run)]
    if len(fitting) != 1:
        named = ", ".join(str(run.id) for run in fitting)
        problem = f"it would resolve {named}: say which with --run" if fitting else "nothing it could resolve"
        raise EnvironmentProblem(f"{choice}: {problem}; without --as the choices are listed")
    (run,) = fitting
    if not ask(remote, run, way.fields(run)):
        raise EnvironmentProblem(f"run {run.id} has ended meanwhile; nothing to resolve")
    return [{"run": str(run.id), "choice": choice.value, "what_it_does": way.does(run)}]
