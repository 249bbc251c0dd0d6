"""What a night does to an account of the paper broker: delivery positions become holdings, intraday ones end.

Shares bought are a position that day, holdings on T+1 from the next day and settled after it. Shares sold from the
holdings are a negative position that day. Pure; prices are money.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from broker_connector.paper.portfolio import MARGIN_RATES, Holding, Lot
from broker_connector.paper.symbols import money

#: Products whose shares are delivered; the broker lends part of the price of the second.
OWNED, FINANCED = "CNC", "MTF"
DELIVERED = (OWNED, FINANCED)
#: The product whose positions stay positions over night.
CARRIED = "NRML"
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Share:
    """Units of one symbol in one product that an account has held since before today."""

    token: int
    tradingsymbol: str
    exchange: str
    product: str
    #: In the depository.
    settled: int = 0
    #: Bought on the trading day before, delivered at the end of this one.
    t1: int = 0
    average_price: Decimal = Decimal(0)
    #: Of the settled ones: what the owner allowed the depository to hand out.
    authorised: int = 0

    @property
    def units(self) -> int:
        """All of them."""
        return self.settled + self.t1

    def less(self, sold: int) -> "Share":
        """What is left when `sold` are gone, settled ones first; no fewer than none."""
        from_settled = min(sold, self.settled)
        left = max(0, self.t1 - (sold - from_settled))
        return replace(self, settled=self.settled - from_settled, t1=left, authorised=max(0, self.authorised - sold))


def trading_days(first: date, until: date, *, always_open: bool) -> int:
    """How many days from `first` to the one before `until` were traded on: T+1 counts those."""
    days = (first + timedelta(days=n) for n in range((until - first).days))
    return sum(always_open or day.weekday() < _SATURDAY for day in days)


def settle(shares: Iterable[Share], held: Iterable[Holding]) -> list[Share]:
    """The holdings on the morning after a trading day that ended with the positions `held`."""
    morning = {
        (share.token, share.product): replace(share, settled=share.units, t1=0, authorised=0) for share in shares
    }
    for position in held:
        first = position.first
        if first.product in DELIVERED:
            place = first.token, first.product
            none = Share(first.token, first.tradingsymbol, first.exchange, first.product)
            morning[place] = _with(morning.get(place, none), position)
    return [share for share in morning.values() if share.units]


def carried(held: Iterable[Holding]) -> list[Lot]:
    """The positions that are still positions in the morning."""
    return [
        replace(
            position.first,
            is_buy=position.quantity > 0,
            quantity=abs(position.quantity),
            price=position.average_price,
        )
        for position in held
        if position.first.product == CARRIED and position.quantity
    ]


def sold_today(share: Share, held: Iterable[Holding]) -> int:
    """Units of `share` that today's sales took."""
    net = sum(
        position.quantity
        for position in held
        if (position.first.token, position.first.product) == (share.token, share.product)
    )
    return min(share.units, max(0, -net))


def value_of(shares: Iterable[Share]) -> Decimal:
    """Money that was paid for `shares`."""
    return sum((share.units * share.average_price for share in shares), Decimal(0))


def holdings_json(
    shares: Iterable[Share], held: Iterable[Holding], last: Mapping[int, Decimal], closes: Mapping[int, int]
) -> list[Any]:
    """Shares as /portfolio/holdings shows them, a row a symbol; what today's sales took is `used_quantity`."""
    positions = list(held)
    by_token: dict[int, dict[str, Share]] = defaultdict(dict)
    for share in shares:
        by_token[share.token][share.product] = share
    return [_row(group, positions, last, money(closes.get(token, 0))) for token, group in by_token.items()]


def _with(share: Share, position: Holding) -> Share:
    bought = position.quantity
    if bought <= 0:
        return share.less(-bought)
    value = share.units * share.average_price + bought * position.average_price
    return replace(share, t1=bought, average_price=value / (share.units + bought))


def _row(group: Mapping[str, Share], held: list[Holding], last: Mapping[int, Decimal], close: Decimal) -> Any:
    some = next(iter(group.values()))
    none = Share(some.token, some.tradingsymbol, some.exchange, OWNED)
    own, financed = group.get(OWNED, none), group.get(FINANCED, none)
    used, left = sold_today(own, held), own.less(sold_today(own, held))
    price = last.get(some.token, Decimal(0))
    change = price - close
    return {
        "tradingsymbol": some.tradingsymbol,
        "exchange": some.exchange,
        "instrument_token": some.token,
        "isin": f"INE{some.token:09d}",
        "product": OWNED,
        "price": 0,
        "quantity": left.settled,
        "used_quantity": used,
        "t1_quantity": left.t1,
        "realised_quantity": own.settled,
        "authorised_quantity": left.authorised,
        "authorised_date": "1970-01-01 00:00:00",
        "authorisation": {},
        "opening_quantity": own.units,
        "short_quantity": 0,
        "collateral_quantity": 0,
        "collateral_type": "",
        "discrepancy": False,
        "average_price": float(own.average_price),
        "last_price": float(price),
        "close_price": float(close),
        "pnl": float(left.units * (price - own.average_price)),
        "day_change": float(change),
        "day_change_percentage": float(change / close * 100) if close else 0.0,
        "mtf": {
            "quantity": financed.less(used_mtf := sold_today(financed, held)).units,
            "used_quantity": used_mtf,
            "average_price": float(financed.average_price),
            "value": float(financed.units * financed.average_price),
            "initial_margin": float(financed.units * financed.average_price * MARGIN_RATES[FINANCED]),
        },
    }
