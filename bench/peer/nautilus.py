"""nautilus_trader's emulated stop orders: what one process can do that asks nobody.

Its own data engine, order emulator, risk and execution engines, put together as its live node does, in one thread; at
the end of them a client that sends the order to the sink. Nothing is stored, as its cache is by default.

`nautilus.py COUNT PAUSE` arms COUNT stops and breaches one every PAUSE seconds; at PAUSE 0 one tick breaches all. It
writes how many it found at its start, "armed", and in the end when each breaching tick came, ns since the epoch, by
order id.
"""

import json
import os
import sys
import time
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from nautilus_trader.backtest.data_client import BacktestMarketDataClient
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.data.engine import DataEngine
from nautilus_trader.execution.emulator import OrderEmulator
from nautilus_trader.execution.engine import ExecutionEngine
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import TradeTick
from nautilus_trader.model.enums import AccountType, AggressorSide, OrderSide, TriggerType
from nautilus_trader.model.identifiers import AccountId, ClientId, TradeId
from nautilus_trader.portfolio.portfolio import Portfolio
from nautilus_trader.risk.engine import RiskEngine
from nautilus_trader.test_kit.mocks.exec_clients import MockExecutionClient
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.test_kit.stubs.events import TestEventStubs
from nautilus_trader.test_kit.stubs.identifiers import TestIdStubs
from nautilus_trader.trading.strategy import Strategy

from bench.peer.work import FORM, HEADERS

INSTRUMENT = TestInstrumentProvider.btcusdt_binance()
#: Money; each stop a step above the one before.
LOWEST, STEP = 20_000.0, 0.1
ARMED = "armed"


class _Sending(MockExecutionClient):  # type: ignore[misc]
    """A client that posts the order on a connection it keeps."""

    def open(self, sink: str, account: AccountId) -> None:
        self._set_account_id(account)
        self.line = HTTPConnection(urlsplit(sink).netloc)

    def submit_order(self, command: Any) -> None:
        order = command.order
        self.line.request("POST", "/orders/regular", urlencode({**FORM, "tag": order.client_order_id.value}), HEADERS)
        self.line.getresponse().read()
        self.generate_order_submitted(
            order.strategy_id, order.instrument_id, order.client_order_id, self._clock.timestamp_ns()
        )


class _Trader:
    """The engines, and one strategy that holds the stops."""

    def __init__(self, sink: str) -> None:
        clock = LiveClock()
        bus = MessageBus(trader_id=TestIdStubs.trader_id(), clock=clock)
        self.cache = Cache()
        self.cache.add_instrument(INSTRUMENT)
        common = {"msgbus": bus, "cache": self.cache, "clock": clock}
        portfolio = Portfolio(**common)
        self.data, orders = DataEngine(**common), ExecutionEngine(**common)
        risk, emulator = RiskEngine(portfolio=portfolio, **common), OrderEmulator(portfolio=portfolio, **common)
        venue = INSTRUMENT.id.venue
        client = _Sending(
            client_id=ClientId(venue.value), venue=venue, account_type=AccountType.CASH, base_currency=USD, **common
        )
        account = AccountId(f"{venue.value}-001")
        client.open(sink, account)
        portfolio.update_account(TestEventStubs.cash_account_state(account_id=account))
        self.data.register_client(BacktestMarketDataClient(client_id=ClientId(venue.value), **common))
        orders.register_client(client)
        self.strategy = Strategy()
        self.strategy.register(trader_id=TestIdStubs.trader_id(), portfolio=portfolio, **common)
        for part in (self.data, orders, risk, emulator, self.strategy):
            part.start()
        self._trades = 0

    def arm(self, trigger: float) -> str:
        """A stop at `trigger`; its order id."""
        order = self.strategy.order_factory.stop_market(
            INSTRUMENT.id, OrderSide.SELL, INSTRUMENT.make_qty(0.01), INSTRUMENT.make_price(trigger),
            trigger_type=TriggerType.LAST_PRICE, emulation_trigger=TriggerType.LAST_PRICE,
        )  # fmt: skip
        self.strategy.submit_order(order)
        return str(order.client_order_id.value)

    def tick(self, price: float) -> int:
        """A trade at `price`; when it came, ns since the epoch."""
        self._trades += 1
        came = time.time_ns()
        self.data.process(
            TradeTick(
                INSTRUMENT.id, INSTRUMENT.make_price(price), INSTRUMENT.make_qty(1), AggressorSide.SELLER,
                TradeId(str(self._trades)), came, came,
            )
        )  # fmt: skip
        return came


def main(count: int, pause: float) -> None:
    """Arm, breach, tell."""
    trader = _Trader(os.environ["BENCH_SINK"])
    found = len(trader.cache.orders_emulated())
    stops = {trader.arm(trigger): trigger for trigger in (LOWEST + STEP * number for number in range(count))}
    trader.tick(LOWEST + STEP * count)
    assert len(trader.cache.orders_emulated()) == count
    print(found, ARMED, flush=True)
    came: dict[str, int] = {}
    if pause:
        for order, trigger in reversed(stops.items()):
            came[order] = trader.tick(trigger)
            time.sleep(pause)
    else:
        came = dict.fromkeys(stops, trader.tick(LOWEST))
    print(json.dumps(came), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
