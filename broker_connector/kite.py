"""The connector to Kite Connect v3, for one account: the `Broker` port over the broker's HTTP interface.

Orders are posted once; only reads are retried. Knows nothing of runs or strategies.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import time
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from broker_connector import kite_account as account
from broker_connector import kite_book as books
from broker_connector import kite_portfolio as portfolio
from broker_connector import kite_words as words
from broker_connector.http import CONNECT_TIMEOUT, Answer, Failure, Line
from broker_connector.kite_book import Ours, any_tag
from broker_connector.kite_errors import error_reply
from broker_connector.reads import Unanswered, body_of, fields_of, parsed, retried, translated
from broker_connector.skipped import Skipped
from engine.domain.broker import (
    BookEntry,
    BrokerProfile,
    BrokerUnreachable,
    Instrument,
    Margin,
    NetPosition,
    OrderChange,
    OrderRequest,
    Outcome,
    Quote,
    Reply,
    SlicedReply,
    Trade,
)

#: Symbols one quote request may name.
QUOTE_BATCH = 500

#: Seconds for a list of instruments, which is megabytes.
LIST_TIMEOUT = 60.0

#: Orders a calendar second, minute and day for one account.
KITE_RATES: Mapping[str, int] = {"second": 10, "minute": 400, "day": 5000}
KITE_PROFILE = BrokerProfile(
    name="kite", idempotent=False, grace=10.0, tag_length=20, rates=KITE_RATES, token_dies=time(6, tzinfo=words.IST)
)


class KiteConnector:
    """One account at Kite Connect v3, or at anything that speaks it. Safe to use from many threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        access_token: str,
        profile: BrokerProfile = KITE_PROFILE,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float | None = None,
        ours: Ours = any_tag,
        skipped: Skipped | None = None,
    ) -> None:
        """`ours`: whether a tag could be of an order of ours. `skipped`: counts the rows that are left out."""
        headers = {"X-Kite-Version": "3", "Authorization": f"token {api_key}:{access_token}"}
        self._line = Line(base_url, headers, connect_timeout, read_timeout or profile.answer_timeout)
        self._profile = profile
        self._ours = ours
        self.skipped = skipped or Skipped()

    @staticmethod
    def login(base_url: str, api_key: str, api_secret: str, request_token: str) -> str:
        """The day's access token for a request token; raises TokenInvalid or BrokerUnreachable."""
        checksum = hashlib.sha256((api_key + request_token + api_secret).encode()).hexdigest()
        form = {"api_key": api_key, "request_token": request_token, "checksum": checksum}
        line = Line(base_url, {"X-Kite-Version": "3"})
        try:
            # Once: a request token is spent by its first use.
            answer = line.send("POST", "/session/token", form)
        finally:
            line.close()
        try:
            return str(_data_of(answer)["access_token"])
        except (Unanswered, KeyError, TypeError) as error:
            raise BrokerUnreachable(f"login: {error}") from error

    @property
    def profile(self) -> BrokerProfile:
        """What this broker promises."""
        return self._profile

    def place(self, request: OrderRequest, may_send: Callable[[], bool]) -> Reply:
        """Place an order; `may_send` is asked right before the write, False answers SERVER_DOWN."""
        return _reply_of(self._line.send("POST", "/orders/regular", words.order_form(request), may_send))

    def cancel(self, broker_order_id: str) -> Reply:
        """Ask for an order's cancellation; ACCEPTED means asked, not canceled."""
        return _reply_of(self._line.send("DELETE", f"/orders/regular/{quote(broker_order_id, safe='')}"))

    def modify(self, broker_order_id: str, change: OrderChange) -> Reply:
        """Ask for another limit or quantity of a resting order; ACCEPTED means asked, not changed."""
        path = f"/orders/regular/{quote(broker_order_id, safe='')}"
        return _reply_of(self._line.send("PUT", path, words.change_form(change)))

    def place_sliced(self, request: OrderRequest, may_send: Callable[[], bool]) -> SlicedReply:
        """Place an order above the freeze quantity, which the broker cuts up; it refuses one that is not above.

        Every slice is an order of its own under the same tag, so that `orders_by_client_id` lists them all.
        """
        form = words.order_form(request) | {"autoslice": "true"}
        answer = self._line.send("POST", "/orders/regular", form, may_send)
        whole = _reply_of(answer)
        if isinstance(answer, Failure) or whole.outcome is not Outcome.ACCEPTED:
            return SlicedReply(whole)
        return SlicedReply(whole, account.slices_of(json.loads(answer.body)["data"]))

    def orders(self) -> Sequence[BookEntry]:
        """The account's whole order book of the day."""
        return translated(lambda: books.book_of(self._read("/orders"), self._ours, self.skipped))

    def orders_by_client_id(self, client_order_id: str) -> Sequence[BookEntry]:
        """Every order of the book under this client order id; two are a double."""
        return [entry for entry in self.orders() if entry.tag == client_order_id]

    def order_history(self, broker_order_id: str) -> Sequence[BookEntry]:
        """Every state one order went through, oldest first."""
        path = f"/orders/{quote(broker_order_id, safe='')}"
        return translated(
            lambda: [books.book_entry(state, self._ours) for state in words.rows_of(self._read(path), "history")]
        )

    def trades_of(self, broker_order_id: str) -> Sequence[Trade]:
        """Every fill of one order."""
        path = f"/orders/{quote(broker_order_id, safe='')}/trades"
        return translated(lambda: account.trades_of(self._read(path)))

    def trades(self) -> Sequence[Trade]:
        """Every fill of the account today."""
        return translated(lambda: account.trades_of(self._read("/trades")))

    def margins(self) -> Sequence[Margin]:
        """The money of each segment the account may trade in."""
        return translated(lambda: account.margins_of(self._read("/user/margins")))

    def positions(self) -> Sequence[NetPosition]:
        """What the account can sell, net: today's positions and settled holdings together."""

        def sellable() -> Sequence[NetPosition]:
            try:
                holdings = self._read("/portfolio/holdings")
            except BrokerUnreachable:
                # What was traded intraday can be sold all the same.
                holdings = portfolio.UNREAD
            return portfolio.sellable(holdings, self._read("/portfolio/positions"), self.skipped)

        return translated(sellable)

    def instruments(self, exchange: str) -> Iterable[Instrument]:
        """What can be traded at `exchange`."""
        path = f"/instruments/{quote(exchange, safe='')}"
        return translated(lambda: words.instruments_of(retried(lambda: self._dump(path)), self.skipped))

    def quote(self, symbols: Sequence[str]) -> Sequence[Quote]:
        """Quotes of `symbols`; unknown ones are left out."""
        quotes: list[Quote] = []
        for start in range(0, len(symbols), QUOTE_BATCH):
            query = urlencode([("i", symbol) for symbol in symbols[start : start + QUOTE_BATCH]])
            rows = self._read(f"/quote?{query}")
            quotes += translated(partial(words.quotes_of, rows, self.skipped))
        return quotes

    def account_id(self) -> str:
        """The broker's own name of the account: the cheapest proof that token and line work."""
        return translated(lambda: str(self._read("/user/profile")["user_id"]))

    def warm(self, connections: int) -> int:
        """Open so many kept-alive connections ahead of orders; how many stand. Never raises.

        Each costs one read of the account's rate, and stays warm for `http.IDLE_LIMIT` seconds without use.
        """
        return self._line.warm("/user/profile", connections)

    def close(self) -> None:
        """Close kept-alive connections."""
        self._line.close()

    def _dump(self, path: str) -> list[str]:
        """The lines of an instrument dump; raises Unanswered where something else came in its place."""
        lines = body_of(self._line.send("GET", path, within=LIST_TIMEOUT), _error_reply).decode().splitlines()
        if not words.is_dump(lines):
            raise Unanswered("the answer is no list of instruments")
        return lines

    def _read(self, path: str) -> Any:
        return retried(lambda: _data_of(self._line.send("GET", path)))


def _reply_of(answer: Answer | Failure) -> Reply:
    """The reply to a request that changes something; whatever is not clearly yes or no is TIMEOUT."""
    if isinstance(answer, Failure):
        return Reply(answer.outcome, message=answer.message)
    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        return _error_reply(answer)
    body = fields_of(answer)
    data = body.get("data") if body and body.get("status") == "success" else None
    order_id: Any = data.get("order_id") if isinstance(data, dict) else None
    if not words.is_word(order_id):
        return Reply(Outcome.TIMEOUT, message=f"HTTP {answer.status} without an order id")
    return Reply(Outcome.ACCEPTED, broker_order_id=order_id)


def _error_reply(answer: Answer) -> Reply:
    return error_reply(answer.status, fields_of(answer), answer.headers.get("Retry-After"))


def _data_of(answer: Answer | Failure) -> Any:
    """The `data` of a read's JSON answer; raises Unanswered, TokenInvalid or BrokerUnreachable."""
    try:
        body = parsed(body_of(answer, _error_reply))
        if body.get("status", "success") != "success":
            raise Unanswered("an error under a status of success")
        return body["data"]
    except (KeyError, TypeError, AttributeError) as error:
        raise Unanswered(f"unreadable answer: {type(error).__name__}") from error
