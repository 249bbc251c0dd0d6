"""The paper broker as an ASGI application: Kite Connect v3's routes and WebSocket over one exchange.

Every request of an account passes the same gate: token, rate, scripted faults, then its handler.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from broker_connector.paper import api_market, api_orders, api_portfolio, api_user, wire
from broker_connector.paper.clock import MarketClock, naive_ist, utc_now
from broker_connector.paper.control import Control
from broker_connector.paper.errors import BrokerError
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.faults import ANY, EVER, Call, Spoil
from broker_connector.paper.hub import Hub
from broker_connector.paper.keeper import Keeper
from broker_connector.paper.operations import Asked, Csv, Operation
from broker_connector.paper.orders import BookOrder, BookSettings
from broker_connector.paper.script import Script
from broker_connector.paper.sessions import SESSIONS, Act
from broker_connector.paper.tape import Market

OPERATIONS: tuple[Operation, ...] = (
    *api_orders.OPERATIONS,
    *api_portfolio.OPERATIONS,
    *api_market.OPERATIONS,
    *api_user.OPERATIONS,
)

#: Shortest sleep between two looks at the tape, seconds: what is due meanwhile shares a frame.
FLUSH = 0.001
#: Longest sleep, seconds.
IDLE = 1.0


@dataclass(frozen=True, slots=True)
class Config:
    """What a paper broker is made of."""

    market: Market
    settings: BookSettings = field(default_factory=BookSettings)
    #: None for real time.
    clock: MarketClock | None = None
    #: What the control interface asks for; "" for nothing.
    control_token: str = field(default="", repr=False)
    #: Share of order requests that meet a fault, drawn by the settings' seed.
    fault_rate: float = 0.0
    #: Where its state is kept; None: it ends with the process.
    state: Path | None = None


class Server:
    """The handlers and the runner that moves the market."""

    def __init__(self, config: Config) -> None:
        real = utc_now()
        self._keeper = Keeper(config.state) if config.state else None
        wound = self._keeper.clock() if self._keeper else None
        clock = wound or config.clock or MarketClock.live(real)
        # A real broker never gives an id twice, nor may a restarted paper broker.
        first_id = int(time.time() * 1000) * 1000
        self.exchange = Exchange(config.market, config.settings, clock, first_id, self._order_changed)
        self.exchange.is_wound = wound is not None
        self.hub = Hub(self.exchange.snapshot)
        self.script = Script(scramble=self.hub.scramble)
        if config.fault_rate:
            seed = config.settings.seed
            self.script.add({"kind": ANY, "probability": config.fault_rate, "seed": seed, "times": EVER})
        self._due_sooner = asyncio.Event()
        self.control = Control(self.exchange, self.hub, self.script, self._moved, self.reset, config.control_token)
        if self._keeper:
            self._keeper.restore(self.exchange, real)

    def open_account(self, account: Mapping[str, Any]) -> None:
        """Open an account at the start; one that was kept goes on with the sessions it has."""
        known = self.exchange.accounts.by_id.get(account["account_id"])
        opened = self.exchange.add_account(**account)
        if known is not None and known.api_key == opened.api_key:
            opened.tokens |= known.tokens
            opened.refresh_tokens |= known.refresh_tokens
        self._keep()

    def reset(self) -> None:
        """Forget orders, holdings and faults."""
        self.script.faults.clear()
        self.exchange.reset()
        if self._keeper:
            self._keeper.forget()

    async def run(self) -> None:
        """Send ticks and trade orders as they fall due, for ever."""
        while True:
            ticks = self.exchange.advance(utc_now())
            self._keep()
            if ticks:
                self.hub.ticks(ticks)
            real = utc_now()
            due = self.exchange.next_due(real)
            pause = IDLE if due is None else (due - real).total_seconds()
            with contextlib.suppress(TimeoutError):
                await asyncio.sleep(FLUSH)
                if pause > FLUSH:
                    async with asyncio.timeout(min(pause - FLUSH, IDLE)):
                        await self._due_sooner.wait()
                self._due_sooner.clear()

    def endpoint(self, operation: Operation) -> Callable[[Request], Any]:
        """The gate in front of `operation`."""

        async def answer(request: Request) -> Response:
            try:
                account = self.exchange.accounts.by_header(request.headers.get("Authorization", ""))
                account.limiter.spend(operation.budgets, utc_now())
                body = (await request.body()).decode(errors="replace")
                is_json = request.headers.get("Content-Type", "").startswith("application/json")
                form = {} if is_json else dict(parse_qsl(body))
                query = {name: request.query_params.getlist(name) for name in request.query_params}
                data = _json(body) if is_json else None

                def asked() -> Asked:
                    return Asked(self.exchange, account, self._now(), request.path_params, query, form, data)

                async def proceed(spoil: Spoil = _as_it_is) -> Response:
                    result = operation.handler(asked())
                    self._moved()
                    result = spoil(result)
                    return Response(result.text, media_type="text/csv") if isinstance(result, Csv) else _success(result)

                def reject_in_book(message: str) -> Response:
                    order = account.book.reject(api_orders.ticket(asked()), message, self._now())
                    self._moved()
                    return _success({"order_id": order.order_id})

                def accept_nothing() -> Response:
                    api_orders.ticket(asked())
                    return _success({"order_id": self.exchange.next_id()})

                call = Call(
                    operation.name,
                    account.account_id,
                    form,
                    request,
                    reject_in_book,
                    account.book.filling_after,
                    account.telling_of_before,
                    accept_nothing,
                )
                return await self.script.run(call, proceed)
            except BrokerError as error:
                return _error(error)

        return answer

    async def listen(self, socket: WebSocket) -> None:
        """The ticker and order stream."""
        query = socket.query_params
        try:
            account = self.exchange.accounts.authorized(query.get("api_key", ""), query.get("access_token", ""))
        except BrokerError as error:
            # Before it is accepted: the client sees HTTP 403, in the broker's own form.
            await socket.send_denial_response(_error(error))
            return
        if self.hub.is_full(account.account_id):
            full = BrokerError("NetworkException", "Too many connections.", HTTPStatus.TOO_MANY_REQUESTS)
            await socket.send_denial_response(_error(full))
            return
        await self.hub.serve(socket, account.account_id)

    def session(self, act: Act) -> Callable[[Request], Any]:
        """The endpoint of what makes or ends a session, which no token opens."""

        async def answer(request: Request) -> Response:
            body = (await request.body()).decode(errors="replace")
            form = dict(parse_qsl(body)) | dict(request.query_params)
            try:
                result = act(self.exchange.accounts, form, naive_ist(self._now()))
                self._keep()
                return _success(result)
            except BrokerError as error:
                return _error(error)

        return answer

    def _order_changed(self, account_id: str, order: BookOrder) -> None:
        account = self.exchange.accounts.by_id[account_id]
        if self._keeper:
            self._keeper.changed(account_id, order)
        update = wire.update_json(account, order)
        self.hub.update(account_id, update | {"data": self.script.spoiled("update", account_id, update["data"])})

    def _moved(self) -> None:
        """Keep what was done, before anybody is told, and let the runner look what is due."""
        self._keep()
        self._due_sooner.set()

    def _keep(self) -> None:
        if self._keeper:
            self._keeper.save(self.exchange)

    def _now(self) -> datetime:
        return self.exchange.now(utc_now())


def create_app(config: Config) -> Starlette:
    """The application; its lifespan moves the market. `app.state.server` is the Server."""
    server = Server(config)
    routes = [
        *(Route(path, server.session(act), methods=[method]) for method, path, act in SESSIONS),
        *(Route(item.path, server.endpoint(item), methods=[item.method]) for item in OPERATIONS),
        *server.control.routes(),
        WebSocketRoute("/", server.listen),
        WebSocketRoute("/ws", server.listen),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(server.run()), asyncio.create_task(server.hub.heartbeat())]
        for task in tasks:
            task.add_done_callback(_die_with)
        yield
        for task in tasks:
            task.cancel()

    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_route})
    app.state.server = server
    return app


def _die_with(task: "asyncio.Task[None]") -> None:
    """A market that stands still by a bug must not look like a quiet one."""
    if not task.cancelled() and task.exception() is not None:
        logging.getLogger(__name__).critical("the paper market stopped", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


async def _no_route(_request: Request, error: Exception) -> Response:
    """What the broker answers where it has no endpoint: JSON, like everything else."""
    assert isinstance(error, HTTPException)
    return _error(BrokerError("GeneralException", error.detail, error.status_code))


def _as_it_is(result: Any) -> Any:
    return result


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _success(data: Any) -> Response:
    return JSONResponse({"status": "success", "data": data})


def _error(error: BrokerError) -> Response:
    body = {"status": "error", "message": error.message, "data": None, "error_type": error.error_type}
    headers = {"Retry-After": f"{error.retry_after:.3f}"} if error.retry_after is not None else None
    return JSONResponse(body, error.status, headers)
