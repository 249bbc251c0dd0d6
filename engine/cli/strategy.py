"""`engine strategy`: add, list, show and stop strategies of a running engine."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from engine.admission import Admission
from engine.cli import DONE, resolving
from engine.cli.deployment import Deployment, find
from engine.cli.output import console, errors, print_json, print_rows, status_line
from engine.cli.resolving import Choice
from engine.cli.rows import ADDED, LISTED, added_row, listed_row, order_row, run_row
from engine.cli.stopping import Stopping
from engine.domain.run import Run, RunStatus
from engine.domain.strategy import StopMode, Strategy
from engine.stack.problems import EnvironmentProblem
from engine.strategies import parse
from engine.trading import paper_account
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies

#: How many strategies are shown one by one after they were added.
SHOWN = 20
#: An order's columns in a table; JSON has more.
ORDER = ("leg", "attempt", "side", "quantity", "filled_quantity", "average_price", "status", "broker_order_id")
#: How many names are offered in the place of an unknown one.
OFFERED = 3


def add(file: Path | None, *, as_json: bool) -> int:
    """Check and store the strategies of `file`, or of standard input: all, or none."""
    source = str(file) if file is not None else "standard input"
    say, done = status_line()
    try:
        drafts = parse(_text(file), source)
        engine = find()
        say(f"checking {len(drafts)} strategies")
        admission = Admission(engine.sessions, engine.calendar(), datetime.now(UTC))
        opener = partial(paper_account, base_url=engine.paper_url) if engine.paper_url else None
        added = admission.admit(drafts, source, opener)
    finally:
        done()
    rows = [added_row(each) for each in added]
    if as_json:
        print_json(rows)
        return DONE
    if len(rows) <= SHOWN:
        print_rows("Added", rows, ADDED, as_json=False)
    console.print(f"{len(rows)} strategies added", highlight=False)
    return DONE


def show_all(tenant: str | None, *, as_json: bool) -> int:
    """Every strategy, or those of `tenant`, with what its newest run became."""
    engine = find()
    found = Strategies(engine.sessions).list(tenant)
    statuses = Strategies(engine.sessions).statuses(tenant)
    newest = {run.id.strategy_id: run for run in Runs(engine.sessions).of_strategies([each.id for each in found])}
    rows = [listed_row(each, statuses.get(each.id), newest.get(each.id)) for each in found]
    print_rows(f"{len(rows)} strategies", rows, LISTED, as_json=as_json)
    return DONE


def show(name: str, tenant: str | None, *, as_json: bool) -> int:
    """Everything about one strategy: its runs, their orders, and the live state where one is under way."""
    engine = find()
    found = _named(engine, name, tenant)
    statuses = Strategies(engine.sessions).statuses(found[0].tenant)
    runs = Runs(engine.sessions).of_strategies([each.id for each in found])
    live = _live_states(engine, runs)
    told = []
    for strategy in found:
        own = [run for run in runs if run.id.strategy_id == strategy.id]
        row = listed_row(strategy, statuses.get(strategy.id), own[-1] if own else None)
        told.append(row | {"runs": [run_row(run, live.get(str(run.id))) for run in own]})
    if as_json:
        print_json(told)
        return DONE
    for row, strategy in zip(told, found, strict=True):
        for column in (*LISTED, "trading_date"):
            console.print(f"{column.replace('_', ' ')}: {'' if row[column] is None else row[column]}", highlight=False)
        for run in (run for run in runs if run.id.strategy_id == strategy.id):
            rows = [order_row(order) for order in (live.get(str(run.id)) or run).orders]
            print_rows(f"orders of run {run.id}", rows, ORDER, as_json=False)
    return DONE


def stop(name: str, tenant: str | None, *, leave: bool) -> int:
    """FORCE_STOP every open run of a strategy, or keep it from getting one; tells what follows."""
    engine = find()
    found = _named(engine, name, tenant)
    stopping = Stopping(engine.sessions, engine.remote(), StopMode.LEAVE if leave else StopMode.CLOSE)
    for strategy in found:
        console.print(f"{strategy.tenant}/{strategy.name}: {stopping.stop(strategy)}", highlight=False, markup=False)
    console.print(f"`engine strategy show {name}` tells how it ended.", highlight=False, markup=False)
    return DONE


def resolve(name: str, tenant: str | None, run: str | None, choice: Choice | None, *, as_json: bool) -> int:
    """List what can be done about a strategy's flagged runs, or do it."""
    engine = find()
    found = _named(engine, name, tenant)
    stored = Runs(engine.sessions).of_strategies([each.id for each in found])
    live = _live_states(engine, stored)
    runs = [live.get(str(each.id), each) for each in stored if run in (None, str(each.id))]
    if choice is not None:
        rows = resolving.resolve(engine.remote(), runs, choice)
        print_rows("Resolved", rows, [name for name in resolving.COLUMNS if name in rows[0]], as_json=as_json)
        return DONE
    rows = resolving.choices(runs)
    print_rows(f"{len(rows)} choices" if rows else "nothing to resolve", rows, resolving.COLUMNS, as_json=as_json)
    return DONE


def _text(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        raise EnvironmentProblem("no strategies file is named, and standard input is a terminal")
    try:
        return sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EnvironmentProblem(f"cannot read {file or 'standard input'}: {reason}") from None


def _named(engine: Deployment, name: str, tenant: str | None) -> Sequence[Strategy]:
    """The strategies of that name, of one tenant; raises EnvironmentProblem."""
    strategies = Strategies(engine.sessions)
    found = strategies.named(name, tenant)
    if not found:
        whose = f"{tenant} has no strategy" if tenant else "there is no strategy"
        close = get_close_matches(name, {each.name for each in strategies.list(tenant)}, OFFERED, cutoff=0.0)
        raise EnvironmentProblem(f"{whose} named {name!r}; closest: {', '.join(close) or 'none, there are none'}")
    tenants = sorted({each.tenant for each in found})
    if len(tenants) > 1:
        raise EnvironmentProblem(f"{name!r} is a strategy of {', '.join(tenants)}: say which with --tenant")
    return found


def _live_states(engine: Deployment, runs: Sequence[Run]) -> Mapping[str, Run]:
    """The live state of the runs that are open, by run id; {} where it cannot be had."""
    open_runs = [str(run.id) for run in runs if run.status in (RunStatus.ACTIVE, RunStatus.FAILED)]
    if not open_runs:
        return {}
    try:
        store = engine.remote().store
    except EnvironmentProblem as problem:
        errors.print(f"{problem}; shown is the history", markup=False)
        return {}
    return {name: run for name in open_runs if (run := store.run(name)) is not None}
