"""The `engine` command. Each command's module is imported when it is called: processes start quickly.

Exit codes: 0 done, 1 an expectation failed or a server refused, 2 usage or environment, 130 Ctrl-C.
"""

import sys
from collections.abc import Callable
from datetime import date, time
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from engine.cli.account_app import app as account_app

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
strategy_app = typer.Typer(no_args_is_help=True, help="Add, list, show and stop strategies.")
app.add_typer(strategy_app, name="strategy")
calendar_app = typer.Typer(no_args_is_help=True, help="Show and mend the exchanges' sessions.")
app.add_typer(calendar_app, name="calendar")

app.add_typer(account_app, name="account")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class ProcessName(StrEnum):
    """The engine's own processes."""

    PAPER = "paper"
    RECOVERER = "recoverer"
    DRAINER = "drainer"
    LISTENER = "listener"
    LISTENER_2 = "listener-2"
    ORDERSTREAM = "orderstream"
    SWEEPER = "sweeper"
    API = "api"


class MarketName(StrEnum):
    """Where prices come from."""

    SYNTHETIC = "synthetic"


class ExchangeName(StrEnum):
    """Exchanges with a calendar; `engine.calendar.ZONES` has their zones."""

    NSE = "NSE"
    BSE = "BSE"


def _iso(kind: Callable[[str], Any], example: str) -> Callable[[str], Any]:
    """Reads what a user wrote as `example` is written."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not as it should be, like {example}") from None

    return read


def _wall_time(text: str) -> time:
    if (found := time.fromisoformat(text)).tzinfo is not None:
        raise ValueError("a wall time has no zone")
    return found


_DATE, _TIME = _iso(date.fromisoformat, "2026-11-08"), _iso(_wall_time, "18:15")
Exchange = Annotated[ExchangeName, typer.Argument(metavar="EXCHANGE", help="NSE or BSE.")]
Date = Annotated[date, typer.Argument(parser=_DATE, metavar="DATE", help="As 2026-11-08.")]
Note = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]


class ChoiceName(StrEnum):
    """How a human resolves a run; `engine.cli.resolving` says what each does."""

    SELL = "sell"
    LEAVE = "leave"
    CLOSED = "closed"
    ABSENT = "absent"


@app.command()
def process(name: ProcessName) -> None:
    """Run one process in the foreground: one of the Procfile, or the HTTP interface brokers post to."""
    kind, _, number = name.value.partition("-")
    main = import_module(f"engine.processes.{kind}").main
    main(name.value) if number else main()


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def paper(context: typer.Context) -> None:
    """Run the paper broker alone: Kite Connect v3 on invented or recorded prices. See `engine paper --help`."""
    from engine.cli.paper import run

    run(context.args)


@app.command()
def up(
    market: Annotated[Optional[MarketName], typer.Option(help="Trade a paper session now, at any hour.")] = None,  # noqa: UP045
) -> None:
    """Start every process, supervised, until Ctrl-C."""
    from engine.cli.up import run

    raise typer.Exit(run(synthetic=market is MarketName.SYNTHETIC))


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Another seed is another day.")] = 7,
    strategies: Annotated[int, typer.Option(min=5, max=500, help="How many strategies trade.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Run a whole synthetic trading day in about a minute and check how every strategy ended."""
    from engine.cli.demo import run

    raise typer.Exit(run(seed, strategies, as_json=as_json))


@app.command()
def replay(
    ticks: Annotated[Path, typer.Option(help="Folder of SYMBOL.csv.gz; its name is the market date.")],
    strategies: Annotated[Path, typer.Option(help="The strategies file.")],
    report: Annotated[Path, typer.Option(help="Where the report is written, atomically.")],
    speed: Annotated[float, typer.Option(min=0.1, max=1000, help="Market seconds in one real second.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Run the whole real stack over one recorded day of ticks."""
    from engine.cli.replay import run

    raise typer.Exit(run(ticks, strategies, report, speed, as_json=as_json))


@app.command()
def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to play.")] = 200,
    first: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    hardships: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--with", metavar="KIND", help="What is hard in each: a kind, may be repeated; or 'all', 'failures'."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play seeds of a simulated world of crashes, losses and broker faults against the real core."""
    from engine.cli.simulate import run

    raise typer.Exit(run(seeds, first, hardships or (), as_json=as_json))


@app.command()
def chaos(
    trials: Annotated[int, typer.Option(min=1, help="How many trials, each row of the fault table first.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the order, the phases and the prices.")] = 0,
    only: Annotated[Optional[str], typer.Option(metavar="NAME", help="Faults with this in their name.")] = None,  # noqa: UP045
    short: Annotated[bool, typer.Option("--short", help="One row of each family, once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Strike the running stack at named points and let the broker's ledger judge what came of it."""
    from engine.cli.chaos import run

    raise typer.Exit(run(trials, seed, only, short=short, as_json=as_json))


@app.command("alerts")
def list_alerts(
    ack: Annotated[Optional[int], typer.Option(metavar="ID", help="Mark this alert as seen.")] = None,  # noqa: UP045
    tenant: Annotated[Optional[str], typer.Option(help="Only this tenant's.")] = None,  # noqa: UP045
    everything: Annotated[bool, typer.Option("--all", help="Those already seen, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what a human must see, or mark one of it as seen."""
    from engine.cli.alerts import run

    raise typer.Exit(run(tenant, ack, everything=everything, as_json=as_json))


@app.command("dead-letters")
def list_dead_letters(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List input that was refused, and why, newest first."""
    from engine.cli.dead_letters import run

    raise typer.Exit(run(limit, as_json=as_json))


@strategy_app.command("add")
def strategy_add(
    file: Annotated[Optional[Path], typer.Argument(help="A strategies file; standard input where absent.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Check and store the strategies of a file: all of them, or none."""
    from engine.cli.strategy import add

    raise typer.Exit(add(file, as_json=as_json))


@strategy_app.command("list")
def strategy_list(
    tenant: Annotated[Optional[str], typer.Option(help="Only this tenant's.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """List strategies with their status and position."""
    from engine.cli.strategy import show_all

    raise typer.Exit(show_all(tenant, as_json=as_json))


@strategy_app.command("show")
def strategy_show(
    name: str,
    tenant: Annotated[Optional[str], typer.Option(help="Where two tenants use the name.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Show one strategy, its runs and their orders."""
    from engine.cli.strategy import show

    raise typer.Exit(show(name, tenant, as_json=as_json))


@strategy_app.command("stop")
def strategy_stop(
    name: str,
    tenant: Annotated[Optional[str], typer.Option(help="Where two tenants use the name.")] = None,  # noqa: UP045
    leave: Annotated[bool, typer.Option("--leave", help="Keep an open position instead of closing it.")] = False,
    today: Annotated[bool, typer.Option("--today", help="End only the run under way; later days are traded.")] = False,
) -> None:
    """FORCE_STOP a strategy: close its position, or leave it, end its run, and make no later one where it repeats."""
    from engine.cli.strategy import stop

    raise typer.Exit(stop(name, tenant, leave=leave, today=today))


@strategy_app.command("resolve")
def strategy_resolve(
    name: str,
    tenant: Annotated[Optional[str], typer.Option(help="Where two tenants use the name.")] = None,  # noqa: UP045
    run: Annotated[Optional[str], typer.Option(help="Where several of its runs are flagged.")] = None,  # noqa: UP045
    choice: Annotated[Optional[ChoiceName], typer.Option("--as", help="Carry this choice out.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """List what can be done about a run that waits for a human, and what each choice does; or do it."""
    from engine.cli.resolving import Choice
    from engine.cli.strategy import resolve

    raise typer.Exit(resolve(name, tenant, run, Choice(choice.value) if choice else None, as_json=as_json))


@calendar_app.command("show")
def calendar_show(
    exchange: Annotated[Optional[ExchangeName], typer.Option(help="Only this one's.")] = None,  # noqa: UP045
    since: Annotated[
        Optional[date],  # noqa: UP045
        typer.Option("--from", parser=_DATE, metavar="DATE", help="The first date; today where absent."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How many dates.")] = 14,
    as_json: AsJson = False,
) -> None:
    """List dates with their sessions, the exchange's wall times, and why a date has none."""
    from engine.cli.calendars import show

    raise typer.Exit(show(exchange.value if exchange else None, since, days, as_json=as_json))


@calendar_app.command("close")
def calendar_close(exchange: Exchange, day: Date, note: Note = "", as_json: AsJson = False) -> None:
    """Close one date; what would trade on it is canceled and told of in `engine alerts`."""
    from engine.cli.calendars import close

    raise typer.Exit(close(exchange.value, day, note, as_json=as_json))


@calendar_app.command("open")
def calendar_open(
    exchange: Exchange,
    day: Date,
    opens: Annotated[time, typer.Option(parser=_TIME, metavar="TIME", help="Wall time, as 18:15.")],
    closes: Annotated[time, typer.Option(parser=_TIME, metavar="TIME", help="The end of continuous trading.")],
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Give one date a session of its own: Muhurat, a Sunday, a short day."""
    from engine.cli.calendars import open_

    raise typer.Exit(open_(exchange.value, day, (opens, closes), note, as_json=as_json))


@calendar_app.command("remove")
def calendar_remove(exchange: Exchange, day: Date, as_json: AsJson = False) -> None:
    """Take back what was said of one date with `close` or `open`."""
    from engine.cli.calendars import remove

    raise typer.Exit(remove(exchange.value, day, as_json=as_json))


@calendar_app.command("confirm")
def calendar_confirm(
    exchange: Exchange,
    year: Annotated[int, typer.Argument(min=1990, max=2100, metavar="YEAR")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a year's holidays and record that you compared them with the exchange's circular."""
    from engine.cli.calendars import confirm

    raise typer.Exit(confirm(exchange.value, year, yes=yes, as_json=as_json))


def main() -> None:
    """The console script: one line for what a user can mend, no traceback."""
    from engine.cli.output import tell_problem

    try:
        # Not standalone, a command's exit code is what the call returns.
        sys.exit(app(standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        code = tell_problem(error)
        if code is None:
            raise
        sys.exit(code)
