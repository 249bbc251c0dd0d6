"""`engine strategy resolve`: what is flagged for a human, what each choice would do, and the choice carried out.

A choice is written into the run, as a stop is; workers act on it. Trades nothing itself.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.bootstrap import Remote
from engine.cli.rows import Row
from engine.cli.stopping import ask
from engine.domain.orders import Leg, Order
from engine.domain.run import SESSION_OVER, Run, RunStatus
from engine.domain.strategy import StopMode
from engine.stack.problems import EnvironmentProblem
from models.repositories.runs import Runs

CHOICES = ("run", "flagged_for", "held", "symbol", "choice", "what_it_does")
DONE = ("run", "choice", "what_it_does", "became")
#: How long what was chosen may take until it is told as not done yet, and how often it is looked at, seconds.
DONE_WITHIN, LOOK_EVERY = 3.0, 0.1
#: What a run still waits for.
NOT_YET = "not yet: no worker has done it"
BOOK_FIRST = "not yet: its broker's order book is read first"
ORDERS_FIRST = "not yet: its open orders are taken back first"


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
    #: What became of a run that lives on, in a sentence, and whether that is what was chosen.
    became: Callable[[Run], str]
    is_done: Callable[[Run], bool]


def doubtful(run: Run) -> Order | None:
    """The attempt of `run` that nobody knows the fate of."""
    return next((order for order in run.orders if order.is_doubtful or order.is_unconfirmed), None)


def _doubt_id(run: Run) -> str:
    order = doubtful(run)
    return order.client_order_id if order else ""


def sellable(run: Run) -> int:
    """What can be sold of what `run` holds: no more than its account has, as far as that is known."""
    if run.net is None:
        return run.held
    # What its own exit may still fill is promised already, to nobody else.
    own = sum(order.may_fill for order in run.orders if order.leg is Leg.EXIT and order.is_live)
    return max(min(run.held, run.net.quantity + own), 0)


def _sells(run: Run) -> str:
    when = "once its next session opens" if run.failure == SESSION_OVER else "at the market"
    rest = "" if sellable(run) == run.held else f", which is what the account has of the {run.held}"
    return f"sells {sellable(run)} {when}{rest}, and ends the run"


WAYS: Mapping[Choice, _Way] = {
    Choice.SELL: _Way(
        lambda run: sellable(run) > 0,
        _sells,
        lambda _run: {"stop_requested": StopMode.CLOSE.value},
        lambda run: _exit_of(run) or (NOT_YET if not run.dirty else BOOK_FIRST),
        lambda run: run.live(Leg.EXIT) is not None,
    ),
    Choice.LEAVE: _Way(
        lambda run: run.held > 0,
        lambda run: f"ends the run; the {run.held} stay with the account, watched by no stop",
        lambda _run: {"stop_requested": StopMode.LEAVE.value},
        lambda run: BOOK_FIRST if run.dirty else ORDERS_FIRST,
        lambda _run: False,
    ),
    Choice.CLOSED: _Way(
        lambda run: run.held > 0,
        lambda run: f"ends the run without an order: you sold the {run.held} elsewhere, or the broker did",
        lambda run: {"closed_elsewhere": str(run.closed_elsewhere + run.held)},
        lambda run: BOOK_FIRST if run.dirty else ORDERS_FIRST,
        lambda _run: False,
    ),
    Choice.ABSENT: _Way(
        lambda run: doubtful(run) is not None,
        lambda run: f"treats {_doubt_id(run)} as never placed; the next attempt may follow, and it is watched on",
        lambda run: {"absent": _doubt_id(run)},
        lambda run: f"{run.absent} counts as never placed" if doubtful(run) is None else NOT_YET,
        lambda run: doubtful(run) is None,
    ),
}


def _exit_of(run: Run) -> str:
    order = run.live(Leg.EXIT)
    return f"an exit of {order.quantity} is on its way" if order else ""


def is_flagged(run: Run) -> bool:
    """Whether `run` waits for a human, or may need one: in trouble and not over, or an attempt in doubt."""
    is_troubled = run.status is RunStatus.FAILED or run.failure != ""
    return (is_troubled and not run.is_terminal) or doubtful(run) is not None


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


@dataclass(frozen=True, slots=True)
class Resolved:
    """What was chosen for a run, and whether that is what became of it."""

    row: Row
    is_done: bool


def resolve(remote: Remote, stored: Runs, runs: Sequence[Run], choice: Choice) -> Resolved:
    """Carry `choice` out on the flagged run of `runs`; raises EnvironmentProblem where it suits none, or several."""
    way = WAYS[choice]
    fitting = [run for run in runs if is_flagged(run) and way.suits(run)]
    if len(fitting) != 1:
        named = ", ".join(str(run.id) for run in fitting)
        problem = f"it would resolve {named}: say which with --run" if fitting else _refusal(choice, runs)
        raise EnvironmentProblem(f"{choice}: {problem}; without --as the choices are listed")
    (run,) = fitting
    fields = way.fields(run)
    if "stop_requested" in fields:
        stored.request_stop(run.id, StopMode(fields["stop_requested"]))
    if not ask(remote, run, fields):
        raise EnvironmentProblem(f"run {run.id} has ended meanwhile; nothing to resolve")
    became, is_done = _became(remote, run, way)
    row: Row = {"run": str(run.id), "choice": choice.value, "what_it_does": way.does(run), "became": became}
    return Resolved(row, is_done)


def _refusal(choice: Choice, runs: Sequence[Run]) -> str:
    """Why `choice` can resolve none of `runs`."""
    uncovered = [run for run in runs if is_flagged(run) and run.held > 0 and sellable(run) == 0]
    if choice is Choice.SELL and uncovered:
        symbol = uncovered[0].strategy.symbol
        return f"the account holds no {symbol}, so nothing can be sold; `--as closed` ends the run"
    return "nothing it could resolve"


def _became(remote: Remote, run: Run, way: _Way) -> tuple[str, bool]:
    """What became of `run` within a while, in a sentence, and whether that is what was chosen."""
    name, deadline = str(run.id), time.monotonic() + DONE_WITHIN
    while True:
        ended, live = remote.store.ended(name), remote.store.run(name)
        if ended is not None:
            return "ended: status {}, position {}".format(*ended), True
        if live is not None and (way.is_done(live) or time.monotonic() > deadline):
            return way.became(live), way.is_done(live)
        if live is None and time.monotonic() > deadline:
            return "not yet: it is not in the live state", False
        time.sleep(LOOK_EVERY)
