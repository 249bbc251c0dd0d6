"""The broker's own sample answers, each through what reads it, and calls the paper broker cannot answer."""

import csv
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from broker_connector import kite_account as account
from broker_connector import kite_words as words
from broker_connector import reads
from broker_connector.kite import KiteConnector
from broker_connector.kite_book import book_entry
from broker_connector.kite_portfolio import UNREAD, sellable
from broker_connector.registry import Credentials, Reading, connect
from broker_connector.skipped import Skipped
from engine.domain.broker import (
    ANY_SYMBOL,
    BrokerUnreachable,
    Margin,
    NetPosition,
    OrderChange,
    OrderRequest,
    Outcome,
    RejectCause,
    TokenInvalid,
)
from engine.domain.orders import OrderStatus, OrderType, Product, Side

MOCKS = Path(os.environ.get("TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "kite_mocks"
BIG = OrderRequest("BIG", "NFO:NIFTY26NOVFUT", Side.BUY, 4000, OrderType.MARKET, Product.MARGIN)


def sample(name: str) -> Any:
    path = MOCKS / f"{name}.json"
    if not path.exists():
        pytest.skip("the broker's sample answers are not here")
    return json.loads(path.read_text(), parse_float=Decimal)["data"]


def test_the_sample_orders_are_read_and_a_refusal_behind_the_order_interface_says_why() -> None:
    entries = [book_entry(row) for row in sample("orders")]
    assert {entry.evidence.status for entry in entries} >= {OrderStatus.FILLED, OrderStatus.REJECTED}
    refused = next(entry for entry in entries if entry.evidence.status is OrderStatus.REJECTED)
    assert refused.evidence.reason.startswith("Insufficient funds")


def test_the_sample_history_of_one_order_is_read_in_its_order() -> None:
    states = [book_entry(row).evidence for row in sample("order_info")]
    assert len(states) == len(sample("order_info")) > 1
    assert states[0].status is OrderStatus.ACCEPTED


def test_the_sample_trades_are_read() -> None:
    trades = account.trades_of(sample("trades"))
    assert len(trades) == 4
    first = trades[0]
    assert (first.symbol, first.side, first.product) == ("NSE:SBIN", Side.BUY, Product.DELIVERY)
    assert (first.quantity, first.price) == (1, Decimal("420.65"))
    assert first.filled_at == datetime(2021, 5, 31, 3, 46, 39, tzinfo=UTC)


def test_the_sample_margins_are_read() -> None:
    assert account.margins_of(sample("margins")) == [
        Margin("equity", Decimal("99725.05000000002"), Decimal("145706.55")),
        Margin("commodity", Decimal("100661.7"), Decimal(0)),
    ]


def test_the_sample_positions_are_read_without_products_that_can_cover_nothing() -> None:
    assert sellable([], sample("positions"), Skipped()) == [
        NetPosition("MCX:LEADMINI17DECFUT", Product.MARGIN, 1),
        NetPosition("MCX:GOLDGUINEA17DECFUT", Product.MARGIN, 0),
    ]


def test_the_sample_holdings_are_sellable_at_either_exchange_without_what_is_financed() -> None:
    told = {each.symbol: (each.product, each.quantity) for each in sellable(sample("holdings"), {"net": []}, Skipped())}
    assert told == {
        "NSE:AARON": (Product.DELIVERY, 1),
        "BSE:AARON": (Product.DELIVERY, 1),
        "BSE:SBIN": (Product.DELIVERY, 16),
        "NSE:SBIN": (Product.DELIVERY, 16),
    }


def test_the_sample_quote_is_read() -> None:
    (quote,) = words.quotes_of(sample("quote"), Skipped())
    assert (quote.symbol, quote.last_price) == ("NSE:INFY", Decimal("1412.95"))
    assert (quote.lower_band, quote.upper_band) == (Decimal("1250.7"), Decimal("1528.6"))
    assert quote.at == datetime(2021, 6, 8, 10, 15, 52, tzinfo=UTC)
    assert quote.low == Decimal("1395.55")


@pytest.mark.parametrize("ohlc", [None, {}, {"low": None}, {"low": 0}])
def test_a_quote_without_the_days_low_tells_none(ohlc: dict[str, object] | None) -> None:
    row = {"last_price": 1, "lower_circuit_limit": 0, "upper_circuit_limit": 0, "timestamp": "2021-06-08 10:15:52"}
    assert words.quote_of("NSE:INFY", row | {"ohlc": ohlc}).low == 0


def test_the_sample_dump_is_read_and_tells_of_no_freeze_quantity() -> None:
    path = MOCKS / "instruments_nse.csv"
    if not path.exists():
        pytest.skip("the broker's sample answers are not here")
    listed = {each.symbol: each for each in words.instruments_of(path.read_text().splitlines(), Skipped())}
    assert listed["NSE:MIDCAPIWIN-BL"].tick_size == Decimal("0.01")
    assert {each.freeze_quantity for each in listed.values()} == {None}


def test_a_dump_that_tells_of_a_freeze_quantity_is_believed() -> None:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["instrument_token", "exchange", "tradingsymbol", "tick_size", "lot_size", "freeze_quantity"])
    rows.writerows([[1, "NFO", "A", "0.05", 65, 1755], [257, "NFO", "B", "0.05", 65, ""]])
    listed = words.instruments_of(out.getvalue().splitlines(), Skipped())
    assert [each.freeze_quantity for each in listed] == [1755, None]


class _Server(ThreadingHTTPServer):
    """Answers every request with one body; keeps what it was asked, and by how many connections."""

    daemon_threads = True

    def __init__(self, body: Any, status: int = HTTPStatus.OK) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.body, self.status = body if isinstance(body, bytes) else json.dumps(body).encode(), status
        self.asked: list[str] = []
        self.forms: list[dict[str, list[str]]] = []
        self.connections: set[tuple[str, int]] = set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.connections.add(self.client_address)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.forms.append(parse_qs(self.rfile.read(length).decode()))
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.forms.append(parse_qs(self.rfile.read(length).decode()))
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def at_a_server(body: Any, status: int = HTTPStatus.OK) -> Iterator[tuple[KiteConnector, _Server]]:
    server = _Server(body, status)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    connector = KiteConnector(server.url, "key", "token")
    try:
        yield connector, server
    finally:
        connector.close()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_sliced_order_asks_for_slices_and_tells_of_each() -> None:
    children = [
        {"order_id": "11"},
        {"error": {"code": 400, "error_type": "MarginException", "message": "Insufficient funds."}},
        {"error": {"code": 500, "error_type": "NetworkException", "message": "Gateway"}},
        {},
        7,
    ]
    with at_a_server({"status": "success", "data": {"order_id": "10", "children": children}}) as (connector, server):
        told = connector.place_sliced(BIG, lambda: True)
    (form,) = server.forms
    assert (form["autoslice"], form["quantity"], form["tag"]) == (["true"], ["4000"], ["BIG"])
    assert (told.whole.outcome, told.whole.broker_order_id) == (Outcome.ACCEPTED, "10")
    assert [each.outcome for each in told.slices] == [
        Outcome.ACCEPTED,
        Outcome.REJECTED,
        Outcome.TIMEOUT,
        Outcome.TIMEOUT,
        Outcome.TIMEOUT,
    ]
    assert (told.slices[0].broker_order_id, told.slices[1].cause) == ("11", RejectCause.MARGIN)


def test_an_order_that_needs_no_slicing_is_refused_as_it_is_asked() -> None:
    message = "Quantity should be greater than or equal to 3510 for order slicing."
    refusal = {"status": "error", "message": message, "error_type": "InputException"}
    with at_a_server(refusal, HTTPStatus.BAD_REQUEST) as (connector, _):
        told = connector.place_sliced(BIG, lambda: True)
    assert (told.whole.outcome, told.whole.cause, told.slices) == (Outcome.REJECTED, RejectCause.INPUT, ())


@pytest.mark.parametrize("status", [HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.FORBIDDEN])
def test_warming_opens_as_many_connections_whatever_they_answer_and_uses_them_again(status: HTTPStatus) -> None:
    with at_a_server({"status": "success", "data": {"user_id": "A"}}, status) as (connector, server):
        assert connector.warm(6) == 6
        assert len(server.connections) == 6
        assert connector.warm(4) == 4
        assert connector.place(BIG, lambda: True).outcome is not Outcome.SERVER_DOWN
        assert len(server.connections) == 6


@pytest.mark.parametrize("connections", [0, 3])
def test_warming_an_unreachable_broker_says_that_nothing_stands(connections: int) -> None:
    connector = KiteConnector("http://127.0.0.1:9", "key", "token")
    assert connector.warm(connections) == 0
    connector.close()


#: A page a proxy, a firewall or a login portal puts in the broker's place.
PAGE = b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>Token invalid? Log in here.</body></html>"


@pytest.mark.parametrize("status", [200, 301, 302, 400, 401, 403, 404, 407, 413, 429, 451, 499, 500, 502, 503, 511])
def test_a_page_in_the_brokers_place_is_doubt_for_orders_and_no_answer_to_reads(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "READ_PAUSE_MAX", 0.01)
    monkeypatch.setattr(reads, "READ_PAUSE", 0.01)
    with at_a_server(PAGE, HTTPStatus(status) if status != 499 else status) as (connector, server):
        assert connector.place(BIG, lambda: True).outcome is Outcome.TIMEOUT
        assert connector.cancel("1").outcome is Outcome.TIMEOUT
        assert connector.modify("1", OrderChange(Decimal(1))).outcome is Outcome.TIMEOUT
        sent = len(server.asked)
        asked: list[Callable[[], object]] = [
            connector.orders, connector.positions, connector.account_id, connector.trades, connector.margins,
            lambda: connector.instruments("NSE"), lambda: connector.quote(["NSE:INFY"]),
            lambda: connector.trades_of("1"), lambda: connector.order_history("1"),
        ]  # fmt: skip
        for read in asked:
            with pytest.raises(BrokerUnreachable):
                read()
        assert sent == 3
        assert set(Counter(server.asked[sent:]).values()) == {reads.READ_ATTEMPTS}
        with pytest.raises(BrokerUnreachable):
            KiteConnector.login(server.url, "key", "secret", "request-token")


def test_only_the_brokers_own_word_says_that_a_token_is_dead() -> None:
    refusal = {"status": "error", "message": "Incorrect `api_key`.", "data": None, "error_type": "TokenException"}
    with at_a_server(refusal, HTTPStatus.FORBIDDEN) as (connector, _):
        assert connector.place(BIG, lambda: True).outcome is Outcome.TOKEN_INVALID
        with pytest.raises(TokenInvalid):
            connector.orders()


def test_an_accounts_connector_leaves_out_what_its_reading_says_is_not_ours_and_tells_of_it() -> None:
    rows = sample("orders")
    told: list[tuple[str, int]] = []
    reading = Reading(lambda tag: tag.startswith("E1"), lambda what, number: told.append((what, number)))
    body = json.dumps({"status": "success", "data": [rows[0] | {"transaction_type": None}, rows[1]]}, default=float)
    with at_a_server(body.encode()) as (_, server):
        broker = connect("kite", server.url, Credentials("key", "token"), reading)
        assert [entry.symbol for entry in broker.orders()] == ["NSE:IOC"]
        assert told == [("order: transaction_type", 1)]
        broker.close()
    mine = json.dumps({"status": "success", "data": [rows[0] | {"tag": "E1", "quantity": None}]}, default=float)
    with at_a_server(mine.encode()) as (_, server):
        broker = connect("kite", server.url, Credentials("key", "token"), reading)
        with pytest.raises(BrokerUnreachable, match="100000000000000: quantity"):
            broker.orders()
        broker.close()


def test_without_holdings_what_was_traded_intraday_is_told_and_delivery_is_unread() -> None:
    row = {"tradingsymbol": "SBIN", "exchange": "NSE", "product": "MIS", "quantity": 10}
    told = sellable(UNREAD, {"net": [row, {**row, "product": "CNC"}]}, Skipped())
    assert told == [
        NetPosition("NSE:SBIN", Product.INTRADAY, 10),
        NetPosition(ANY_SYMBOL, Product.DELIVERY, 0, "holdings"),
    ]
