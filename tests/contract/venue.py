"""A venue that misbehaves as it is told, for the broker contract: orders, waits, and connectors to one account."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from time import monotonic, sleep

import requests

from broker_connector.base import Connector
from broker_connector.paper.process import PaperControl
from engine.domain.broker import BookEntry, OrderRequest, Outcome
from engine.domain.orders import OrderStatus, OrderType, Product, Side

SYMBOL = "NSE:INFY"
PRICE = Decimal("1550.00")
#: Seconds a connector under test waits for an answer.
READ_TIMEOUT = 1.0


@dataclass(frozen=True)
class Venue:
    """A venue, and connectors to one account at it."""

    control: PaperControl
    connect: Callable[[str], Connector]

    def broker(self) -> Connector:
        return self.connect("paper-token")

    def refuses_unprotected_orders(self) -> bool:
        """Whether a market order without protection, written by hand, is refused."""
        form = {
            "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": "1",
            "product": "MIS", "order_type": "MARKET", "validity": "DAY", "market_protection": "0",
        }  # fmt: skip
        headers = {"X-Kite-Version": "3", "Authorization": "token paper-key:paper-token"}
        url = f"{self.control.base_url}/orders/regular"
        return requests.post(url, form, headers=headers, timeout=10).status_code == HTTPStatus.BAD_REQUEST


def request(tag: str, side: Side = Side.BUY, quantity: int = 10, limit: str | None = None) -> OrderRequest:
    return OrderRequest(
        client_order_id=tag,
        symbol=SYMBOL,
        side=side,
        quantity=quantity,
        order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        product=Product.INTRADAY,
        limit_price=None if limit is None else Decimal(limit),
    )


def always() -> bool:
    return True


def eventually(find: Callable[[], BookEntry | None], seconds: float = 10.0) -> BookEntry:
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        found = find()
        if found is not None:
            return found
        sleep(0.02)
    raise AssertionError("it never came")


def only(broker: Connector, tag: str) -> BookEntry:
    (entry,) = broker.orders_by_client_id(tag)
    return entry


def answers(broker: Connector, tag: str) -> BookEntry | None:
    """Any entry once the venue answers again; an order of its own serves as the sign of life."""
    reply = broker.place(request(f"{tag}ALIVE"), always)
    return only(broker, f"{tag}ALIVE") if reply.outcome is Outcome.ACCEPTED else None


def filled(broker: Connector, tag: str) -> BookEntry:
    """The order, once it is filled."""
    return eventually(lambda: entry if (entry := only(broker, tag)).evidence.status is OrderStatus.FILLED else None)
