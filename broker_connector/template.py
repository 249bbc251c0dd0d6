"""A connector to copy: small, running, and tested by the same contract as the others. See docs/write-a-connector.md.

It speaks a plain dialect of what the paper broker understands. Replace the tables first, then the translations
below them, then take row after row out of MISSING. No account can name it: it is not in the registry.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Any

from broker_connector.http import Answer, Failure, Line
from broker_connector.reads import Unanswered, body_of, fields_of, parsed, retried, translated
from broker_connector.skipped import Skipped
from broker_connector.verdicts import DOUBT, WIRE, Ending, Verdict, of_answer
from engine.domain.broker import (
    BookEntry,
    BrokerProfile,
    Instrument,
    Margin,
    NetPosition,
    OrderChange,
    OrderRequest,
    Outcome,
    Quote,
    RejectCause,
    Reply,
    Trade,
)
from engine.domain.orders import Evidence, OrderStatus, OrderType, Product, Side

#: Rows of `matrix.ROWS` this connector lacks, and what each waits for. The contract tests hold that they are missing.
MISSING: Mapping[str, str] = {
    "B02": "trades_of: where does the broker list an order's fills?",
    "B08": "order_history: does the broker keep an order's states? Else make one of the book",
    "B14": "modify: which call changes a resting order?",
    "B15": "modify: as B14",
    "B16": "modify: as B14; a lost answer is doubt",
    "B53": "instruments: where is the list, and in which units does the ticker tell prices?",
    "B54": "quote: which call tells price and band?",
    "B56": "trades: where does the broker list the day's fills?",
    "B57": "margins: where does the broker tell of money?",
}

#: From the broker's own documents: does it refuse a repeated id, how late may an order appear, how long is a tag?
PROFILE = BrokerProfile(name="template", idempotent=False, grace=10.0, tag_length=20)

#: Call -> method and path.
CALLS: Mapping[str, tuple[str, str]] = {
    "place": ("POST", "/orders/regular"),
    "cancel": ("DELETE", "/orders/regular/{order_id}"),
    "book": ("GET", "/orders"),
    "positions": ("GET", "/portfolio/positions"),
    "holdings": ("GET", "/portfolio/holdings"),
    "account": ("GET", "/user/profile"),
}
SIDES: Mapping[Side, str] = {Side.BUY: "BUY", Side.SELL: "SELL"}
ORDER_TYPES: Mapping[OrderType, str] = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT"}
PRODUCTS: Mapping[Product, str] = {Product.INTRADAY: "MIS", Product.DELIVERY: "CNC", Product.MARGIN: "NRML"}
_SIDE_OF = {told: side for side, told in SIDES.items()}
_PRODUCT_OF = {told: product for product, told in PRODUCTS.items()}
#: Words that prove an end. Every other word is no end: an order is never taken for over by a word nobody knows.
ENDS: Mapping[str, OrderStatus] = {
    "COMPLETE": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
}
#: Every way a call can end. Only what the broker documents as a definite no is REJECTED.
VERDICTS: Mapping[Ending, Verdict] = {
    **WIRE,
    "TokenException": Verdict(Outcome.TOKEN_INVALID),
    "MarginException": Verdict(Outcome.REJECTED, RejectCause.MARGIN),
    "InputException": Verdict(Outcome.REJECTED, RejectCause.INPUT),
    "OrderException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    "HoldingException": Verdict(Outcome.REJECTED, RejectCause.AUTHORISATION),
}
#: What a broker says when it refuses the request and not the order.
PERHAPS_PLACED = "timed out"
#: What reading a foreign value raises.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
#: The zone of the broker's times, where they have none.
ZONE = timezone(timedelta(hours=5, minutes=30))


def order_form(request: OrderRequest) -> dict[str, str]:
    """The form that places `request`."""
    exchange, _, tradingsymbol = request.symbol.partition(":")
    is_market = request.order_type is OrderType.MARKET
    return {
        "exchange": exchange,
        "tradingsymbol": tradingsymbol,
        "transaction_type": SIDES[request.side],
        "quantity": str(request.quantity),
        "product": PRODUCTS[request.product],
        "order_type": ORDER_TYPES[request.order_type],
        "tag": request.client_order_id,
        **({"market_protection": "-1"} if is_market else {"price": str(request.limit_price)}),
    }


def book_entry(row: Mapping[str, Any]) -> BookEntry:
    """One order of the book; raises where it cannot be read: half an order is worse than none."""
    tag, filled = str(row["tag"] or ""), int(row["filled_quantity"])
    evidence = Evidence(
        client_order_id=tag,
        broker_order_id=str(row["order_id"]),
        status=ENDS.get(row["status"], OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED),
        quantity=int(row["quantity"]),
        filled_quantity=filled,
        average_price=Decimal(str(row["average_price"])),
        filled_at=_instant(row["exchange_timestamp"]) if filled else None,
        reason=str(row["status_message"] or ""),
        limit_price=Decimal(str(row["price"])) if row.get("price") else None,
    )
    side = next(side for side, told in SIDES.items() if told == row["transaction_type"])
    return BookEntry(evidence, f"{row['exchange']}:{row['tradingsymbol']}", side, tag, _instant(row["order_timestamp"]))


def is_foreign(row: Any, ours: Callable[[str], bool]) -> bool:
    """Whether a row of the book provably is somebody else's: it says whose it is, and that is none of ours."""
    if not isinstance(row, dict) or "tag" not in row or not isinstance(row["tag"], str | None):
        return False
    return not row["tag"] or not ours(row["tag"])


def sellable(holdings: Sequence[Any], positions: Sequence[Any], skipped: Skipped) -> list[NetPosition]:
    """What the account can sell: today's net positions, and of delivery what the day began with.

    Is a sale of held shares subtracted from the holding, from the position, or from both? Here from the position.
    """
    told: dict[tuple[str, Product], NetPosition] = {}
    rows = [(row, _PRODUCT_OF, "quantity") for row in positions]
    rows += [(row, {PRODUCTS[Product.DELIVERY]: Product.DELIVERY}, "opening_quantity") for row in holdings]
    for row, products, field in rows:
        try:
            key = f"{row['exchange']}:{row['tradingsymbol']}", products[row["product"]]
        except UNREADABLE:
            # Of no symbol or product we could trade.
            skipped.count("position")
            continue
        known = told.get(key, NetPosition(*key, 0))
        try:
            told[key] = replace(known, quantity=known.quantity + int(row[field]))
        except UNREADABLE:
            told[key] = replace(known, quantity=0, unread=field)
    return [each if not each.unread else replace(each, quantity=0) for each in told.values()]


def error_reply(answer: Answer) -> Reply:
    """What an error answer proves; doubt wherever it does not clearly say no, and where it is not the broker's own."""
    fields = fields_of(answer) or {}
    message, error_type = str(fields.get("message") or ""), fields.get("error_type")
    verdict = of_answer(VERDICTS, answer.status, error_type if isinstance(error_type, str) else "")
    if verdict.outcome is Outcome.REJECTED and PERHAPS_PLACED in message:
        verdict = DOUBT
    wait = answer.headers.get("Retry-After", "")
    return Reply(
        verdict.outcome,
        cause=verdict.cause,
        message=f"HTTP {answer.status}: {message}",
        retry_after=float(wait) if wait.replace(".", "", 1).isdigit() else None,
    )


class TemplateConnector:
    """One account at a broker. Safe to use from many threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        access_token: str,
        profile: BrokerProfile = PROFILE,
        ours: Callable[[str], bool] = lambda _tag: True,
    ) -> None:
        self._line = Line(
            base_url, {"Authorization": f"token {api_key}:{access_token}"}, read_timeout=profile.answer_timeout
        )
        self._profile = profile
        self._ours = ours
        self.skipped = Skipped()

    @property
    def profile(self) -> BrokerProfile:
        """What this broker promises."""
        return self._profile

    def place(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        """Place an order, once; `may_send` is asked right before the write."""
        return _reply_of(self._line.send(*CALLS["place"], order_form(request), may_send))

    def cancel(self, broker_order_id: str) -> Reply:
        """Ask for an order's cancellation."""
        method, path = CALLS["cancel"]
        return _reply_of(self._line.send(method, path.format(order_id=broker_order_id)))

    def orders(self) -> Sequence[BookEntry]:
        """The account's whole order book of the day."""
        return translated(lambda: [*self._book()])

    def orders_by_client_id(self, client_order_id: str) -> Sequence[BookEntry]:
        """Every order of the book under this client order id."""
        return [entry for entry in self.orders() if entry.tag == client_order_id]

    def positions(self) -> Sequence[NetPosition]:
        """What the account can sell, net: today's positions and settled holdings together."""
        # Holdings first: what moves over night is then missed for a moment, and never counted twice.
        return translated(lambda: sellable(self._read("holdings"), self._read("positions")["net"], self.skipped))

    def account_id(self) -> str:
        """The broker's own name of the account."""
        return translated(lambda: str(self._read("account")["user_id"]))

    def warm(self, connections: int) -> int:
        """Open so many kept-alive connections ahead of orders; how many stand."""
        return self._line.warm(CALLS["account"][1], connections)

    def close(self) -> None:
        """Close kept-alive connections."""
        self._line.close()

    def trades_of(self, broker_order_id: str) -> Sequence[Trade]:
        """Every fill of one order."""
        raise NotImplementedError(MISSING["B02"])

    def order_history(self, broker_order_id: str) -> Sequence[BookEntry]:
        """Every state one order went through, oldest first."""
        raise NotImplementedError(MISSING["B08"])

    def modify(self, broker_order_id: str, change: OrderChange) -> Reply:
        """Ask for another limit or quantity of a resting order."""
        raise NotImplementedError(MISSING["B14"])

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        """What can be traded at `exchange`."""
        raise NotImplementedError(MISSING["B53"])

    def quote(self, symbols: Sequence[str]) -> Sequence[Quote]:
        """Quotes of `symbols`."""
        raise NotImplementedError(MISSING["B54"])

    def trades(self) -> Sequence[Trade]:
        """Every fill of the account today."""
        raise NotImplementedError(MISSING["B56"])

    def margins(self) -> Sequence[Margin]:
        """The money of each segment."""
        raise NotImplementedError(MISSING["B57"])

    def _book(self) -> Iterator[BookEntry]:
        for row in self._read("book"):
            try:
                yield book_entry(row)
            except UNREADABLE:
                # An order of ours that is left out would look absent and be sent again.
                if not is_foreign(row, self._ours):
                    raise
                self.skipped.count("order")

    def _read(self, call: str) -> Any:
        return retried(partial(self._read_once, call))

    def _read_once(self, call: str) -> Any:
        answer = parsed(body_of(self._line.send(*CALLS[call]), error_reply))
        if not isinstance(answer, dict) or "data" not in answer:
            raise Unanswered("unreadable answer")
        return answer["data"]


def _reply_of(answer: Answer | Failure) -> Reply:
    """The reply to a request that changes something; whatever is not clearly yes or no is TIMEOUT."""
    if isinstance(answer, Failure):
        return Reply(answer.outcome, message=answer.message)
    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        return error_reply(answer)
    data = (fields_of(answer) or {}).get("data")
    order_id = data.get("order_id") if isinstance(data, dict) else None
    if not isinstance(order_id, str) or not order_id:
        return Reply(Outcome.TIMEOUT, message=f"HTTP {answer.status} without an order id")
    return Reply(Outcome.ACCEPTED, broker_order_id=order_id)


def _instant(naive: str) -> datetime:
    return datetime.fromisoformat(naive).replace(tzinfo=ZONE).astimezone(UTC)
