"""`engine up`: every process of the engine, supervised in the foreground; its data stays in the state directory."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from datetime import time as wall_time
from decimal import Decimal
from types import FrameType

from rich.live import Live
from rich.table import Table

from broker_connector.paper.symbols import TICK_UNITS, money
from broker_connector.paper.synthetic import opening_units
from engine.calendar import ZONES
from engine.cli import DONE, INTERRUPTED
from engine.cli.output import console, errors, status_line
from engine.config import CalendarKind
from engine.stack.problems import EnvironmentProblem
from engine.stack.state import Running, StateDir
from engine.trading import Market, TradingStack
from models.repositories.accounts import Accounts

#: The tenant that has a paper account from the start.
DEMO_TENANT = "demo"
#: Seed of the paper session's prices.
SEED = 7
#: A paper session at any hour, by the real clock.
PAPER = Market(f"--market synthetic --always-open --seed {SEED} --step 5", calendar=CalendarKind.ALWAYS_OPEN)
#: The exchange's hours and no paper broker.
LIVE = Market(None)
#: Where the drainer serves its metrics, if the environment names no other port.
METRICS_PORT = 9464
#: Real seconds between two looks at the processes.
LOOK_EVERY = 1.0
#: The example strategy: its symbol, its stop as part of the opening price, how far ahead it buys, how long it holds.
EXAMPLE_SYMBOL, EXAMPLE_STOP = "INFY", 0.9
EXAMPLE_BUY, EXAMPLE_HOLD = timedelta(minutes=3), timedelta(minutes=3)


class Terminated(Exception):
    """Raised in the main thread by SIGTERM."""


def run(*, synthetic: bool) -> int:
    """Run until Ctrl-C (130) or SIGTERM (0)."""
    state = StateDir()
    try:
        with state.lock(), _ended_by_signals():
            _serve(state, PAPER if synthetic else LIVE)
    except Terminated:
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


def _serve(state: StateDir, market: Market) -> None:
    say, done = status_line()
    redis_url, database_url = os.environ.get("REDIS_URL"), os.environ.get("DATABASE_URL")
    try:
        with TradingStack(
            state.path,
            market,
            state.secret_key().decode(),
            redis_url=redis_url,
            database_url=database_url,
            without=(),
            metrics_port=METRICS_PORT,
            say=say,
        ) as stack:
            if market is PAPER:
                stack.add_account(DEMO_TENANT)
            _write(state, stack, market)
            late = _late(stack)
            done()
            _tell(stack, market, late)
            _watch(stack)
    finally:
        done()


def _write(state: StateDir, stack: TradingStack, market: Market) -> None:
    chosen = stack.settings
    paper_url = stack.paper.base_url if market is PAPER else None
    state.write_running(Running(os.getpid(), chosen.redis_url, chosen.database_url, paper_url, chosen.calendar.value))


def _late(stack: TradingStack) -> str:
    """What is not ready in time, "" for nothing: the rest trades on, so this ends nothing."""
    try:
        stack.wait_ready()
    except EnvironmentProblem as problem:
        return str(problem)
    return ""


def _tell(stack: TradingStack, market: Market, late: str) -> None:
    console.print(_table(stack.states()))
    console.print(f"logs: {stack.log_dir}/<process>.log", highlight=False, soft_wrap=True)
    if late:
        errors.print(late, markup=False)
    if market is PAPER:
        console.print("A strategy for the paper market, to be given as it is:\n", highlight=False)
        console.print(
            f"engine strategy add <<'END'\n{_example()}\nEND\n", highlight=False, soft_wrap=True, markup=False
        )
    elif not Accounts(stack.sessions).list():
        console.print(
            "No account is stored yet, so nothing can trade; `engine up --market synthetic` opens a paper one."
        )
    console.print("`engine strategy list` shows what became of strategies. Ctrl-C stops everything.", highlight=False)


def _example() -> str:
    """A strategy of the paper market that buys in a few minutes, as a strategies file."""
    buy = datetime.now(ZONES["NSE"]) + EXAMPLE_BUY
    if (buy + EXAMPLE_HOLD).date() > buy.date():
        buy = datetime.combine(buy.date() + timedelta(days=1), wall_time(0, 1))
    stop = _to_tick(opening_units(SEED, EXAMPLE_SYMBOL) * EXAMPLE_STOP)
    strategy = {
        "name": f"example-{buy:%H%M%S}",
        "tenant": DEMO_TENANT,
        "symbol": EXAMPLE_SYMBOL,
        "quantity": 10,
        "buy_time": f"{buy:%H:%M:%S}",
        "sell_time": f"{buy + EXAMPLE_HOLD:%H:%M:%S}",
        "stop_loss": str(stop),
        "trading_date": str(buy.date()),
    }
    return json.dumps([strategy])


def _to_tick(units: float) -> Decimal:
    return money(int(units) - int(units) % TICK_UNITS)


def _watch(stack: TradingStack) -> None:
    """Keep everything running and show it; ends only by a signal."""
    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live:
        shown = stack.states()
        while True:
            for name in stack.revive():
                errors.print(f"{name} had died and was started again", markup=False)
            states = stack.states()
            if live is not None:
                live.update(_table(states), refresh=True)
            else:
                for name, (state, pid) in states.items():
                    if shown.get(name) != (state, pid):
                        errors.print(f"{name}: {state.lower()}{f', process {pid}' if pid else ''}", markup=False)
            shown = states
            time.sleep(LOOK_EVERY)


def _table(states: Mapping[str, tuple[str, int | None]]) -> Table:
    table = Table(header_style="bold")
    for column in ("process", "state", "pid"):
        table.add_column(column)
    for name, (state, pid) in states.items():
        table.add_row(name, state.lower(), str(pid or ""), style=None if state == "RUNNING" else "yellow")
    return table


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """The first signal to end raises KeyboardInterrupt or Terminated here; later ones cannot cut the stopping short."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
