"""Rows of a broker that are not ours, or half broken: what they prove is told, and they never hide what is ours."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker_connector.kite_book import book_of
from broker_connector.kite_portfolio import sellable
from broker_connector.kite_words import MOST_UNITS, Unreadable
from broker_connector.skipped import Skipped
from engine.domain.broker import NetPosition
from engine.domain.orders import Leg, Product
from engine.domain.run import client_order_id, parse_client_order_id
from tests.builders import DEPLOYMENT, run

OURS = client_order_id(DEPLOYMENT, run().id, Leg.ENTRY, 1)
ORDER: dict[str, Any] = {
    "order_id": "1", "status": "COMPLETE", "quantity": 10, "filled_quantity": 10, "average_price": 100.05,
    "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "tag": OURS, "status_message": None,
    "order_timestamp": "2026-01-05 09:30:00", "exchange_timestamp": "2026-01-05 09:30:00",
}  # fmt: skip
POSITION: dict[str, Any] = {
    "exchange": "NSE", "tradingsymbol": "INFY", "product": "MIS", "quantity": 7, "overnight_quantity": 0,
}  # fmt: skip
HOLDING: dict[str, Any] = {
    "exchange": "NSE", "tradingsymbol": "TCS", "product": "CNC", "quantity": 6, "used_quantity": 4, "t1_quantity": 2,
    "opening_quantity": 10, "realised_quantity": 10, "authorised_quantity": 0, "collateral_quantity": 0,
}  # fmt: skip
#: Where a field should be: nothing at all.
ABSENT = object()
#: What a broker can write where a word or a number should be.
JUNK = (
    st.sampled_from([ABSENT, None, "", "x", "-BE", "nan", "1e999", -1, 0.5, True, [], [None], {}, {"a": 1}, 10**30])
    | st.integers()
    | st.floats()
    | st.text(max_size=200)
)
FOREIGN_TAGS = st.sampled_from(
    [None, "", "mktp", "connect test order1", 7, OURS.lower(), OURS[:-1], f"{OURS}X", "x" * 500]
)


def is_ours(tag: str) -> bool:
    return parse_client_order_id(DEPLOYMENT, tag) is not None


def broken(row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (row | changes).items() if value is not ABSENT}


def some_of(row: dict[str, Any], *kept: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([name for name in row if name not in kept]), JUNK, min_size=1, max_size=4)


@given(changes=some_of(ORDER, "tag"), tag=FOREIGN_TAGS)
@example(changes={"transaction_type": "HOLD"}, tag=None)
@example(changes={"quantity": "12", "exchange": ABSENT}, tag="")
def test_an_order_that_is_not_ours_never_hides_one_that_is(changes: dict[str, Any], tag: Any) -> None:
    skipped = Skipped()
    book = book_of([broken(ORDER, changes | {"tag": tag, "order_id": "2"} | changes), ORDER], is_ours, skipped)
    assert [entry.tag for entry in book].count(OURS) == 1
    assert len(book) + sum(skipped.counts.values()) == 2


@given(changes=some_of(ORDER, "status_message"))
def test_an_order_that_could_be_ours_is_read_whole_or_fails_the_book_and_names_its_field(
    changes: dict[str, Any],
) -> None:
    row, skipped = broken(ORDER, changes), Skipped()
    failed, named = "", False
    try:
        book = book_of([row], is_ours, skipped)
    except Unreadable as error:
        book, failed = [], error.field
        named = failed in str(error)
    # Left out only where its own tag says that it is somebody else's.
    assert book or (failed in ORDER and named) or (skipped.counts and not is_ours(str(row["tag"])))


@pytest.mark.parametrize("row", [None, 7, "x", [], {}, {"order_id": "1"}, {"tag": {}}, {"tag": None, "tags": "x"}])
def test_a_row_that_does_not_say_whose_it_is_could_be_ours(row: Any) -> None:
    with pytest.raises(Unreadable, match="tag"):
        book_of([row], is_ours, Skipped())


@pytest.mark.parametrize("told", [None, {}, "", 7, True])
def test_what_is_no_list_is_no_empty_book_and_no_empty_account(told: Any) -> None:
    with pytest.raises(Unreadable):
        book_of(told, is_ours, Skipped())
    for holdings, positions in ((told, {"net": []}), ([], {"net": told}), ([], told)):
        with pytest.raises(Unreadable):
            sellable(holdings, positions, Skipped())


def test_our_tag_behind_the_brokers_own_is_found_and_makes_the_row_ours() -> None:
    behind = ORDER | {"tag": None, "tags": ["autoslice", OURS]}
    (entry,) = book_of([behind], is_ours, Skipped())
    assert (entry.tag, entry.evidence.client_order_id) == (OURS, OURS)
    with pytest.raises(Unreadable, match="quantity"):
        book_of([behind | {"quantity": None}], is_ours, Skipped())


@given(changes=some_of(POSITION), other=some_of(HOLDING))
@example(changes={"product": "CO"}, other={"product": "MTF"})
@example(changes={"quantity": None}, other={"t1_quantity": None})
@example(changes={"quantity": "7"}, other={"quantity": 6.0})
def test_a_broken_row_never_hides_what_others_say_nor_tells_a_number_it_does_not(
    changes: dict[str, Any], other: dict[str, Any]
) -> None:
    sound, strange = POSITION | {"tradingsymbol": "SBIN"}, broken(POSITION, changes)
    held, odd = HOLDING | {"tradingsymbol": "WIPRO"}, broken(HOLDING, other)
    told = {(each.symbol, each.product): each for each in sellable([odd, held], {"net": [strange, sound]}, Skipped())}
    if "SBIN" not in changes.values():
        assert told["NSE:SBIN", Product.INTRADAY] == NetPosition("NSE:SBIN", Product.INTRADAY, 7)
    if "WIPRO" not in other.values():
        assert told["NSE:WIPRO", Product.DELIVERY] == NetPosition("NSE:WIPRO", Product.DELIVERY, 12)
    for each in told.values():
        assert abs(each.quantity) <= 3 * MOST_UNITS
        assert not each.unread or each.quantity == 0


@pytest.mark.parametrize("value", [ABSENT, None, "x", 0.5, [], {}])
@pytest.mark.parametrize("product", Product)
def test_a_quantity_that_cannot_be_read_is_not_nothing(product: Product, value: Any) -> None:
    told = {Product.INTRADAY: "MIS", Product.DELIVERY: "CNC", Product.MARGIN: "NRML"}[product]
    row = broken(POSITION, {"product": told, "quantity": value})
    assert sellable([], {"net": [row]}, Skipped()) == [NetPosition("NSE:INFY", product, 0, "quantity")]


def test_a_position_of_no_product_may_be_of_any() -> None:
    told = sellable([], {"net": [broken(POSITION, {"product": None})]}, Skipped())
    assert {(each.product, each.unread) for each in told} == {(product, "product") for product in Product}


@pytest.mark.parametrize("field", ["quantity", "used_quantity", "t1_quantity"])
def test_a_holding_that_cannot_be_read_leaves_its_shares_unread_whatever_was_traded_today(field: str) -> None:
    today = POSITION | {"tradingsymbol": "TCS", "product": "CNC", "quantity": -3}
    told = sellable([broken(HOLDING, {field: None})], {"net": [today]}, Skipped())
    assert {(each.symbol, each.quantity, each.unread) for each in told} == {
        ("NSE:TCS", 0, field),
        ("BSE:TCS", 0, field),
    }


#: What Kite tells of one symbol's delivery shares -> what can be sold of it. (holding, position)
STOCKS: list[tuple[dict[str, int] | None, dict[str, int] | None, int]] = [
    # Bought today: only a position.
    (None, {"quantity": 10}, 10),
    # From the next day on its way, then delivered: only a holding.
    ({"t1_quantity": 10}, None, 10),
    ({"quantity": 10, "opening_quantity": 10, "realised_quantity": 10}, None, 10),
    # Four of them sold this morning: the sale shows in both places, and counts once.
    ({"quantity": 6, "used_quantity": 4, "opening_quantity": 10, "realised_quantity": 10}, {"quantity": -4}, 6),
    # The same where the holding's quantity does not shrink.
    ({"quantity": 10, "used_quantity": 4, "opening_quantity": 10, "realised_quantity": 10}, {"quantity": -4}, 6),
    # All of it sold, and bought back.
    ({"quantity": 0, "used_quantity": 10, "opening_quantity": 10, "realised_quantity": 10}, {"quantity": -10}, 0),
    ({"quantity": 10, "used_quantity": 0, "opening_quantity": 10, "realised_quantity": 10}, {"quantity": 0}, 10),
    # Another day's purchase on top.
    ({"quantity": 10, "opening_quantity": 10, "realised_quantity": 10}, {"quantity": 5}, 15),
    # On its way, and sold before it came.
    ({"t1_quantity": 10, "opening_quantity": 10}, {"quantity": -4}, 6),
    # The same where what is on its way shrinks with the sale, or only the rest says that it was sold.
    ({"t1_quantity": 6, "used_quantity": 4, "opening_quantity": 10}, {"quantity": -4}, 6),
    ({"t1_quantity": 10, "used_quantity": 4, "opening_quantity": 10}, {"quantity": -4}, 6),
    ({"t1_quantity": 10, "used_quantity": 4}, {"quantity": -4}, 6),
    # What is delivered was sold first, and part of what is on its way.
    (
        {"t1_quantity": 3, "used_quantity": 12, "opening_quantity": 15, "realised_quantity": 10},
        {"quantity": -12},
        3,
    ),
    # Some delivered and some on its way, more sold than the delivered ones; in the ways there are to tell it.
    (
        {"quantity": 0, "used_quantity": 8, "t1_quantity": 2, "opening_quantity": 10, "realised_quantity": 5},
        {"quantity": -8},
        2,
    ),
    (
        {"quantity": 0, "used_quantity": 8, "t1_quantity": 5, "opening_quantity": 10, "realised_quantity": 5},
        {"quantity": -8},
        2,
    ),
    (
        {"quantity": 0, "used_quantity": 8, "t1_quantity": 5, "opening_quantity": 5, "realised_quantity": 5},
        {"quantity": -8},
        2,
    ),
    # Where a quantity includes what is on its way.
    ({"quantity": 10, "t1_quantity": 10}, None, 10),
    ({"quantity": 10, "t1_quantity": 10, "opening_quantity": 10}, None, 10),
    # A position that still carries what is a holding already.
    ({"t1_quantity": 10}, {"quantity": 10, "overnight_quantity": 10}, 10),
    # Pledged shares are no stock to sell.
    ({"quantity": 4, "opening_quantity": 4, "realised_quantity": 4, "collateral_quantity": 6}, None, 4),
]


@pytest.mark.parametrize(("holding", "position", "expected"), STOCKS)
@pytest.mark.parametrize("named", ["NSE", "BSE"])
def test_delivery_shares_are_counted_once_whichever_exchange_the_holding_names(
    holding: dict[str, int] | None, position: dict[str, int] | None, expected: int, named: str
) -> None:
    nothing = dict.fromkeys((name for name in HOLDING if name.endswith("_quantity") or name == "quantity"), 0)
    holdings = [] if holding is None else [HOLDING | nothing | holding | {"exchange": named}]
    net = [] if position is None else [POSITION | {"tradingsymbol": "TCS", "product": "CNC"} | position]
    told = {each.symbol: each for each in sellable(holdings, {"net": net}, Skipped())}
    assert told["NSE:TCS"] == NetPosition("NSE:TCS", Product.DELIVERY, expected)


def test_shares_sold_at_the_other_exchange_are_gone_and_those_bought_there_today_are_not_here_yet() -> None:
    cnc = POSITION | {"tradingsymbol": "TCS", "product": "CNC", "exchange": "BSE"}
    stock = HOLDING | {"quantity": 10, "used_quantity": 0, "t1_quantity": 0}
    for traded, expected in ((-4, 6), (4, 10)):
        told = {
            each.symbol: each.quantity for each in sellable([stock], {"net": [cnc | {"quantity": traded}]}, Skipped())
        }
        assert told == {"NSE:TCS": expected, "BSE:TCS": 10 + traded}


def test_what_is_left_out_is_counted_by_kind_and_told_at_the_first_and_then_rarely() -> None:
    told: list[tuple[str, int]] = []
    skipped = Skipped(lambda kind, number: told.append((kind, number)))
    for _ in range(25):
        sellable([], {"net": [POSITION | {"product": "CO"}]}, skipped)
    book_of([ORDER | {"tag": None, "quantity": None}], is_ours, skipped)
    assert skipped.counts == {"position: product": 25, "order: quantity": 1}
    assert told == [("position: product", 1), ("position: product", 10), ("order: quantity", 1)]
