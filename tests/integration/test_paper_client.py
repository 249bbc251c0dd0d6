"""The paper broker as Kite Connect's official client sees it, unmodified: every call it has that trades or looks."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kiteconnect import KiteConnect
from kiteconnect import exceptions as kite_errors

from broker_connector.kite_words import IST
from broker_connector.paper.process import PaperControl, paper_broker

MOCKS = Path(os.environ.get("TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "kite_mocks"
INFY, RELIANCE, NIFTY = "NSE:INFY", "NSE:RELIANCE", 256265
OPTIONS = ("--market", "manual", "--index", "--always-open", "--rate-limits", "none")


@pytest.fixture(scope="module")
def server() -> Iterator[PaperControl]:
    with paper_broker(*OPTIONS, "--market-protection", "optional") as control:
        yield control


@pytest.fixture
def paper(server: PaperControl) -> PaperControl:
    server.reset()
    server.price(INFY, "1500.00")
    server.price(RELIANCE, "2900.00")
    return server


@pytest.fixture
def kite(paper: PaperControl) -> KiteConnect:
    return KiteConnect("paper-key", "paper-token", root=paper.base_url)


def order(kite: KiteConnect, variety: str = "regular", order_type: str = "MARKET", **fields: Any) -> str:
    words = {"exchange": "NSE", "tradingsymbol": "RELIANCE", "transaction_type": "BUY", "quantity": 1, "product": "MIS"}
    return str(kite.place_order(variety=variety, order_type=order_type, **(words | fields)))


def last(kite: KiteConnect, order_id: str) -> dict[str, Any]:
    return dict(kite.order_history(order_id)[-1])


def has_shape(told: Any, sample: Any) -> bool:
    """Whether `told` has every field of the broker's own sample, lists by their first element."""
    if isinstance(sample, dict):
        return isinstance(told, dict) and all(key in told and has_shape(told[key], sample[key]) for key in sample)
    if isinstance(sample, list):
        return isinstance(told, list) and (not told or not sample or has_shape(told[0], sample[0]))
    return True


SHAPES: dict[str, Callable[[KiteConnect], Any]] = {
    "profile": lambda kite: kite.profile(),
    "margins": lambda kite: kite.margins(),
    "margins_equity": lambda kite: kite.margins("equity"),
    "orders": lambda kite: kite.orders(),
    "order_info": lambda kite: kite.order_history(kite.orders()[0]["order_id"]),
    "trades": lambda kite: kite.trades(),
    "order_trades": lambda kite: kite.order_trades(kite.trades()[0]["order_id"]),
    "positions": lambda kite: kite.positions(),
    "holdings": lambda kite: kite.holdings(),
    "quote": lambda kite: kite.quote([INFY]),
    "ohlc": lambda kite: kite.ohlc(INFY),
    "ltp": lambda kite: kite.ltp(INFY),
    "trigger_range": lambda kite: kite.trigger_range("BUY", [INFY, RELIANCE]),
    "gtt_get_orders": lambda kite: kite.get_gtts(),
    "gtt_get_order": lambda kite: kite.get_gtt(kite.get_gtts()[0]["id"]),
}


@pytest.mark.skipif(not MOCKS.is_dir(), reason=f"no samples of the broker: {MOCKS} is absent")
@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_has_every_field_of_the_brokers_sample(kite: KiteConnect, paper: PaperControl, name: str) -> None:
    paper.hold("PAPER1", "NSE:INFY", settled=1)
    order(kite, product="CNC")
    gtt(kite)
    sample = json.loads((MOCKS / f"{name}.json").read_text())["data"]
    told = SHAPES[name](kite)
    assert told
    assert has_shape(told, sample)


def gtt(kite: KiteConnect, trigger: float = 1450.0) -> int:
    sale = {"transaction_type": "SELL", "quantity": 1, "order_type": "LIMIT", "product": "CNC", "price": 1400.0}
    return int(kite.place_gtt("single", "INFY", "NSE", [trigger], 1500.0, [sale])["trigger_id"])


@pytest.mark.parametrize(
    ("order_type", "fields", "status"),
    [
        ("MARKET", {}, "COMPLETE"),
        ("LIMIT", {"price": 2870.0}, "OPEN"),
        ("SL", {"price": 2960.0, "trigger_price": 2950.0}, "TRIGGER PENDING"),
        ("SL-M", {"trigger_price": 2950.0}, "TRIGGER PENDING"),
        ("LIMIT", {"price": 2870.0, "validity": "IOC"}, "CANCELLED"),
        ("LIMIT", {"price": 2870.0, "validity": "TTL", "validity_ttl": 1}, "OPEN"),
    ],
)
def test_an_order_comes_to_its_state_through_the_interim_ones(
    kite: KiteConnect, order_type: str, fields: dict[str, Any], status: str
) -> None:
    placed = order(kite, order_type=order_type, tag="mytag", **fields)
    told = kite.order_history(placed)
    assert [each["status"] for each in told[:3]] == ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING"]
    end = told[-1]
    assert (end["status"], end["order_type"], end["tag"], end["product"]) == (status, order_type, "mytag", "MIS")
    assert end["price"] == fields.get("price", 0)
    assert end["trigger_price"] == fields.get("trigger_price", 0)


@pytest.mark.parametrize(("variety", "rests"), [("regular", "OPEN"), ("amo", "AMO REQ RECEIVED")])
def test_a_resting_order_is_modified_and_canceled(kite: KiteConnect, variety: str, rests: str) -> None:
    placed = order(kite, variety, "LIMIT", price=2870.0)
    assert last(kite, placed)["status"] == rests
    assert kite.modify_order(variety, placed, quantity=2, price=2869.0) == placed
    told = last(kite, placed)
    assert (told["status"], told["quantity"], told["price"], told["modified"]) == (rests, 2, 2869.0, True)
    assert kite.cancel_order(variety, placed) == placed
    assert last(kite, placed)["status"] == "CANCELLED"
    with pytest.raises(kite_errors.OrderException):
        kite.cancel_order(variety, placed)


def test_the_stop_of_a_cover_order_is_placed_with_its_fill_and_exited_at_market(kite: KiteConnect) -> None:
    placed = order(kite, "co", trigger_price=2870.0)
    assert (last(kite, placed)["product"], last(kite, placed)["status"]) == ("CO", "COMPLETE")
    (stop,) = [each for each in kite.orders() if each["parent_order_id"] == placed]
    assert (stop["status"], stop["trigger_price"], stop["transaction_type"]) == ("TRIGGER PENDING", 2870.0, "SELL")
    kite.modify_order("co", stop["order_id"], parent_order_id=placed, trigger_price=2860.0)
    assert last(kite, stop["order_id"])["trigger_price"] == 2860.0
    assert kite.exit_order("co", stop["order_id"], parent_order_id=placed) == stop["order_id"]
    assert last(kite, stop["order_id"])["status"] == "COMPLETE"
    assert [each["quantity"] for each in kite.positions()["net"]] == [0]


def test_a_cover_order_bids_the_market_where_it_names_no_price_and_can_be_canceled(kite: KiteConnect) -> None:
    assert last(kite, order(kite, "co", "LIMIT", trigger_price=2870.0))["price"] == 2900.0
    resting = order(kite, "co", "LIMIT", trigger_price=2860.0, price=2870.0)
    kite.cancel_order("co", resting)
    assert last(kite, resting)["status"] == "CANCELLED"


def test_an_iceberg_trades_in_its_legs_and_an_autosliced_order_tells_its_children(kite: KiteConnect) -> None:
    placed = order(kite, "iceberg", "LIMIT", quantity=10, price=2900.0, iceberg_legs=3)
    assert [trade["quantity"] for trade in kite.order_trades(placed)] == [4, 3, 3]
    sliced = kite.place_autoslice_order("regular", "NSE", "INFY", "BUY", 5, "MIS", "MARKET")
    assert sliced["children"] == []
    assert last(kite, sliced["order_id"])["status"] == "COMPLETE"


def test_positions_and_funds_follow_the_fills(kite: KiteConnect, paper: PaperControl) -> None:
    before = kite.margins("equity")["net"]
    order(kite, product="CNC", quantity=10)
    paper.price(RELIANCE, "2910.00")
    (position,) = kite.positions()["net"]
    assert kite.holdings() == []
    assert (position["quantity"], position["pnl"], position["product"]) == (10, 100.0, "CNC")
    assert kite.margins()["equity"]["net"] == before - 29_000
    assert kite.convert_position("NSE", "RELIANCE", "BUY", "day", 4, "CNC", "MIS") is True
    assert {each["product"]: each["quantity"] for each in kite.positions()["net"]} == {"CNC": 6, "MIS": 4}
    with pytest.raises(kite_errors.InputException):
        kite.convert_position("NSE", "RELIANCE", "BUY", "day", 7, "CNC", "MIS")


UNITS = ("quantity", "t1_quantity", "used_quantity", "realised_quantity", "opening_quantity")


def holding(kite: KiteConnect) -> tuple[int, ...]:
    """The only holding's units, as UNITS names them."""
    (row,) = kite.holdings()
    return tuple(row[name] for name in UNITS)


def test_delivery_shares_are_a_position_today_t1_tomorrow_and_settled_after_that(
    kite: KiteConnect, paper: PaperControl
) -> None:
    order(kite, product="CNC", quantity=10)
    order(kite, product="MIS", quantity=3)
    before = kite.margins("equity")["net"]
    paper.night()
    assert (kite.positions()["net"], kite.orders(), kite.trades()) == ([], [], [])
    assert holding(kite) == (0, 10, 0, 0, 10)
    # What the intraday position bound is free again.
    assert kite.margins("equity")["net"] == before + 3 * 2900 * 0.2
    order(kite, product="CNC", quantity=4)
    assert holding(kite) == (0, 10, 0, 0, 10)
    paper.night()
    assert holding(kite) == (10, 4, 0, 10, 14)
    assert kite.holdings()[0]["average_price"] == 2900.0
    paper.night(2)
    assert holding(kite) == (14, 0, 0, 14, 14)
    assert len(paper.ledger()) == 3


def test_shares_sold_from_the_holdings_are_a_negative_position_that_day(kite: KiteConnect, paper: PaperControl) -> None:
    paper.hold("PAPER1", "NSE:RELIANCE", settled=10, t1=5, average_price="2500.00", authorised=10)
    order(kite, product="CNC", quantity=12, transaction_type="SELL")
    (position,) = kite.positions()["net"]
    assert (position["quantity"], position["product"]) == (-12, "CNC")
    assert holding(kite) == (0, 3, 12, 10, 15)
    paper.night()
    assert holding(kite) == (3, 0, 0, 3, 3)
    assert kite.positions()["net"] == []
    order(kite, product="CNC", quantity=3, transaction_type="SELL")
    paper.night()
    assert kite.holdings() == []


def test_what_rests_ends_with_the_day_and_what_waits_for_the_next_session_stays(
    kite: KiteConnect, paper: PaperControl
) -> None:
    resting = order(kite, "regular", "LIMIT", price=2800.0)
    waiting = order(kite, "amo", "LIMIT", price=2800.0)
    carried = order(kite, product="NRML", quantity=2)
    paper.night()
    assert [each["order_id"] for each in kite.orders()] == [waiting]
    ended = {row["order_id"]: row["status"] for row in paper.ledger()}
    assert (ended[resting], ended[carried]) == ("canceled", "filled")
    (position,) = kite.positions()["net"]
    assert (position["product"], position["quantity"], position["overnight_quantity"]) == ("NRML", 2, 2)


def test_a_clock_wound_to_a_later_day_turns_the_night() -> None:
    with paper_broker(*OPTIONS, "--market-protection", "optional") as control:
        client = KiteConnect("paper-key", "paper-token", root=control.base_url)
        control.set_clock(datetime.now(UTC).isoformat(), "2026-11-27T10:00:00+05:30", 1.0)
        order(client, product="CNC", quantity=10)
        control.set_clock(datetime.now(UTC).isoformat(), "2026-11-28T10:00:00+05:30", 1.0)
        assert holding(client) == (0, 10, 0, 0, 10)
        control.set_clock(datetime.now(UTC).isoformat(), "2026-12-01T10:00:00+05:30", 1.0)
        assert holding(client) == (10, 0, 0, 10, 10)


def test_a_trigger_is_changed_fires_once_and_is_deleted(kite: KiteConnect, paper: PaperControl) -> None:
    trigger_id = gtt(kite)
    sale = {"transaction_type": "SELL", "quantity": 2, "order_type": "LIMIT", "product": "CNC", "price": 1400.0}
    kite.modify_gtt(trigger_id, "two-leg", "INFY", "NSE", [1440.0, 1600.0], 1500.0, [sale, sale])
    paper.price(INFY, "1445.00")
    assert kite.get_gtt(trigger_id)["status"] == "active"
    paper.price(INFY, "1601.00")
    paper.price(INFY, "1602.00")
    fired = kite.get_gtt(trigger_id)
    assert (fired["status"], fired["orders"][0]["result"]) == ("triggered", None)
    (placed,) = kite.orders()
    assert fired["orders"][1]["result"]["order_result"]["order_id"] == placed["order_id"]
    assert (placed["status"], placed["quantity"], placed["average_price"]) == ("COMPLETE", 2, 1601.0)
    assert kite.delete_gtt(trigger_id) == {"trigger_id": trigger_id}
    assert kite.get_gtts() == []


def test_what_orders_would_bind_and_cost(kite: KiteConnect) -> None:
    one = {
        "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "variety": "regular",
        "product": "CNC", "order_type": "MARKET", "quantity": 10, "average_price": 1500,
    }  # fmt: skip
    (margin,) = kite.order_margins([one])
    assert (margin["total"], margin["leverage"], margin["type"]) == (15_000, 1, "equity")
    basket = kite.basket_order_margins([one, one | {"product": "MIS"}], mode="compact")
    assert (basket["final"]["total"], basket["orders"]) == (18_000, [])
    (note,) = kite.get_virtual_contract_note([one])
    assert note["charges"]["transaction_tax"] == 15
    assert note["charges"]["total"] > 15


@pytest.mark.parametrize(
    ("interval", "days"),
    [("minute", 30), ("3minute", 90), ("5minute", 90), ("10minute", 90), ("15minute", 180), ("30minute", 180),
     ("60minute", 365), ("hour", 365), ("day", 2000)],
)  # fmt: skip
def test_candles_reach_from_the_past_to_the_last_tick_and_no_further_back_than_allowed(
    kite: KiteConnect, paper: PaperControl, interval: str, days: int
) -> None:
    paper.price(INFY, "1511.00")
    now = datetime.now(IST).replace(tzinfo=None)
    candles = kite.historical_data(408065, now - timedelta(days=8), now + timedelta(minutes=1), interval)
    stamps = [candle["date"] for candle in candles]
    assert stamps == sorted(set(stamps))
    assert len({stamp.date() for stamp in stamps}) > 4
    assert candles[-1]["close"] == 1511.0
    assert all(candle["low"] <= candle["open"] <= candle["high"] for candle in candles)
    with pytest.raises(kite_errors.InputException):
        kite.historical_data(408065, now - timedelta(days=days + 1), now, interval)


def test_an_index_has_a_price_and_candles_but_no_orders(kite: KiteConnect) -> None:
    (listed,) = [each for each in kite.instruments("NSE") if each["segment"] == "INDICES"]
    assert (listed["instrument_token"], listed["tradingsymbol"]) == (NIFTY, "NIFTY 50")
    assert kite.ltp("NSE:NIFTY 50")["NSE:NIFTY 50"]["last_price"] == 24_000
    assert kite.historical_data(NIFTY, datetime.now(IST) - timedelta(days=5), datetime.now(IST), "day")
    with pytest.raises(kite_errors.InputException):
        order(kite, tradingsymbol="NIFTY 50")
    assert kite.instruments() == kite.instruments("NSE")
    assert kite.instruments("BSE") == []


def test_refusals_are_the_clients_own_exceptions(kite: KiteConnect, paper: PaperControl) -> None:
    for wrong in ({"tradingsymbol": "NOSUCH"}, {"quantity": "1e999999999"}, {"order_type": "LIMIT", "price": 2870.01}):
        with pytest.raises(kite_errors.InputException):
            order(kite, **wrong)
    with pytest.raises(kite_errors.GeneralException):
        kite.mf_orders()
    paper.fault("reject_margin")
    with pytest.raises(kite_errors.GeneralException, match="Insufficient funds"):
        order(kite)  # the client knows no MarginException
    paper.change_book(market_protection=True)
    try:
        with pytest.raises(kite_errors.InputException):
            order(kite)
        assert last(kite, order(kite, market_protection=-1))["status"] == "COMPLETE"
    finally:
        paper.change_book(market_protection=False)
    expired: list[bool] = []
    kite.set_session_expiry_hook(lambda: expired.append(True))
    kite.set_access_token("invalid_token")
    with pytest.raises(kite_errors.TokenException):
        kite.positions()
    assert expired == [True]


def test_a_session_is_made_renewed_and_ended(paper: PaperControl) -> None:
    kite = KiteConnect("paper-key", root=paper.base_url)
    made = kite.generate_session("any-request-token", "paper-secret")
    assert (made["user_id"], kite.profile()["user_id"]) == ("PAPER1", "PAPER1")
    kite.renew_access_token(made["refresh_token"], "paper-secret")
    assert kite.access_token != made["access_token"]
    assert kite.invalidate_access_token() is True
    with pytest.raises(kite_errors.TokenException):
        kite.profile()
    with pytest.raises(kite_errors.TokenException):
        kite.generate_session("any-request-token", "wrong-secret")


def test_accounts_know_nothing_of_one_another(kite: KiteConnect, paper: PaperControl) -> None:
    paper.add_account(account_id="PAPER2", api_key="other-key", access_token="other-token", limits={})
    other = KiteConnect("other-key", "other-token", root=paper.base_url)
    order(kite)
    assert (len(kite.orders()), other.orders(), other.positions()["net"]) == (1, [], [])
