"""What an account traded today at the paper broker: positions that follow its fills. Pure; prices are money."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from broker_connector.paper.errors import bad_input
from broker_connector.paper.orders import BookOrder
from broker_connector.paper.symbols import Listing

#: Part of its value a position in a product binds.
MARGIN_RATES: Mapping[str, Decimal] = defaultdict(
    lambda: Decimal(1), {"MIS": Decimal("0.2"), "CO": Decimal("0.2"), "MTF": Decimal("0.5")}
)


@dataclass(frozen=True, slots=True)
class Lot:
    """Units that traded, or moved between products; moved away they count negative."""

    token: int
    tradingsymbol: str
    exchange: str
    product: str
    is_buy: bool
    quantity: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Holding:
    """The lots of one symbol in one product, summed."""

    lots: tuple[Lot, ...]
    bought: int
    buy_value: Decimal
    sold: int
    sell_value: Decimal

    @property
    def quantity(self) -> int:
        """Units held, negative for a short."""
        return self.bought - self.sold

    @property
    def average_price(self) -> Decimal:
        """Money a unit of what is held, 0 for nothing."""
        if self.quantity > 0:
            return self.buy_value / self.bought
        return self.sell_value / self.sold if self.quantity < 0 else Decimal(0)

    @property
    def first(self) -> Lot:
        """Any of its lots: what it is."""
        return self.lots[0]


def holdings_of(orders: Iterable[BookOrder], moved: Sequence[Lot] = (), until: datetime | None = None) -> list[Holding]:
    """What fills (up to `until`) and moves come to, by symbol and product, in the order they first traded."""
    lots: dict[tuple[int, str], list[Lot]] = defaultdict(list)
    for lot in [*_lots(orders, until), *moved]:
        lots[lot.token, lot.product].append(lot)
    return [_sum(group) for group in lots.values()]


def convert(held: Iterable[Holding], old: str, new: str, *, listing: Listing, is_buy: bool, quantity: int) -> list[Lot]:
    """The lots that move `quantity` units of a position from product `old` to `new`; raises the broker's error."""
    for position in held:
        first = position.first
        if first.token == listing.token and first.product == old:
            available = position.quantity if is_buy else -position.quantity
            if quantity <= available and old != new:
                price, words = position.average_price, (first.token, first.tradingsymbol, first.exchange)
                return [Lot(*words, old, is_buy, -quantity, price), Lot(*words, new, is_buy, quantity, price)]
    raise bad_input("The position cannot be converted: it is smaller, of another side, or already of that product.")


def positions_json(
    held: Iterable[Holding], last: Mapping[int, Decimal], overnight: Sequence[Lot] = ()
) -> dict[str, Any]:
    """Positions as /portfolio/positions shows them; `overnight` are the lots carried into today."""
    carried: dict[tuple[int, str], int] = defaultdict(int)
    for lot in overnight:
        carried[lot.token, lot.product] += lot.quantity if lot.is_buy else -lot.quantity
    rows = [
        _position(position, last.get(position.first.token, Decimal(0)))
        | {"overnight_quantity": carried.get((position.first.token, position.first.product), 0)}
        for position in held
    ]
    return {"net": rows, "day": rows}


def bound_margin(held: Iterable[Holding]) -> Decimal:
    """Money the positions bind."""
    return sum(
        (abs(each.quantity) * each.average_price * MARGIN_RATES[each.first.product] for each in held), Decimal(0)
    )


def realised(held: Iterable[Holding]) -> Decimal:
    """What closed parts of positions earned."""
    return sum((_realised(each) for each in held), Decimal(0))


def _realised(held: Holding) -> Decimal:
    closed = min(held.bought, held.sold)
    return closed * (held.sell_value / held.sold - held.buy_value / held.bought) if closed else Decimal(0)


def _lots(orders: Iterable[BookOrder], until: datetime | None) -> Iterable[Lot]:
    for order in orders:
        ticket = order.ticket
        for fill in order.fills:
            if until is not None and fill.at > until:
                continue
            yield Lot(
                ticket.token, ticket.tradingsymbol, ticket.exchange, ticket.product,
                order.is_buy, fill.quantity, fill.price,
            )  # fmt: skip


def _sum(lots: list[Lot]) -> Holding:
    bought, sold = ([lot for lot in lots if lot.is_buy is side] for side in (True, False))
    return Holding(tuple(lots), *_totals(bought), *_totals(sold))


def _totals(lots: list[Lot]) -> tuple[int, Decimal]:
    return sum(lot.quantity for lot in lots), sum((lot.price * lot.quantity for lot in lots), Decimal(0))


def _position(held: Holding, last: Decimal) -> dict[str, Any]:
    pnl = float(held.sell_value - held.buy_value + held.quantity * last)
    sides = {
        "buy_quantity": held.bought,
        "buy_price": _per_unit(held.buy_value, held.bought),
        "buy_value": float(held.buy_value),
        "sell_quantity": held.sold,
        "sell_price": _per_unit(held.sell_value, held.sold),
        "sell_value": float(held.sell_value),
    }
    return {
        "tradingsymbol": held.first.tradingsymbol,
        "exchange": held.first.exchange,
        "instrument_token": held.first.token,
        "product": held.first.product,
        "quantity": held.quantity,
        "overnight_quantity": 0,
        "multiplier": 1,
        "average_price": float(held.average_price),
        "close_price": 0,
        "last_price": float(last),
        "value": float(held.sell_value - held.buy_value),
        "pnl": pnl,
        "m2m": pnl,
        "unrealised": pnl,
        "realised": 0,
        "buy_m2m": float(held.buy_value),
        "sell_m2m": float(held.sell_value),
        **sides,
        **{f"day_{name}": value for name, value in sides.items()},
    }


def _per_unit(value: Decimal, quantity: int) -> float:
    return float(value / quantity) if quantity else 0.0
