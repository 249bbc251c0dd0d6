"""A strategy: buy this symbol at this time, sell it at that time, never hold it below this price.

Holds the rules a strategy must keep to be accepted; knows neither files nor tables.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from engine.domain.broker import Instrument
from engine.domain.orders import OrderType, Product
from engine.domain.recurrence import Recurrence

#: How long before its session's end an intraday position is squared off, market time: a broker does so ten minutes
#: before it, or later.
SQUARE_OFF = timedelta(minutes=12)


class AbortPolicy(StrEnum):
    """What a safety abort does with an open position."""

    #: The stop, the SELL timer and the square-off stay in force.
    PROTECT = "protect"
    #: Sell it now.
    FLATTEN = "flatten"
    #: Touch nothing until a human resolves it.
    FREEZE = "freeze"


class StopMode(StrEnum):
    """What a user's FORCE_STOP does with an open position."""

    CLOSE = "close"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Strategy:
    """One tenant's standing instruction. Times are the exchange's wall times; `stop_loss` is money a unit."""

    id: int
    name: str
    tenant: str
    account_id: int
    symbol: str
    quantity: int
    buy_time: time
    sell_time: time
    stop_loss: Decimal
    product: Product = Product.INTRADAY
    order_type: OrderType = OrderType.MARKET
    on_abort: AbortPolicy = AbortPolicy.PROTECT
    #: The one date it trades, or the first it may trade where it repeats; None means the next one.
    trading_date: date | None = None
    #: None: it trades once.
    repeat: Recurrence | None = None

    @property
    def last_date(self) -> date | None:
        """The last date it may trade; None where nothing names one."""
        return self.trading_date if self.repeat is None else self.repeat.until

    def trades_on(self, day: date) -> bool:
        """Whether `day` is one of its dates, should its exchange be open; a run it has already is not asked for."""
        if self.repeat is None:
            return self.trading_date in (None, day)
        return (self.trading_date is None or day >= self.trading_date) and self.repeat.trades_on(day)

    def dates(self, since: date) -> Iterator[date]:
        """Its dates from `since` on, in order, without end where it has none."""
        day, last = max(since, self.trading_date or since), self.last_date
        while last is None or day <= last:
            if self.trades_on(day):
                yield day
            day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Session:
    """One continuous trading session of one date: aware UTC, market time."""

    date: date
    opens: datetime
    closes: datetime
    #: When intraday positions are sold, before the broker does it by itself; None where it does not.
    square_off: datetime | None = None

    def contains(self, moment: datetime) -> bool:
        """Whether `moment` is inside, both ends included."""
        return self.opens <= moment <= self.closes

    def last_sale(self, product: Product) -> datetime:
        """The latest time at which a position in `product` may be meant to be sold."""
        return self.square_off if self.square_off is not None and product is Product.INTRADAY else self.closes


class UnconfirmedYear(ValueError):
    """Raised when a date's year has holidays nobody has confirmed; guessing could trade on a closed day."""

    def __init__(self, exchange: str, year: int, problem: str = "") -> None:
        super().__init__(
            problem
            or f"the {exchange} holidays of {year} are not confirmed; compare them with the exchange's circular, "
            f"then `engine calendar confirm {exchange} {year}`"
        )
        self.exchange = exchange
        self.year = year


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a strategy is refused: the field, what is wrong with it, and what would be right."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def problems(
    strategy: Strategy, instrument: Instrument | None, session: Session, buy_at: datetime, sell_at: datetime
) -> Iterator[Problem]:
    """Every rule `strategy` breaks, none where it can be stored; `buy_at` and `sell_at` are its times as UTC."""
    if not strategy.name.strip():
        yield Problem("name", "is empty; give the strategy a name unique within its tenant")
    if strategy.quantity <= 0:
        yield Problem("quantity", f"{strategy.quantity} is not a positive whole number of units")
    if not strategy.stop_loss.is_finite() or strategy.stop_loss <= 0:
        yield Problem("stop_loss", f"{strategy.stop_loss} is not a positive price; a stop-loss is mandatory")
    if buy_at >= sell_at:
        yield Problem("sell_time", f"{strategy.sell_time} is not after buy_time {strategy.buy_time}")
    tradable = replace(session, closes=session.last_sale(strategy.product))
    for name, at, wall in (("buy_time", buy_at, strategy.buy_time), ("sell_time", sell_at, strategy.sell_time)):
        if not tradable.contains(at):
            where = "after intraday positions are squared off" if session.contains(at) else "outside the session"
            yield Problem(name, f"{wall} is {where}; nearest valid time {nearest(tradable, at, wall)}")
    if instrument is None:
        yield Problem("symbol", f"{strategy.symbol} is not an instrument this account's broker lists")
        return
    yield from _misfits(strategy, instrument)


def _misfits(strategy: Strategy, instrument: Instrument) -> Iterator[Problem]:
    """The rules of its instrument that `strategy` breaks."""
    if strategy.stop_loss.is_finite() and strategy.stop_loss % instrument.tick_size:
        yield Problem("stop_loss", f"{strategy.stop_loss} is not a multiple of the tick size {instrument.tick_size}")
    if strategy.quantity % instrument.lot_size:
        yield Problem("quantity", f"{strategy.quantity} is not a multiple of the lot size {instrument.lot_size}")
    most = instrument.freeze_quantity
    if most is not None and strategy.quantity > most:
        yield Problem(
            "quantity", f"{strategy.quantity} is more than {most}, the most in one order; make two strategies"
        )


def nearest(session: Session, at: datetime, wall: time) -> time:
    """The session's end nearest to `at`, as a wall time in the same zone `wall` is meant in."""
    edge = session.opens if at < session.opens else session.closes
    return later(wall, edge - at)


def later(wall: time, by: timedelta) -> time:
    """The wall time `by` after `wall`, on the same date."""
    return (datetime.combine(date(2000, 1, 1), wall) + by).time()
