"""The paper broker as Kite Connect's official ticker sees it, unmodified: packets of every mode and order updates.

In a file of its own, and once: the client's reactor cannot be started twice in a process.
"""

from importlib import import_module
from typing import Any

from kiteconnect import KiteConnect, KiteTicker

from broker_connector.paper.process import PaperControl, paper_broker
from tests.processes import eventually

INFY, RELIANCE, NIFTY = 408065, 738561, 256265


def test_the_official_ticker_gets_every_mode_and_order_updates() -> None:
    with paper_broker("--market", "manual", "--index", "--always-open", "--rate-limits", "none") as paper:
        paper.price("NSE:INFY", "1500.00")
        _watch(paper)


def _watch(paper: PaperControl) -> None:
    reactor: Any = import_module("twisted.internet.reactor")
    ticker = KiteTicker("paper-key", "paper-token", root=paper.ws_url.removesuffix("/ws"))
    ticks: dict[tuple[int, str], dict[str, Any]] = {}
    updates: list[dict[str, Any]] = []

    def begin(socket: Any, _response: Any) -> None:
        socket.subscribe([INFY, RELIANCE, NIFTY])
        socket.set_mode("full", [INFY, NIFTY])
        socket.set_mode("ltp", [RELIANCE])

    ticker.on_connect = begin
    ticker.on_ticks = lambda _socket, told: ticks.update(
        {(each["instrument_token"], each["mode"]): each for each in told}
    )
    ticker.on_order_update = lambda _socket, told: updates.append(told)
    ticker.connect(threaded=True)
    try:
        wanted = {(INFY, "full"), (RELIANCE, "ltp"), (RELIANCE, "quote"), (NIFTY, "full")}
        assert eventually(lambda: wanted <= set(ticks)), ticks
        full, index = ticks[INFY, "full"], ticks[NIFTY, "full"]
        assert (full["last_price"], full["ohlc"]["close"], full["tradable"]) == (1500.0, 1550.0, True)
        assert [len(full["depth"][side]) for side in ("buy", "sell")] == [5, 5]
        assert full["depth"]["buy"][0]["price"] < full["depth"]["sell"][0]["price"]
        assert (index["last_price"], index["tradable"]) == (24_000.0, False)
        kite = KiteConnect("paper-key", "paper-token", root=paper.base_url)
        placed = kite.place_order("regular", "NSE", "INFY", "BUY", 1, "MIS", "MARKET", market_protection=-1)
        assert eventually(lambda: any(each["status"] == "COMPLETE" for each in updates))
        assert {each["order_id"] for each in updates} == {placed}
        assert {"checksum", "user_id", "unfilled_quantity"} <= set(updates[-1])
    finally:
        reactor.callFromThread(ticker.close)
        reactor.callFromThread(reactor.stop)
        ticker.websocket_thread.join(10)
