"""One reading of an account at its broker: its book and its positions, each beside the other.

Knows no store and decides nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from engine.domain.account_positions import AccountReading, seen_orders
from engine.domain.broker import BookEntry, BrokerUnreachable, Trade
from engine.domain.orders import TERMINAL, Evidence, Order, OrderStatus, is_behind
from engine.domain.run import Run, parse_client_order_id
from engine.ports import Broker, Clock


def read_account(
    broker: Broker, deployment: str, clock: Clock, begun: str
) -> tuple[Sequence[BookEntry], AccountReading | str]:
    """The account's book, then its positions, or why these cannot be read. Raises BrokerUnreachable, TokenInvalid.

    Where an order of ours may fill in between the book is read again after them, and that one is returned: shares that
    are bought meanwhile must not count twice, and those that are sold are not missing. `begun`: `Store.pool_mark`.
    """
    asked_at = clock.now().real
    book = broker.orders()
    try:
        positions = broker.positions()
    except BrokerUnreachable as error:
        # What became of orders is known all the same.
        return book, str(error)
    later = broker.orders() if any(_may_fill(entry, deployment) for entry in book) else book
    return later, AccountReading(asked_at, positions, seen_orders(book, later), begun)


def _may_fill(entry: BookEntry, deployment: str) -> bool:
    is_open = entry.evidence.status not in TERMINAL
    return is_open and parse_client_order_id(deployment, entry.tag) is not None


def settle(broker: Broker, run: Run, evidence: Iterable[Evidence]) -> tuple[list[Evidence], dict[str, str]]:
    """`evidence` of the book about `run`'s orders, with the fills their trades tell where the book may be behind.

    The second value says, by client order id, why the trades of an order could not be read: its book counts all the
    same. After one that could not none is asked for: a broker that hangs takes its time each time. Raises TokenInvalid.
    """
    known = {order.client_order_id: order for order in run.orders}
    settled, untraded, why = list[Evidence](), dict[str, str](), ""
    for item in evidence:
        told = item
        if _needs_trades(item, known.get(item.client_order_id)):
            try:
                told = item if why else _by_trades(broker, item)
            except BrokerUnreachable as error:
                why = f"trades of order {item.broker_order_id}: {error}"
            if why:
                untraded[item.client_order_id] = why
        settled.append(told)
    return settled, untraded


def _needs_trades(item: Evidence, order: Order | None) -> bool:
    if order is not None and order.settled and item.filled_quantity <= order.filled_quantity:
        # Read after its end: asked at each look, many attempts would use up the account's reads.
        return False
    is_unpriced = item.filled_quantity > 0 and item.average_price == 0
    ended_short = item.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and item.filled_quantity < item.quantity
    return is_behind(item) or is_unpriced or ended_short or (order is not None and order.is_unsettled)


def trades_of(broker: Broker, broker_order_id: str) -> Sequence[Trade]:
    """The fills of one order, each once: brokers have listed one twice, and other orders' among them.

    Raises BrokerUnreachable, TokenInvalid.
    """
    listed = broker.trades_of(broker_order_id) if broker_order_id else ()
    return [*{trade.trade_id: trade for trade in listed if trade.broker_order_id == broker_order_id}.values()]


def _by_trades(broker: Broker, item: Evidence) -> Evidence:
    trades = trades_of(broker, item.broker_order_id)
    traded = sum(trade.quantity for trade in trades)
    # No order fills more than its quantity, whatever is listed.
    filled = min(traded, max(item.quantity, item.filled_quantity))
    if filled == 0 or filled < item.filled_quantity:
        return item
    value = sum((trade.price * trade.quantity for trade in trades), Decimal(0))
    last = max(trade.filled_at for trade in trades)
    return replace(item, filled_quantity=filled, average_price=value / traded, filled_at=item.filled_at or last)
