"""The paper broker's book outlives its process: SIGKILL at any moment loses nothing that was answered."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from kiteconnect import KiteConnect

from broker_connector.paper.process import PaperControl

INFY = "NSE:INFY"
OPTIONS = ("--market", "manual", "--always-open", "--rate-limits", "none", "--market-protection", "optional")


@contextmanager
def killed_after(state: Path, *options: str) -> Iterator[PaperControl]:
    """The paper broker with its book in `state`; it ends by SIGKILL."""
    command = [sys.executable, "-m", "broker_connector.paper", "--port", "0", "--state", str(state), *OPTIONS, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert "ready on " in ready
        control = PaperControl(ready.split("ready on ")[1].strip())
        yield control
        control.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def client(paper: PaperControl, token: str = "paper-token") -> KiteConnect:
    return KiteConnect("paper-key", token, root=paper.base_url)


def order(kite: KiteConnect, order_type: str = "MARKET", **fields: Any) -> str:
    words = {"exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": 10, "product": "MIS"}
    return str(kite.place_order(variety="regular", order_type=order_type, **(words | fields)))


def told(kite: KiteConnect, order_id: str) -> tuple[str, int]:
    row = kite.order_history(order_id)[-1]
    return row["status"], row["filled_quantity"]


def sale(price: float) -> dict[str, Any]:
    return {"transaction_type": "SELL", "quantity": 2, "order_type": "LIMIT", "product": "CNC", "price": price}


def test_orders_positions_and_prices_are_there_after_a_kill(tmp_path: Path) -> None:
    state = tmp_path / "paper.sqlite"
    with killed_after(state) as paper:
        kite = client(paper)
        paper.price(INFY, "1500.00")
        filled = order(kite, tag="mine")
        resting = order(kite, "LIMIT", price=1400.0, quantity=3)
        stop = order(kite, "SL-M", trigger_price=1450.0, transaction_type="SELL")
        trigger = kite.place_gtt("single", "INFY", "NSE", [1440.0], 1500.0, [sale(1430.0)])["trigger_id"]
        before = kite.orders(), kite.trades(), kite.positions()
    with killed_after(state) as paper:
        kite = client(paper)
        assert (kite.orders(), kite.trades(), kite.positions()) == before
        assert {row["order_id"] for row in paper.ledger()} == {filled, resting, stop}
        # The stop was not forgotten either: it fires, and so does the trigger.
        paper.price(INFY, "1435.00")
        assert told(kite, stop) == ("COMPLETE", 10)
        assert kite.get_gtt(trigger)["status"] == "triggered"
        assert told(kite, resting) == ("OPEN", 0)
        assert order(kite) not in {filled, resting, stop}
        # A session begun before the kill is as good as before, and the order's owner is still known.
        assert client(paper).orders()[0]["tag"] == "mine"


def test_a_session_and_an_account_opened_at_run_time_survive(tmp_path: Path) -> None:
    state = tmp_path / "paper.sqlite"
    with killed_after(state) as paper:
        paper.add_account(account_id="acme", api_key="key-acme", access_token="token-acme", api_secret="s", limits={})
        proof = hashlib.sha256(b"paper-keyrequestpaper-secret").hexdigest()
        form = {"api_key": "paper-key", "request_token": "request", "checksum": proof}
        session = requests.post(f"{paper.base_url}/session/token", data=form, timeout=10).json()["data"]
        client(paper).invalidate_access_token("paper-token")
    with killed_after(state) as paper:
        assert KiteConnect("key-acme", "token-acme", root=paper.base_url).profile()["user_id"] == "acme"
        assert client(paper, session["access_token"]).profile()["user_id"] == "PAPER1"


def test_the_nights_a_dead_broker_slept_through_pass_at_its_start(tmp_path: Path) -> None:
    state = tmp_path / "paper.sqlite"
    friday, monday = "2026-11-27T10:00:00+05:30", "2026-11-30T10:00:00+05:30"
    options = ("--real-anchor", "2000-01-01T00:00:00+00:00", "--speed", "0.000001")
    with killed_after(state, *options, "--market-anchor", friday) as paper:
        kite = client(paper)
        order(kite, product="CNC")
        order(kite, "LIMIT", price=1400.0)
    with killed_after(state, *options, "--market-anchor", monday) as paper:
        kite = client(paper)
        assert (kite.orders(), kite.positions()["net"]) == ([], [])
        assert [(row["quantity"], row["t1_quantity"]) for row in kite.holdings()] == [(10, 0)]
        assert sorted(row["status"] for row in paper.ledger()) == ["canceled", "filled"]


def test_market_time_that_was_set_is_kept_and_a_reset_is_too(tmp_path: Path) -> None:
    state = tmp_path / "paper.sqlite"
    with killed_after(state) as paper:
        order(client(paper))
        paper.reset()
        paper.set_clock("2000-01-01T00:00:00+00:00", "2021-04-12T10:00:00+05:30", 0.000001)
        placed = order(client(paper))
    with killed_after(state) as paper:
        assert paper.health()["market_time"].startswith("2021-04-12")
        assert [row["order_id"] for row in paper.ledger()] == [placed]


def test_a_symbol_listed_anew_stays_so_with_its_price_and_its_orders(tmp_path: Path) -> None:
    state = tmp_path / "paper.sqlite"
    with killed_after(state) as paper:
        paper.price(INFY, "1500.00")
        resting = order(client(paper), "LIMIT", price=1400.0)
        token = paper.relist(INFY, name="INFY-BE", token=408065 + (1 << 24))
    with killed_after(state) as paper:
        kite = client(paper)
        assert kite.ltp("NSE:INFY-BE") == {"NSE:INFY-BE": {"instrument_token": token, "last_price": 1500.0}}
        paper.price("NSE:INFY-BE", "1399.00")
        assert told(kite, resting) == ("COMPLETE", 10)


def test_a_file_that_is_no_book_is_named_and_two_brokers_cannot_share_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "broker_connector.paper", "--port", "0", "--state"]
    wrong = tmp_path / "notes.txt"
    wrong.write_text("shopping list " * 100)
    ended = subprocess.run([*command, str(wrong)], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, str(wrong) in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)
    with killed_after(tmp_path / "paper.sqlite"):
        used = [*command, str(tmp_path / "paper.sqlite")]
        ended = subprocess.run(used, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, "locked" in ended.stderr) == (2, True)


@pytest.mark.parametrize("kills", [5])
def test_what_was_answered_is_in_the_book_whenever_the_broker_is_killed(tmp_path: Path, kills: int) -> None:
    state, answered = tmp_path / "paper.sqlite", set[str]()
    for _ in range(kills):
        with killed_after(state) as paper:
            kite = client(paper)
            assert answered == {row["order_id"] for row in kite.orders()}
            assert sum(row["quantity"] for row in kite.positions()["net"]) == 10 * len(answered)
            answered |= {order(kite) for _ in range(20)}
