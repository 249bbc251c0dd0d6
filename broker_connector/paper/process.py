"""The paper broker as a child process, and a client of its control interface: for demos, benches and tests."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

#: Seconds a control call may take; loading a recorded day is part of setting the clock.
CONTROL_TIMEOUT = 30.0
#: Seconds a process may take to end before it is killed.
STOP_TIMEOUT = 5.0


class ControlError(Exception):
    """Raised when the control interface refuses a call."""


class PaperControl:
    """The control interface of the paper broker at `base_url`."""

    def __init__(self, base_url: str, token: str = "") -> None:
        self.base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["X-Paper-Token"] = token

    @property
    def ws_url(self) -> str:
        """Where the ticker is."""
        return self.base_url.replace("http", "ws", 1) + "/ws"

    def health(self) -> dict[str, Any]:
        """Readiness and progress of the day."""
        return dict(self._call("GET", "health"))

    def ledger(self) -> list[dict[str, Any]]:
        """Every order of every account."""
        return list(self._call("GET", "ledger"))

    def add_account(self, **account: Any) -> None:
        """Open an account: account_id, api_key, access_token; api_secret, limits."""
        self._call("POST", "accounts", account)

    def set_clock(self, real_anchor: str, market_anchor: str, speed: float) -> None:
        """Start market time `market_anchor` at real time `real_anchor`, both ISO with zone."""
        anchors = {"real_anchor": real_anchor, "market_anchor": market_anchor}
        self._call("POST", "clock", {**anchors, "speed": speed})

    def change_book(self, **settings: Any) -> None:
        """Change settings of the matching book, for orders to come."""
        self._call("POST", "book", settings)

    def price(self, symbol: str, price: str) -> None:
        """Send a tick of "EXCHANGE:SYMBOL" at `price`."""
        self._call("POST", "price", {"symbol": symbol, "price": price})

    def night(self, days: int = 1) -> None:
        """Let the trading day end, and `days` in all pass: positions become holdings, the book is empty."""
        self._call("POST", "night", {"days": days})

    def hold(self, account: str, symbol: str, **units: Any) -> None:
        """Set what an account holds of a symbol since before today: settled, t1, average_price, authorised."""
        self._call("POST", "holdings", {"account": account, "symbol": symbol, **units})

    def trade(self, account: str, symbol: str, side: str, quantity: int, **fields: Any) -> str:
        """Trade by hand: an order that no client placed, with `product`, `price` and `tag` where given; its id."""
        body = {"account": account, "symbol": symbol, "side": side, "quantity": quantity, **fields}
        return str(self._call("POST", "trade", body)["order_id"])

    def idle(self, symbol: str, seconds: int) -> None:
        """From the next tick on, the last trade of a symbol is told to be so many seconds old."""
        self._call("POST", "idle", {"symbol": symbol, "seconds": seconds})

    def relist(self, symbol: str, **changes: Any) -> int:
        """Give a symbol another `name` or `token`, as happens over night; its token from now on."""
        return int(self._call("POST", "relist", {"symbol": symbol, **changes})["token"])

    def fault(self, kind: str, **fields: Any) -> None:
        """Script a fault, see `faults.Fault`."""
        self._call("POST", "faults", {"kind": kind, **fields})

    def faults(self) -> list[dict[str, Any]]:
        """The faults that have not met all their calls yet."""
        return list(self._call("GET", "faults"))

    def clear_faults(self) -> None:
        """Forget the faults still to come."""
        self._call("POST", "faults/clear")

    def disconnect(self, account: str = "") -> None:
        """Cut the WebSocket connections of an account, or all."""
        self._call("POST", "disconnect", {"account": account})

    def reset(self) -> None:
        """Forget orders and faults."""
        self._call("POST", "reset")

    def close(self) -> None:
        """Close kept-alive connections."""
        self._session.close()

    def _call(self, method: str, name: str, body: Mapping[str, Any] | None = None) -> Any:
        url = f"{self.base_url}/paper/{name}"
        response = self._session.request(method, url, json=body, timeout=CONTROL_TIMEOUT)
        if not response.ok:
            raise ControlError(f"{name}: HTTP {response.status_code}: {response.text}")
        return response.json()


@contextmanager
def paper_broker(*options: str, token: str = "") -> Iterator[PaperControl]:
    """Run `python -m broker_connector.paper` with `options` on a free port, until the block ends."""
    command = [sys.executable, "-m", "broker_connector.paper", "--port", "0", *options]
    environment = os.environ | {"PAPER_CONTROL_TOKEN": token}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if "ready on " not in ready:
            raise ControlError(f"the paper broker did not start: exit {process.wait(STOP_TIMEOUT)}")
        control = PaperControl(ready.split("ready on ")[1].strip(), token)
        try:
            yield control
        finally:
            control.close()
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
