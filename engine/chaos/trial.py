"""A trial: one strategy that a fault meets, what it must come to, and what became of it. Knows no fault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from broker_connector.kite_words import IST
from broker_connector.paper.symbols import SCALE, TICK_UNITS, money
from engine.chaos.judge import Finding, Row, judge, tag_by_hand
from engine.domain.orders import Product
from engine.domain.run import RunId
from engine.strategies import Draft

#: Units every strategy buys.
QUANTITY = 10
#: The stop as part of the price: of a strategy meant to be stopped out, of one with a typing error, and of the others;
#: and the price that breaches, as part of the stop.
NEAR, WRONG, FAR, BREACH = Decimal("0.985"), Decimal("1.05"), Decimal("0.85"), Decimal("0.995")


class Style(StrEnum):
    """How a strategy is meant to end, and when it begins."""

    SCHEDULE = "schedule"
    STOP_LOSS = "stop_loss"
    FORCE_STOP = "force_stop"
    #: Buys when the others hold already.
    LATE = "late"
    #: All three at one instant.
    TRIPLE = "triple"
    #: FORCE_STOP some seconds after the sale that was planned.
    OVERTAKEN = "overtaken"
    #: Its stop is above the price.
    MISTYPED = "mistyped"


#: Seconds from a wave's buy time to each style's own buy_time, and to its exit.
TIMES: dict[Style, tuple[int, float]] = {
    Style.SCHEDULE: (0, 4),
    Style.STOP_LOSS: (0, 3.5),
    Style.FORCE_STOP: (0, 3.5),
    Style.LATE: (2, 5),
    Style.TRIPLE: (0, 4),
    Style.OVERTAKEN: (0, 11),
    Style.MISTYPED: (0, 4),
}
#: Where the stop is that is not FAR.
STOPS: dict[Style, Decimal] = {Style.STOP_LOSS: NEAR, Style.TRIPLE: NEAR, Style.MISTYPED: WRONG}
#: Seconds from the wave's buy time to the planned sale of a strategy that ends otherwise.
OVERTAKEN_SALE = 4
#: How long after its exit by other means the SELL of a strategy would come, seconds: it is not to help.
SPARE = 300


@dataclass(slots=True)
class Trial:
    """One strategy. Times that begin with `mono` are of `time.monotonic`, the others are real and the market's."""

    fault: str
    style: Style
    tenant: str
    symbol: str
    buy_at: datetime
    exit_at: datetime
    stop: Decimal
    run: RunId
    is_bystander: bool = False
    #: When its exit was really asked for; None before.
    mono_exit: float | None = None
    mono_done: float | None = None
    finding: Finding = field(default_factory=Finding)
    #: Ended without a position, and a human was told.
    is_flagged: bool = False
    violations: list[str] = field(default_factory=list)
    #: Seconds from the fault's end, or the asked exit, to flat or ended.
    recovery: float | None = None
    struck: bool = False
    #: What its symbol cost when it was stored.
    calm: Decimal = Decimal(0)
    #: Runs that share its position.
    partners: list[RunId] = field(default_factory=list)
    #: Alerts of which its tenant must get one; whether it did.
    to_hear: frozenset[str] = frozenset()
    is_told: bool = False

    @property
    def breach(self) -> Decimal:
        """A price through its stop."""
        return on_grid(self.stop * BREACH)


def draft_of(
    style: Style,
    tenant: str,
    symbol: str,
    price: Decimal,
    buys: datetime,
    hold: float,
    name: str,
    product: Product = Product.INTRADAY,
) -> Draft:
    """The strategy of a trial that buys at its style's moment of a wave, and is held `hold` seconds longer."""
    begins, exits = TIMES[style]
    buy = buys + timedelta(seconds=begins)
    is_timed = style in {Style.SCHEDULE, Style.LATE, Style.TRIPLE, Style.MISTYPED}
    planned = OVERTAKEN_SALE if style is Style.OVERTAKEN else exits + hold if is_timed else SPARE
    sell = buys + timedelta(seconds=planned)
    return Draft(
        name=name,
        tenant=tenant,
        account="",
        symbol=symbol,
        quantity=QUANTITY,
        buy_time=buy.astimezone(IST).time(),
        sell_time=sell.astimezone(IST).replace(microsecond=0).time(),
        stop_loss=on_grid(price * STOPS.get(style, FAR)),
        product=product,
        trading_date=buy.astimezone(IST).date(),
    )


def on_grid(price: Decimal) -> Decimal:
    """The next lower price an order may have."""
    units = int(price * SCALE)
    return money(units - units % TICK_UNITS)


def due_now(trial: Trial, now: datetime) -> bool:
    """Whether its exit is to be asked for."""
    return trial.mono_exit is None and now >= trial.exit_at


def finding_of(trial: Trial, found: Mapping[RunId | None, Sequence[Row]], hand: Mapping[str, Sequence[Row]]) -> Finding:
    """What the ledger says of `trial` and of the position it is a part of."""
    beside = [row for run in (trial.run, *trial.partners) for row in hand.get(tag_by_hand(run), ())]
    beside += [row for run in trial.partners for row in found.get(run, ())]
    return judge(found.get(trial.run, ()), QUANTITY, beside)


def recovered(trial: Trial, cleared_at: float | None, now: float) -> float:
    """Seconds from the fault's end and the asked exit, whichever was later, to its own end; to `now` if it has none.

    `cleared_at`: when its fault was over; None where none struck. A timer may have sold it between two looks, before
    one of them found the exit due: it was due when it was seen sold.
    """
    done = now if trial.mono_done is None else trial.mono_done
    asked = done if trial.mono_exit is None else trial.mono_exit
    return max(0.0, done - max(asked, asked if cleared_at is None else cleared_at))
