"""Values of the domain for tests: one strategy of one account, and whatever a test changes of it."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from engine.domain.broker import BookEntry
from engine.domain.events import Event, EventType
from engine.domain.moment import Moment
from engine.domain.orders import TERMINAL, Evidence, Leg, Order, OrderStatus
from engine.domain.run import SIDE_OF, Latch, Run, RunId, client_order_id
from engine.domain.strategy import Session, Strategy
from engine.domain.ticks import Tick

DEPLOYMENT = "EE"
SYMBOL = "NSE:SBIN"
DAY = date(2026, 1, 5)
OPENS = datetime(2026, 1, 5, 3, 45, tzinfo=UTC)
CLOSES = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
BUY_AT = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)
SELL_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SESSION = Session(DAY, OPENS, CLOSES)
QUANTITY = 10
#: 95.00 in units of a hundredth.
STOP = 9500
S = timedelta(seconds=1)
#: How long after `send_by` a doubt is settled here.
PATIENCE = 13 * S


def strategy(**changes: Any) -> Strategy:
    base = Strategy(
        id=7,
        name="morning",
        tenant="alpha",
        account_id=1,
        symbol=SYMBOL,
        quantity=QUANTITY,
        buy_time=time(9, 30),
        sell_time=time(14, 30),
        stop_loss=Decimal("95.00"),
        trading_date=DAY,
    )
    return replace(base, **changes)


def run(*orders: Order, spec: Strategy | None = None, **changes: Any) -> Run:
    """A run of `spec` with `orders`; active, and nothing asked of it."""
    spec = spec or strategy()
    base = Run(RunId(spec.id, DAY), spec, BUY_AT, SELL_AT, CLOSES, STOP, orders=orders)
    return replace(base, **changes)


def order(
    leg: Leg, status: OrderStatus, filled: int = 0, *, attempt: int = 1, quantity: int = QUANTITY, **changes: Any
) -> Order:
    """Attempt `attempt` of `leg` of the run `run()` builds, sent by `BUY_AT`."""
    base = Order(
        client_order_id=client_order_id(DEPLOYMENT, RunId(7, DAY), leg, attempt),
        leg=leg,
        side=SIDE_OF[leg],
        attempt=attempt,
        quantity=quantity,
        status=status,
        send_by=BUY_AT,
        settles_at=changes.get("send_by", BUY_AT) + PATIENCE,
        filled_quantity=filled,
        average_price=Decimal(100) if filled else Decimal(0),
        seen=status not in (OrderStatus.SENDING, OrderStatus.UNKNOWN),
        settled=status in TERMINAL,
    )
    return replace(base, **changes)


def entry(status: OrderStatus, filled: int = 0, **changes: Any) -> Order:
    return order(Leg.ENTRY, status, filled, **changes)


def exit_(status: OrderStatus, filled: int = 0, **changes: Any) -> Order:
    return order(Leg.EXIT, status, filled, **changes)


def evidence(about: Order, status: OrderStatus, filled: int = 0, **changes: Any) -> Evidence:
    """What a broker says of `about`."""
    base = Evidence(
        client_order_id=about.client_order_id,
        broker_order_id="B1",
        status=status,
        quantity=about.quantity,
        filled_quantity=filled,
        average_price=Decimal(100) if filled else Decimal(0),
    )
    return replace(base, **changes)


def book_entry(item: Evidence, **changes: Any) -> BookEntry:
    """An order book's line about an order of ours."""
    leg = Leg.EXIT if item.client_order_id[14:15] == "X" else Leg.ENTRY
    return replace(BookEntry(item, SYMBOL, SIDE_OF[leg], item.client_order_id), **changes)


def at(market: datetime, **later: float) -> Moment:
    """Both clocks at `market` plus `later` (seconds=..., minutes=...), agreeing."""
    return Moment(market + timedelta(**later), market + timedelta(**later))


def tick(price: int, seconds: float = 0.0, **changes: Any) -> Tick:
    """A tick of the symbol, so many seconds into the session, the previous close at 100.00."""
    return replace(Tick(SYMBOL, price, OPENS + timedelta(seconds=seconds), 10_000), **changes)


def event(kind: EventType, name: str = "e1", run_id: RunId | None = None) -> Event:
    return Event(name, kind, run_id or RunId(7, DAY))


def latch(price: int = STOP, time: datetime = BUY_AT) -> Latch:
    return Latch(price, time, "sl:1")


def chosen_of(runs: Iterable[Run], of: Collection[int] | None, before: date | None) -> list[Run]:
    """Those `open_runs` of a durable state is asked for."""
    return [
        each
        for each in runs
        if (of is None or each.id.strategy_id in of) and (before is None or each.id.trading_date < before)
    ]
