"""`engine calendar`: the sessions the engine trades in, and the operator's word on them. Trades and cancels nothing."""

import getpass
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import typer

from engine import bootstrap
from engine.calendar import ZONES, Calendar, Override, OverrideKind, UnlistedYear, listed_holidays
from engine.cli import DONE
from engine.cli.deployment import Deployment, find
from engine.cli.output import console, errors, print_rows
from engine.cli.rows import Row
from engine.config import CalendarKind
from engine.domain.orders import Product
from engine.domain.run import RunStatus
from engine.domain.strategy import Session, UnconfirmedYear
from engine.stack.problems import EnvironmentProblem
from models.repositories.bookkeeping import CalendarTable
from models.repositories.strategies import Strategies

SHOWN = ("exchange", "date", "weekday", "state", "opens", "closes", "auction", "square_off", "note")
CHANGED = (*SHOWN, "strategies")
LISTED = ("exchange", "date", "weekday", "holiday", "estimated")


def show(exchange: str | None, since: date | None, days: int, *, as_json: bool) -> int:
    """The sessions of one exchange, or of all, for `days` dates."""
    engine = find()
    if engine.settings.calendar is CalendarKind.ALWAYS_OPEN:
        errors.print("this engine trades on paper at any hour; shown is when the exchanges trade", markup=False)
    calendar = _calendar(engine)
    first = since or calendar.today("NSE", datetime.now(UTC))
    dates = [first + timedelta(days=n) for n in range(days)]
    rows = [_row(calendar, name, day) for name in ([exchange] if exchange else ZONES) for day in dates]
    print_rows("Sessions", rows, SHOWN, as_json=as_json)
    return DONE


def close(exchange: str, day: date, note: str, *, as_json: bool) -> int:
    """Keep that `exchange` is closed on `day`."""
    engine = find()
    CalendarTable(engine.sessions).override(Override(exchange, day, OverrideKind.CLOSED, note=note))
    return _tell("Closed", engine, exchange, day, as_json=as_json)


def open_(exchange: str, day: date, hours: tuple[time, time], note: str, *, as_json: bool) -> int:
    """Keep that `exchange` trades on `day` at `hours`, its wall times."""
    engine = find()
    try:
        override = Override(exchange, day, OverrideKind.SPECIAL, *hours, note)
    except ValueError:
        raise EnvironmentProblem(f"--closes: {hours[1]} is not after --opens {hours[0]}") from None
    CalendarTable(engine.sessions).override(override)
    return _tell("Open", engine, exchange, day, as_json=as_json)


def remove(exchange: str, day: date, *, as_json: bool) -> int:
    """Take back what was kept of `day`."""
    engine = find()
    table = CalendarTable(engine.sessions)
    if not table.remove(exchange, day):
        kept = ", ".join(str(each.date) for each in table.overrides() if each.exchange == exchange)
        raise EnvironmentProblem(
            f"DATE: nothing was said of {exchange} on {day}; dates with an override: {kept or 'none'}. "
            "What the engine knows by itself is outranked with `close` or `open`"
        )
    return _tell("Removed", engine, exchange, day, as_json=as_json)


def confirm(exchange: str, year: int, *, yes: bool, as_json: bool) -> int:
    """Show the holidays of `year` and keep that somebody compared them with the exchange's circular."""
    engine = find()
    try:
        listed = listed_holidays(exchange, year)
    except UnlistedYear as error:
        raise EnvironmentProblem(f"YEAR: {error}; it cannot be confirmed") from None
    rows: list[Row] = [
        {
            "exchange": exchange,
            "date": each.date,
            "weekday": f"{each.date:%a}",
            "holiday": each.name,
            "estimated": each.is_estimated,
        }
        for each in listed
    ]
    print_rows(f"Holidays of {exchange} in {year}", rows, LISTED, as_json=as_json)
    estimated = sum(each.is_estimated for each in listed)
    if estimated:
        errors.print(
            f"{estimated} estimated, for the moon decides. Where the circular has another date, give the listed one "
            "its hours with `engine calendar open`, and close the other with `engine calendar close`",
            markup=False,
        )
    if not (yes or as_json) and sys.stdin.isatty():
        typer.confirm("Are these the holidays of the exchange's circular?", abort=True)
    CalendarTable(engine.sessions).confirm_year(exchange, year, _operator())
    if not as_json:
        console.print(f"{exchange} {year} is confirmed", highlight=False)
    return DONE


def _calendar(engine: Deployment) -> Calendar:
    """When the exchanges trade, even where the engine trades at any hour."""
    settings = engine.settings.model_copy(update={"calendar": CalendarKind.EXCHANGE})
    return bootstrap.calendar(settings, engine.sessions)


def _tell(title: str, engine: Deployment, exchange: str, day: date, *, as_json: bool) -> int:
    """The date as it now is, and how many strategies are meant for it."""
    active = Strategies(engine.sessions).list(status=RunStatus.ACTIVE)
    meant = [each for each in active if each.trading_date == day and each.symbol.startswith(f"{exchange}:")]
    row = _row(_calendar(engine), exchange, day) | {"strategies": len(meant)}
    print_rows(title, [row], CHANGED, as_json=as_json)
    if meant:
        errors.print(
            f"{len(meant)} strategies are meant for that date; `engine alerts` tells which it moves or cancels",
            markup=False,
        )
    return DONE


def _row(calendar: Calendar, exchange: str, day: date) -> Row:
    """One date of one exchange in its wall times."""
    try:
        whole, symbols = (calendar.session(place, day) for place in (exchange, f"{exchange}:"))
        state, note = ("open" if whole else "closed"), calendar.note(exchange, day)
    except UnconfirmedYear as error:
        whole = symbols = None
        state, note = "unconfirmed", str(error)
    row: Row = {"exchange": exchange, "date": day, "weekday": f"{day:%a}", "state": state}
    return row | _hours(exchange, whole, symbols) | {"note": note}


def _hours(exchange: str, whole: Session | None, symbols: Session | None) -> Row:
    """The wall times of a session: the exchange's, and where that of a symbol with a closing auction ends earlier."""
    if whole is None or symbols is None:
        return dict.fromkeys(("opens", "closes", "auction", "square_off"))
    auction = symbols.closes if symbols.closes < whole.closes else None
    times: Sequence[tuple[str, datetime | None]] = (
        ("opens", whole.opens),
        ("closes", whole.closes),
        ("auction", auction),
        ("square_off", symbols.last_sale(Product.INTRADAY)),
    )
    return {name: at and f"{at.astimezone(ZONES[exchange]):%H:%M}" for name, at in times}


def _operator() -> str:
    """Whose word it is, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an operator"
