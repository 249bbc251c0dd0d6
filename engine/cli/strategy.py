"""`engine strategy`: add, list, show and stop strategies of a running engine."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path

from engine.admission import Admission
from engine.calendar import Calendar
from engine.cli import DONE, resolving
from engine.cli.deployment import Deployment, find
from engine.cli.output import console, errors, print_json, print_rows, printable, status_line
from engine.cli.resolving import Choice
from engine.cli.rows import ADDED, LISTED, RUN, Row, added_row, listed_row, order_row, run_row
from engine.cli.stopping import Stopping
from engine.domain.run import Run, RunStatus
from engine.domain.strategy import StopMode, Strategy, UnconfirmedYear
from engine.stack.problems import EnvironmentProblem
from engine.strategies import next_date, parse
from engine.trading import paper_account
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies

#: How many strategies are shown one by one after they were added.
SHOWN = 20
#: How many of a strategy's newest runs are shown with their orders.
SHOWN_RUNS = 3
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
    for each in added:
        if each.warning:
            errors.print(f"{each.strategy.tenant}/{each.strategy.name}: warning: {each.warning}", markup=False)
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
    rows = _listed(engine, found, Runs(engine.sessions).of_strategies([each.id for each in found]))
    print_rows(f"{len(rows)} strategies", rows, LISTED, as_json=as_json)
    return DONE


def show(name: str, tenant: str | None, *, as_json: bool) -> int:
    """Everything about one strategy: its runs, their orders, and the live state where one is under way."""
    engine = find()
    found = _named(engine, name, tenant)
    runs = Runs(engine.sessions).of_strategies([each.id for each in found])
    live = _live_states(engine, runs)
    own = {each.id: [run for run in runs if run.id.strategy_id == each.id] for each in found}
    told = [
        row | {"runs": [run_row(run, live.get(str(run.id))) for run in own[strategy.id]]}
        for row, strategy in zip(_listed(engine, found, runs), found, strict=True)
    ]
    if as_json:
        print_json(told)
        return DONE
    for row, strategy in zip(told, found, strict=True):
        for column in (*LISTED, "trading_date", "until"):
            value = "" if row[column] is None else printable(str(row[column]))
            console.print(f"{column.replace('_', ' ')}: {value}", highlight=False, markup=False)
        if own[strategy.id]:
            print_rows("runs", [run_row(run, live.get(str(run.id))) for run in own[strategy.id]], RUN, as_json=False)
        # The history of one that repeats may be long: of older runs' orders JSON tells.
        for run in own[strategy.id][-SHOWN_RUNS:]:
            rows = [order_row(order) for order in (live.get(str(run.id)) or run).orders]
            print_rows(f"orders of run {run.id}", rows, ORDER, as_json=False)
    return DONE


def stop(name: str, tenant: str | None, *, leave: bool, today: bool) -> int:
    """FORCE_STOP every open run of a strategy and, unless only `today` is meant, keep it from getting another one."""
    engine = find()
    found = _named(engine, name, tenant)
    stopping = Stopping(engine.sessions, engine.remote(), StopMode.LEAVE if leave else StopMode.CLOSE)
    for strategy in found:
        told = stopping.stop(strategy, only_run=today)
        console.print(f"{strategy.tenant}/{strategy.name}: {told}", highlight=False, markup=False)
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
        resolved = resolving.resolve(engine.remote(), Runs(engine.sessions), runs, choice)
        print_rows("Resolved" if resolved.is_done else "Asked for", [resolved.row], resolving.DONE, as_json=as_json)
        return DONE
    rows = resolving.choices(runs)
    print_rows(f"{len(rows)} choices" if rows else "nothing to resolve", rows, resolving.CHOICES, as_json=as_json)
    return DONE


def _listed(engine: Deployment, found: Sequence[Strategy], runs: Sequence[Run]) -> list[Row]:
    """The rows of `found`, whose runs are `runs`, oldest first within each."""
    statuses, newest = Strategies(engine.sessions).statuses(), {run.id.strategy_id: run for run in runs}
    dates = _Dates(engine.calendar(), datetime.now(UTC))
    rows = []
    for each in found:
        status, last = statuses.get(each.id), newest.get(each.id)
        day = dates.next(each, last) if status is RunStatus.ACTIVE else None
        rows.append(listed_row(each, status, last, day))
    return rows


class _Dates:
    """The dates strategies trade next, as it looks at market time `now`."""

    def __init__(self, calendar: Calendar, now: datetime) -> None:
        self._calendar = calendar
        #: The date of a symbol's next session.
        self._session_of = cache(lambda symbol: calendar.next_session(symbol, now).date)

    def next(self, strategy: Strategy, newest: Run | None) -> date | None:
        """The date of the run an active `strategy` gets after `newest`; None where it gets none, or nobody knows."""
        if newest is not None and strategy.repeat is None:
            return None
        try:
            since: date = self._session_of(strategy.symbol)
        except UnconfirmedYear:
            return None
        if newest is not None:
            since = max(since, newest.id.trading_date + timedelta(days=1))
        return next_date(strategy, self._calendar, since)


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
    return {name: store.covered(run) for name in open_runs if (run := store.run(name)) is not None}
