"""The demo: an invented trading day whose every price is known ahead, and what each strategy must therefore become.

Plans and judges; must not know how a strategy is executed, only that it sells at its time or at its stop.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from broker_connector.paper.symbols import TICK_UNITS, money
from broker_connector.paper.synthetic import SyntheticMarket
from engine.calendar import Calendar
from engine.domain.orders import OrderStatus, Side
from engine.domain.run import Position, RunStatus
from engine.replay import EXCHANGE, Day, waiting_market
from engine.reports import ReplayReport, StrategyReport
from engine.strategies import Draft
from engine.trading import Market

#: A Monday of regular hours.
MARKET_DATE = date(2026, 1, 5)
#: Market seconds in one real second for up to so many strategies; more of them get a slower day.
SPEED, SPEED_FOR = 700.0, 150
#: Market seconds between two ticks of a symbol.
STEP = 10.0
TENANTS = ("alder", "birch", "cedar", "hazel", "rowan")
#: First and last buy_time, first and last sell_time.
BUYS = (time(9, 20), time(11, 20))
SELLS = (time(13), time(14, 15))
#: How many strategies share one buy_time.
HERD = 12
#: Market time an order may take on a busy machine, at least three real seconds: no stop is near within it.
GUARD = timedelta(minutes=35)
#: How clearly a price must be on one side of a stop, fraction of the price.
MARGIN = Decimal("0.0005")
#: Part of the strategies meant to be stopped out, where prices fall enough.
STOPPED_OUT = 0.4
#: How far below the day's lowest price the stop of the others is, fraction.
BELOW = (0.002, 0.01)
QUANTITIES = (10, 200)
#: The paper broker's imperfections: ticks of spread, market seconds to a fill, share of orders filled in parts.
IMPERFECT = "--spread-ticks 1 --fill-delay 20 --partial-probability 0.3 --max-chunks 3"


@dataclass(frozen=True, slots=True)
class Path:
    """A symbol's prices of the day in units, STEP apart."""

    opens: datetime
    prices: Sequence[int]

    def between(self, since: datetime, until: datetime | None = None) -> Sequence[int]:
        """The prices from the one that stands at `since` to the one that stands at `until`, or the close."""
        last = len(self.prices) if until is None else int((until - self.opens).total_seconds() // STEP)
        return self.prices[int((since - self.opens).total_seconds() // STEP) : last + 1]


@dataclass(frozen=True, slots=True)
class Plan:
    """The day's strategies and how each must end, by its name."""

    seed: int
    drafts: Sequence[Draft]
    expected: Mapping[str, Position]

    @property
    def day(self) -> Day:
        """What is played."""
        return Day(MARKET_DATE, self.drafts)

    @property
    def market(self) -> Market:
        """The paper broker's market that has these prices."""
        return waiting_market(f"--market synthetic --seed {self.seed} --step {STEP} {IMPERFECT}", MARKET_DATE)

    @property
    def speed(self) -> float:
        """Market seconds in one real second."""
        return SPEED * min(1.0, SPEED_FOR / len(self.drafts))


@dataclass(frozen=True, slots=True)
class Failure:
    """A strategy that did not end as its prices say."""

    tenant: str
    name: str
    expected: str
    actual: str


def plan(seed: int, count: int) -> Plan:
    """`count` strategies on the day of `seed`, the same whenever asked; their endings follow from its prices."""
    draw = random.Random(f"demo/{seed}/{count}")  # noqa: S311 - a demo, not a secret
    paths = market_paths(seed)
    buys = _instants(*BUYS, max(4, -(-count // HERD)))
    sells = _instants(*SELLS, len(buys))
    drafts: list[Draft] = []
    for number in range(count):
        buy, sell = buys[number % len(buys)], draw.choice(sells)
        stop = _breached_stop(draw, paths, buy, sell) if draw.random() < STOPPED_OUT else None
        symbol, units = stop or _spared_stop(draw, paths, buy)
        drafts.append(
            Draft(
                name=f"{symbol.lower()}-{number + 1:03d}",
                tenant=TENANTS[number % len(TENANTS)],
                account="",
                symbol=f"{EXCHANGE}:{symbol}",
                quantity=draw.randint(*QUANTITIES),
                buy_time=buy,
                sell_time=sell,
                stop_loss=money(units),
                trading_date=MARKET_DATE,
                where=f"strategy {number + 1}",
            )
        )
    return Plan(seed, drafts, {draft.name: ending(draft, paths[symbol_of(draft)]) for draft in drafts})


def market_paths(seed: int) -> Mapping[str, Path]:
    """Every symbol's prices on the day of `seed`."""
    market = SyntheticMarket(seed, step=STEP)
    found = {}
    for listing in market.listed:
        path = market.path(listing.name, MARKET_DATE)
        found[listing.name] = Path(path[0][0], [price for _, price in path])
    return found


def symbol_of(draft: Draft) -> str:
    """The bare symbol, as the market lists it."""
    return draft.symbol.partition(":")[2]


def ending(draft: Draft, path: Path) -> Position:
    """What the prices make of a strategy: out at its stop if they touch it while it holds, else sold at its time."""
    lowest = money(min(path.between(at(draft.buy_time), at(draft.sell_time))))
    return Position.EXITED_BY_SL if lowest <= draft.stop_loss else Position.SOLD


def at(wall: time) -> datetime:
    """The instant of an exchange's wall time on the day."""
    return Calendar().to_utc(EXCHANGE, MARKET_DATE, wall)


def failures(plan: Plan, report: ReplayReport) -> list[Failure]:
    """Every strategy that did not end as its prices say."""
    return [
        Failure(told.tenant, told.name, plan.expected[told.name].value, _told(told))
        for told in report.strategies
        if _told(told) != plan.expected[told.name]
    ]


def profit(strategy: StrategyReport) -> Decimal:
    """What a strategy sold for, less what it paid."""
    signs = {Side.BUY: -1, Side.SELL: 1}
    return sum((signs[o.side] * o.filled_quantity * o.average_price for o in strategy.orders), Decimal(0))


def _told(strategy: StrategyReport) -> str:
    """Its position where it ended in good order, else what is wrong with it."""
    if strategy.status is not RunStatus.STOPPED:
        return f"{strategy.position} ({strategy.status})"
    held = sum(o.filled_quantity * (1 if o.side is Side.BUY else -1) for o in strategy.orders)
    odd = [o.client_order_id for o in strategy.orders if o.status is not OrderStatus.FILLED]
    if held or odd:
        return f"{strategy.position} ({held} held, unfilled: {', '.join(odd) or 'none'})"
    return strategy.position


def _instants(first: time, last: time, count: int) -> list[time]:
    start, end = datetime.combine(MARKET_DATE, first), datetime.combine(MARKET_DATE, last)
    step = (end - start) / (count - 1)
    return [(start + step * n).time().replace(microsecond=0) for n in range(count)]


def _breached_stop(draw: random.Random, paths: Mapping[str, Path], buy: time, sell: time) -> tuple[str, int] | None:
    """A symbol that falls enough between these times, and a stop in its fall; None where none does."""
    found = list(_falls(paths, at(buy), at(sell)))
    if not found:
        return None
    symbol, high, low = draw.choice(found)
    room = int(high * MARGIN)
    return symbol, _to_grid(draw.randint(low + room, high - room))


def _falls(paths: Mapping[str, Path], buy: datetime, sell: datetime) -> Iterator[tuple[str, int, int]]:
    """(symbol, lowest price while its entry may still be on its way, lowest price with time left to be out)."""
    for symbol, path in paths.items():
        high = min(path.between(buy, buy + GUARD))
        low = min(path.between(buy + GUARD, sell - GUARD))
        if high - low > 4 * high * MARGIN:
            yield symbol, high, low


def _spared_stop(draw: random.Random, paths: Mapping[str, Path], buy: time) -> tuple[str, int]:
    """Any symbol, and a stop well below what it costs from `buy` to the close."""
    symbol = draw.choice(sorted(paths))
    low = min(paths[symbol].between(at(buy)))
    return symbol, _to_grid(int(low * (1 - draw.uniform(*BELOW))))


def _to_grid(units: int) -> int:
    return units - units % TICK_UNITS
