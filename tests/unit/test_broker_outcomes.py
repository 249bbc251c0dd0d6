"""The connector's tables: every foreign exception, error and status has a meaning, and doubt is the default."""

import inspect
import json
from collections.abc import Callable
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import pytest
from requests import exceptions as wire

from broker_connector import kite_words as words
from broker_connector import template
from broker_connector.http import Answer, Failure, Line, outcome_of
from broker_connector.kite_book import book_entry
from broker_connector.kite_errors import VERDICTS, error_reply, verdict_of
from broker_connector.registry import BROKERS, Credentials, UnknownBroker, connect
from broker_connector.verdicts import of_status
from engine.domain.broker import OrderChange, OrderRequest, Outcome, RejectCause, Reply
from engine.domain.orders import OrderStatus, OrderType, Product, Side


def template_reply(status: int, body: dict[str, Any] | None, _: str | None) -> Reply:
    return template.error_reply(Answer(status, b"<html>" if body is None else json.dumps(body).encode(), {}))


REQUESTS_EXCEPTIONS = [
    kind for _, kind in inspect.getmembers(wire, inspect.isclass) if issubclass(kind, wire.RequestException)
]


@pytest.mark.parametrize("kind", REQUESTS_EXCEPTIONS)
def test_every_exception_of_requests_is_in_the_table(kind: type[Exception]) -> None:
    assert kind in VERDICTS


def test_every_status_of_http_is_in_the_table_and_those_nobody_registered_count_by_their_hundred() -> None:
    assert {key for key in VERDICTS if isinstance(key, HTTPStatus)} == set(HTTPStatus)
    assert all(of_status(status) is VERDICTS[status] for status in HTTPStatus)
    neighbours = {299: HTTPStatus.OK, 399: HTTPStatus.FOUND, 499: HTTPStatus.BAD_REQUEST, 599: HTTPStatus.BAD_GATEWAY}
    for status, alike in neighbours.items():
        assert of_status(status) == VERDICTS[alike]


@pytest.mark.parametrize("status", [*HTTPStatus, 299, 399, 499, 520, 599])
@pytest.mark.parametrize("error_type", ["SomethingNew", "GeneralException"])
def test_a_status_whose_error_proves_nothing_is_doubt_but_for_a_rate(status: int, error_type: str) -> None:
    verdict = verdict_of(status, error_type, "")
    definite = {429: (Outcome.REJECTED, RejectCause.RATE_LIMITED)}
    assert (verdict.outcome, verdict.cause) == definite.get(status, (Outcome.TIMEOUT, None))


#: What is not the broker's own error, whoever sends it.
FOREIGN = [
    None,
    {},
    {"error": "forbidden", "code": 403},
    {"message": "Incorrect `api_key` or `access_token`."},
    {"status": "error", "error_type": None, "message": None},
    {"status": "error", "error_type": ["TokenException"], "message": ""},
    {"status": "error", "error_type": "", "message": "TokenException"},
    # The dialect of the template has no word for success.
    {"status": "success", "error_type": "TokenException", "data": None},
]


@pytest.mark.parametrize("status", [*HTTPStatus, 299, 399, 499, 520, 599])
@pytest.mark.parametrize(
    ("of", "body"), [*((error_reply, body) for body in FOREIGN), *((template_reply, body) for body in FOREIGN[:-1])]
)
def test_an_answer_that_is_not_the_brokers_own_proves_nothing_whatever_its_status(
    of: Callable[[int, dict[str, Any] | None, str | None], Reply], status: int, body: dict[str, Any] | None
) -> None:
    assert of(status, body, None).outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("kind", REQUESTS_EXCEPTIONS)
def test_only_what_cannot_happen_after_a_write_proves_that_nothing_was_sent(kind: type[Exception]) -> None:
    before_the_write = {
        wire.ConnectTimeout, wire.URLRequired, wire.MissingSchema, wire.InvalidSchema, wire.InvalidURL,
        wire.InvalidProxyURL, wire.InvalidHeader, wire.InvalidJSONError,
    }  # fmt: skip
    expected = Outcome.SERVER_DOWN if kind in before_the_write else Outcome.TIMEOUT
    assert outcome_of(kind.__new__(kind), written=True) is expected


@pytest.mark.parametrize("error", [*REQUESTS_EXCEPTIONS, OSError, ValueError])
def test_nothing_written_is_nothing_sent_whatever_failed(error: type[Exception]) -> None:
    assert outcome_of(error.__new__(error), written=False) is Outcome.SERVER_DOWN


def test_an_exception_nobody_thought_of_is_doubt() -> None:
    assert outcome_of(RuntimeError(), written=True) is Outcome.TIMEOUT


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_connection_that_never_stood_is_server_down(url: str) -> None:
    def may_send() -> bool:
        raise AssertionError("asked before the connection stood")

    line = Line(url, {})
    answer = line.send("POST", "/orders/regular", {"a": "b"}, may_send)
    line.close()
    assert isinstance(answer, Failure)
    assert answer.outcome is Outcome.SERVER_DOWN
    assert "NewConnectionError" in answer.message or "NameResolutionError" in answer.message


@pytest.mark.parametrize(
    ("status", "error_type", "message", "expected"),
    [
        (400, "InputException", "Invalid `price`.", (Outcome.REJECTED, RejectCause.INPUT)),
        (400, "MarginException", "Insufficient funds.", (Outcome.REJECTED, RejectCause.MARGIN)),
        (400, "OrderException", "No.", (Outcome.REJECTED, RejectCause.OTHER)),
        (400, "UserException", "No.", (Outcome.REJECTED, RejectCause.OTHER)),
        (428, "HoldingException", "No.", (Outcome.REJECTED, RejectCause.AUTHORISATION)),
        (403, "TokenException", "Incorrect token.", (Outcome.TOKEN_INVALID, None)),
        (403, "", "", (Outcome.TIMEOUT, None)),
        (401, "TokenException", "", (Outcome.TOKEN_INVALID, None)),
        (400, "TokenException", "", (Outcome.TOKEN_INVALID, None)),
        (429, "NetworkException", "Too many requests", (Outcome.REJECTED, RejectCause.RATE_LIMITED)),
        (429, "", "", (Outcome.TIMEOUT, None)),
        (400, "OrderException", "Order request timed out. Please check the order book.", (Outcome.TIMEOUT, None)),
        (400, "InputException", "Check the orderbook before trying again", (Outcome.TIMEOUT, None)),
        (400, "OrderException", "Gateway time-out", (Outcome.TIMEOUT, None)),
        (400, "NetworkException", "No.", (Outcome.TIMEOUT, None)),
        (400, "GeneralException", "No.", (Outcome.TIMEOUT, None)),
        (400, "DataException", "No.", (Outcome.TIMEOUT, None)),
        (400, "SomethingNew", "No.", (Outcome.TIMEOUT, None)),
        (500, "OrderException", "No.", (Outcome.TIMEOUT, None)),
        (503, "", "", (Outcome.TIMEOUT, None)),
        (404, "", "", (Outcome.TIMEOUT, None)),
        (302, "", "", (Outcome.TIMEOUT, None)),
        (302, "InputException", "No.", (Outcome.TIMEOUT, None)),
        (403, "PermissionException", "Not allowed for this user.", (Outcome.REJECTED, RejectCause.OTHER)),
        (403, "SomethingNew", "No.", (Outcome.TIMEOUT, None)),
        (502, "TokenException", "", (Outcome.TIMEOUT, None)),
        # As the broker words it in its samples: it sends its reader to the order book, and is a refusal.
        (
            400,
            "MarginException",
            "Insufficient funds. Required margin is 954.84. Check the orderbook for open orders.",
            (Outcome.REJECTED, RejectCause.MARGIN),
        ),
    ],
)
def test_what_an_error_proves(
    status: int, error_type: str, message: str, expected: tuple[Outcome, RejectCause | None]
) -> None:
    verdict = verdict_of(status, error_type, message)
    assert (verdict.outcome, verdict.cause) == expected


def test_every_error_type_the_broker_documents_is_in_the_table() -> None:
    documented = ["Token", "User", "Order", "Input", "Margin", "Holding", "Network", "Data", "General", "Permission"]
    assert {key for key in VERDICTS if isinstance(key, str)} == {f"{name}Exception" for name in documented}


@pytest.mark.parametrize("body", [None, {}, {"error_type": None, "message": None}])
def test_an_unreadable_error_is_doubt(body: dict[str, None] | None) -> None:
    assert error_reply(400, body, "soon").outcome is Outcome.TIMEOUT


@pytest.mark.parametrize(
    ("word", "filled", "status"),
    [
        ("COMPLETE", 10, OrderStatus.FILLED),
        ("COMPLETE", 4, OrderStatus.PARTIALLY_FILLED),
        ("COMPLETE", 0, OrderStatus.ACCEPTED),
        ("OPEN", 0, OrderStatus.ACCEPTED),
        ("OPEN", 4, OrderStatus.PARTIALLY_FILLED),
        ("CANCELLED", 0, OrderStatus.CANCELED),
        ("CANCELLED", 4, OrderStatus.CANCELED),
        ("REJECTED", 0, OrderStatus.REJECTED),
        ("CANCEL PENDING", 4, OrderStatus.CANCEL_PENDING),
        ("TRIGGER PENDING", 0, OrderStatus.ACCEPTED),
        ("A WORD OF TOMORROW", 0, OrderStatus.ACCEPTED),
        ("A WORD OF TOMORROW", 4, OrderStatus.PARTIALLY_FILLED),
    ],
)
def test_what_a_status_string_proves(word: str, filled: int, status: OrderStatus) -> None:
    assert words.order_status(word, quantity=10, filled=filled) is status


def test_every_word_of_ours_has_one_of_the_brokers() -> None:
    assert set(words.SIDES) == set(Side)
    assert set(words.ORDER_TYPES) == set(OrderType)
    assert set(words.PRODUCTS) == set(Product)


def test_a_market_order_carries_protection_and_a_limit_order_its_price() -> None:
    market = OrderRequest("T1", "NSE:INFY", Side.BUY, 3, OrderType.MARKET, Product.DELIVERY)
    limit = OrderRequest("T2", "NSE:INFY", Side.SELL, 3, OrderType.LIMIT, Product.INTRADAY, Decimal("10.50"))
    assert words.order_form(market)["market_protection"] == "-1"
    assert "price" not in words.order_form(market)
    assert words.order_form(limit)["price"] == "10.50"
    assert "market_protection" not in words.order_form(limit)


def test_a_change_names_its_limit_and_its_quantity_only_where_that_changes() -> None:
    assert words.change_form(OrderChange(Decimal("10.50"))) == {
        "order_type": "LIMIT",
        "price": "10.50",
        "validity": "DAY",
    }
    assert words.change_form(OrderChange(Decimal("10.50"), 4))["quantity"] == "4"


@pytest.mark.parametrize("damage", [{"order_id": 12}, {"quantity": None}, {"average_price": "x"}, {"status": ""}])
def test_a_damaged_order_is_unreadable_not_half_read(damage: dict[str, object]) -> None:
    order = {
        "order_id": "1", "status": "OPEN", "quantity": 1, "filled_quantity": 0, "average_price": 0,
        "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "tag": None,
        "order_timestamp": "2021-05-31 09:18:57",
    }  # fmt: skip
    assert book_entry(order).tag == ""
    with pytest.raises(words.Unreadable):
        book_entry(order | damage)


def test_the_registry_knows_its_brokers_and_says_so() -> None:
    credentials = Credentials("key", "token")
    for name, entry in BROKERS.items():
        broker = connect(name, "http://127.0.0.1:9", credentials)
        assert broker.profile is entry.profile
        assert broker.profile.name == name
        broker.close()
    assert "key" not in repr(credentials)
    with pytest.raises(UnknownBroker, match="kite, paper"):
        connect("nobody", "http://127.0.0.1:9", credentials)
