"""What an account at Kite Connect v3 can sell, of its positions and holdings: today's trades and what settled. Pure.

Source: kite.trade/docs/connect/v3/portfolio. Delivery shares stand under positions on the day they are bought and
under holdings from the next day on. A sale of held shares is a negative position and, at the same time, "used" of the
holding: it is subtracted once here, by adding today's net position to the stock the day began with.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

from broker_connector.kite_words import MOST_UNITS, PRODUCT_OF, Unreadable, read_field, rows_of, units, word
from broker_connector.skipped import Skipped
from engine.domain.broker import ANY_SYMBOL, NetPosition
from engine.domain.orders import Product

#: Exchanges at either of which the same delivered shares can be sold, whichever of them a holding names.
SAME_SHARES: Mapping[str, str] = {"NSE": "BSE", "BSE": "NSE"}
#: The product of settled holdings; financed ones are told inside such a row and can cover nothing of ours.
HOLDING_PRODUCT = "CNC"

_Key = tuple[str, Product]


#: In the place of holdings that could not be read.
UNREAD: Any = object()


class _Tally:
    """Units by key, and the field that could not be read of a key."""

    def __init__(self) -> None:
        self.units: defaultdict[_Key, int] = defaultdict(int)
        self.unread: dict[_Key, str] = {}

    def add(self, key: _Key, quantity: int) -> None:
        self.units[key] += quantity

    def fail(self, key: _Key, field: str) -> None:
        self.units[key] += 0
        self.unread.setdefault(key, field)


def sellable(holdings: Any, positions: Any, skipped: Skipped) -> list[NetPosition]:
    """What the account can sell, net, by symbol and product; raises Unreadable where the lists themselves are not.

    A row whose quantity cannot be read is told as unread; one that names no symbol, or a product nobody trades here,
    is left out and counted. `holdings` UNREAD: nothing is known of any delivery shares. Ask for `holdings` before
    `positions`: what moves from these to those over night is then missed for a moment, and never counted twice.
    """
    net, stock = _Tally(), _Tally()
    for row in read_field(positions, "net", partial(rows_of, of="net positions"), "positions"):
        _add_position(row, net, skipped)
    for row in () if holdings is UNREAD else rows_of(holdings, "holdings"):
        _add_holding(row, stock, skipped)
    told = [
        NetPosition(symbol, product, 0 if (field := net.unread.get((symbol, product), "")) else quantity, field)
        for (symbol, product), quantity in net.units.items()
        if product is not Product.DELIVERY
    ]
    if holdings is UNREAD:
        return [*told, NetPosition(ANY_SYMBOL, Product.DELIVERY, 0, "holdings")]
    return [*told, *_delivery(net, stock)]


def _delivery(net: _Tally, stock: _Tally) -> list[NetPosition]:
    """The delivery shares: what the day began with, which either exchange takes, and today's trades."""
    symbols = dict.fromkeys(symbol for symbol, product in net.units if product is Product.DELIVERY)
    for symbol, _ in stock.units:
        symbols |= dict.fromkeys((symbol, *_elsewhere(symbol)))
    return [_delivered(symbol, net, stock) for symbol in symbols]


def _delivered(symbol: str, net: _Tally, stock: _Tally) -> NetPosition:
    own = (symbol, Product.DELIVERY)
    others = [(other, Product.DELIVERY) for other in _elsewhere(symbol)]
    for tally in (net, stock):
        for key in (own, *others):
            if key in tally.unread:
                return NetPosition(symbol, Product.DELIVERY, 0, tally.unread[key])
    began_with = sum(stock.units.get(key, 0) for key in (own, *others))
    # Sold elsewhere, they are gone; bought elsewhere today, they cannot be delivered here yet.
    sold_elsewhere = sum(min(net.units.get(key, 0), 0) for key in others)
    return NetPosition(symbol, Product.DELIVERY, began_with + net.units.get(own, 0) + sold_elsewhere)


def _elsewhere(symbol: str) -> tuple[str, ...]:
    """The symbol's name at the other exchange that takes the same shares."""
    exchange, _, name = symbol.partition(":")
    return (f"{SAME_SHARES[exchange]}:{name}",) if exchange in SAME_SHARES else ()


def _add_position(row: Any, net: _Tally, skipped: Skipped) -> None:
    try:
        symbol = _symbol_of(row, "position")
    except Unreadable as error:
        skipped.count(f"position: {error.field}")
        return
    told = row.get("product")
    if isinstance(told, str) and told:
        if told in PRODUCT_OF:
            _add(net, (symbol, PRODUCT_OF[told]), row, _net_of)
        else:
            skipped.count("position: product")
        return
    # It may be of any of them.
    for product in Product:
        net.fail((symbol, product), "product")


def _add_holding(row: Any, stock: _Tally, skipped: Skipped) -> None:
    try:
        symbol = _symbol_of(row, "holding")
    except Unreadable as error:
        skipped.count(f"holding: {error.field}")
        return
    if row.get("product", HOLDING_PRODUCT) in (HOLDING_PRODUCT, None):
        _add(stock, (symbol, Product.DELIVERY), row, _stock_of)
    else:
        skipped.count("holding: product")


def _add(tally: _Tally, key: _Key, row: Mapping[str, Any], read: Any) -> None:
    try:
        tally.add(key, read(row, key[1]))
    except Unreadable as error:
        tally.fail(key, error.field)


def _symbol_of(row: Any, of: str) -> str:
    exchange, name = (read_field(row, field, word, of) for field in ("exchange", "tradingsymbol"))
    return f"{exchange}:{name}"


def _net_of(row: Mapping[str, Any], product: Product) -> int:
    """A position's units: of delivery only today's, for what it carries over night is told as a holding too."""
    quantity = read_field(row, "quantity", _signed, "position")
    if product is not Product.DELIVERY:
        return quantity
    return quantity - read_field(row, "overnight_quantity", _signed, "position", default=0)


def _stock_of(row: Mapping[str, Any], _product: Product) -> int:
    """What the day began with of a holding: what is delivered, and what is on its way and can be sold already.

    What was sold of it today may or may not be missing from its quantities: what they and the sales come to is no more
    than what the fields that tell of the morning allow. Pledged shares are not in it, and shares the depository has
    yet to authorise are.
    """
    left, used, on_its_way = (
        read_field(row, name, units, "holding") for name in ("quantity", "used_quantity", "t1_quantity")
    )
    opening, delivered = (
        read_field(row, name, units, "holding", default=None) for name in ("opening_quantity", "realised_quantity")
    )
    bounds = [] if delivered is None else [delivered + on_its_way]
    if opening is not None:
        # One that tells of the delivered ones alone is no more than they are.
        bounds = [opening if delivered is None or opening > delivered else opening + on_its_way]
    return min([left + used + on_its_way, *bounds])


def _signed(told: Any) -> int:
    return units(told, -MOST_UNITS)
