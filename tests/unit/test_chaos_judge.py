"""The judge finds each violation in a ledger made by hand, and nothing in a good one."""

from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from engine.chaos.judge import ENDED, by_hand, by_run, judge, shorts, tag_by_hand
from engine.domain.orders import TERMINAL, Leg
from engine.domain.run import RunId, client_order_id

RUN = RunId(7, date(2026, 1, 5))
OTHER = RunId(8, date(2026, 1, 5))
START = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)


class Ledger:
    """Rows as the paper broker writes them; each call is a second later, ids grow with time as the broker's do."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._ids = count(1)
        self._attempts = {leg: count(1) for leg in Leg}

    def _now(self) -> str:
        return (START + timedelta(seconds=next(self._ids))).isoformat()

    def order(self, leg: Leg, quantity: int = 10, *, tag: str = "") -> dict[str, Any]:
        """An order taken in and open."""
        row: dict[str, Any] = {
            "order_id": str(next(self._ids)),
            "account": "tenant-01",
            "symbol": "NSE:INFY",
            "tag": tag or client_order_id("EE", RUN, leg, next(self._attempts[leg])),
            "side": "buy" if leg is Leg.ENTRY else "sell",
            "quantity": quantity,
            "filled_quantity": 0,
            "status": "accepted",
            "received_at": self._now(),
            "ended_at": None,
            "fills": [],
        }
        self.rows.append(row)
        return row

    def fill(self, row: dict[str, Any], quantity: int) -> None:
        """A part of it trades."""
        row["fills"].append({"trade_id": str(next(self._ids)), "quantity": quantity})
        row["filled_quantity"] += quantity
        if row["filled_quantity"] >= row["quantity"]:
            self.end(row, "filled")

    def end(self, row: dict[str, Any], status: str) -> None:
        """It can trade no more."""
        row |= {"status": status, "ended_at": self._now()}

    def filled(self, leg: Leg, quantity: int = 10, *, tag: str = "") -> dict[str, Any]:
        """An order that trades whole."""
        row = self.order(leg, quantity, tag=tag)
        self.fill(row, quantity)
        return row


def test_a_purchase_sold_whole_is_flat() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.EXIT)
    found = judge(ledger.rows, 10)
    assert (found.bought, found.sold, found.live, found.is_flat, found.violations) == (10, 10, 0, True, ())


def test_nothing_bought_is_not_flat_but_no_violation() -> None:
    found = judge([], 10)
    assert (found.is_flat, found.violations) == (False, ())


def test_a_position_or_a_live_order_is_not_flat() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    assert not judge(ledger.rows, 10).is_flat
    ledger.filled(Leg.EXIT)
    ledger.order(Leg.ENTRY)
    assert not judge(ledger.rows, 10).is_flat


def test_attempts_one_after_the_other_are_no_violation() -> None:
    ledger = Ledger()
    ledger.end(ledger.order(Leg.ENTRY), "rejected")
    ledger.filled(Leg.ENTRY)
    first = ledger.order(Leg.EXIT)
    ledger.fill(first, 4)
    ledger.end(first, "canceled")
    ledger.filled(Leg.EXIT, 6)
    found = judge(ledger.rows, 10)
    assert (found.is_flat, found.violations) == (True, ())


def test_more_bought_than_wanted() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.ENTRY)
    assert judge(ledger.rows, 10).violations == ("bought 20 of 10",)


def test_more_sold_than_bought_is_a_short() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.EXIT)
    ledger.filled(Leg.EXIT, 3)
    assert judge(ledger.rows, 10).violations == ("sold 13 when 10 were bought: a short",)


def test_a_short_is_seen_even_where_it_was_bought_back() -> None:
    ledger = Ledger()
    entry, early = ledger.order(Leg.ENTRY), ledger.order(Leg.EXIT)
    ledger.fill(early, 10)
    ledger.fill(entry, 10)
    found = judge(ledger.rows, 10)
    assert found.is_flat
    assert found.violations == ("sold 10 when 0 were bought: a short",)


@pytest.mark.parametrize("second_ends", [True, False])
def test_two_exits_that_could_trade_at_one_instant(second_ends: bool) -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    first, second = ledger.order(Leg.EXIT), ledger.order(Leg.EXIT)
    ledger.end(first, "canceled")
    if second_ends:
        ledger.fill(second, 10)
    (told,) = judge(ledger.rows, 10).violations
    assert told == f"two live exits: {first['order_id']} and {second['order_id']}"


def test_a_rejected_exit_was_never_live() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.end(ledger.order(Leg.EXIT), "rejected")
    ledger.rows[-1]["ended_at"] = None
    ledger.filled(Leg.EXIT)
    assert judge(ledger.rows, 10).violations == ()


def test_two_orders_under_one_id() -> None:
    ledger = Ledger()
    tag = client_order_id("EE", RUN, Leg.ENTRY, 1)
    ledger.end(ledger.order(Leg.ENTRY, tag=tag), "rejected")
    ledger.fill(ledger.order(Leg.ENTRY, tag=tag), 10)
    assert judge(ledger.rows, 10).violations == (f"2 orders under the id {tag}",)


def test_what_the_owner_sold_by_hand_is_a_part_of_the_position() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.EXIT, 3, tag=tag_by_hand(RUN))
    found = by_run(ledger.rows, "EE")[RUN], by_hand(ledger.rows)[tag_by_hand(RUN)]
    assert (judge(found[0], 10, found[1]).held, judge(found[0], 10, found[1]).is_flat) == (7, False)
    ledger.filled(Leg.EXIT, 7)
    flat = judge(by_run(ledger.rows, "EE")[RUN], 10, found[1])
    assert (flat.sold, flat.is_flat, flat.violations) == (7, True, ())
    assert shorts(ledger.rows, "EE") == {}


def test_an_order_beside_it_that_can_trade_leaves_a_position_open() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.EXIT)
    beside = ledger.order(Leg.EXIT, tag=client_order_id("EE", OTHER, Leg.EXIT, 1))
    assert not judge(ledger.rows[:2], 10, [beside]).is_flat


def test_a_sale_of_what_the_owner_sold_already_is_a_short_of_the_account() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.EXIT, 1, tag=tag_by_hand(RUN))
    ledger.filled(Leg.EXIT)
    assert shorts(ledger.rows, "EE") == {RUN: "tenant-01 is short: -1 of NSE:INFY"}


def test_two_runs_of_one_position_may_sell_no_more_than_it_has_between_them() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.filled(Leg.ENTRY, tag=client_order_id("EE", OTHER, Leg.ENTRY, 1))
    ledger.filled(Leg.EXIT, tag=tag_by_hand(RUN))
    ledger.filled(Leg.EXIT)
    assert shorts(ledger.rows, "EE") == {}
    ledger.filled(Leg.EXIT, tag=client_order_id("EE", OTHER, Leg.EXIT, 1))
    assert set(shorts(ledger.rows, "EE")) == {OTHER}


def test_a_short_of_the_owners_own_is_nobodys_violation() -> None:
    ledger = Ledger()
    ledger.filled(Leg.EXIT, tag=tag_by_hand(RUN))
    assert shorts(ledger.rows, "EE") == {}


def test_positions_of_other_accounts_and_symbols_do_not_cover_a_sale() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)["account"] = "tenant-02"
    ledger.filled(Leg.ENTRY)["symbol"] = "NSE:TCS"
    ledger.filled(Leg.EXIT)
    assert set(shorts(ledger.rows, "EE")) == {RUN}


def test_rows_go_to_their_run_and_strangers_to_nobody() -> None:
    ledger = Ledger()
    ledger.filled(Leg.ENTRY)
    ledger.order(Leg.ENTRY, tag="SOMEBODY")
    found = by_run(ledger.rows, "EE")
    assert {run: [row["tag"] for row in rows] for run, rows in found.items()} == {
        RUN: [ledger.rows[0]["tag"]],
        None: ["SOMEBODY"],
    }


def test_the_ledger_and_the_engine_call_the_same_orders_ended() -> None:
    assert {status.value for status in TERMINAL} == ENDED
