"""The paper broker as an ASGI application: Kite Connect v3's routes and WebSocket over one exchange.

Every request of an account passes the same gate: token, rate, scripted faults, then its handler.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from broker_connector.paper import wire
from broker_connector.paper.book import BookOrder, BookSettings
from broker_connector.paper.clock import MarketClock, naive_ist, utc_now
from broker_connector.paper.control import Control
from broker_connector.paper.errors import BrokerError
from broker_connector.paper.exchange import Exchange
from broker_connector.paper.faults import Call, Script
from broker_connector.paper.handlers import OPERATIONS, Operation
from broker_connector.paper.hub import Hub
from broker_connector.paper.tape import Market

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


class Server:
    """The handlers and the runner that moves the market."""

    def __init__(self, config: Config) -> None:
        real = utc_now()
        clock = config.clock or MarketClock.live(real)
        # A real broker never gives an id twice, nor may a restarted paper broker.
        first_id = int(time.time() * 1000) * 1000
        self.exchange = Exchange(config.market, config.settings, clock, first_id, self._order_changed)
        self.hub = Hub(self.exchange.snapshot)
        self.script = Script(scramble=self.hub.scramble)
        self._due_sooner = asyncio.Event()
        self.control = Control(self.exchange, self.hub, self.script, self._due_sooner.set, config.control_token)

    async def run(self) -> None:
        """Send ticks and trade orders as they fall due, for ever."""
        while True:
            ticks = self.exchange.advance(utc_now())
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
                form = dict(parse_qsl((await request.body()).decode(errors="replace")))

                async def proceed() -> Response:
                    result = operation.handler(self.exchange, account, request, form)
                    self._due_sooner.set()
                    return result if isinstance(result, Response) else _success(result)

                def reject_in_book(message: str) -> Response:
                    ticket = wire.ticket_of(request.path_params["variety"], form, self.exchange.by_name)
                    order = account.book.reject(ticket, message, self._now())
                    return _success({"order_id": order.order_id})

                call = Call(
                    operation.name, account.account_id, form, request, reject_in_book, account.book.filling_after
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
        except BrokerError:
            # Before it is accepted: the client sees HTTP 403.
            await socket.close()
            return
        await self.hub.serve(socket, account.account_id)

    async def log_in(self, request: Request) -> Response:
        """POST /session/token."""
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            account, access_token = self.exchange.accounts.log_in(
                form.get("api_key", ""), form.get("request_token", ""), form.get("checksum", "")
            )
        except BrokerError as error:
            return _error(error)
        session = {
            "api_key": account.api_key,
            "access_token": access_token,
            "public_token": "",
            "refresh_token": "",
            "login_time": naive_ist(self._now()),
        }
        return _success(wire.profile_json(account.account_id) | session)

    async def log_out(self, request: Request) -> Response:
        """DELETE /session/token."""
        query = request.query_params
        access_token = query.get("access_token", "")
        try:
            account = self.exchange.accounts.authorized(query.get("api_key", ""), access_token)
        except BrokerError as error:
            return _error(error)
        account.tokens.discard(access_token)
        return _success(True)

    def _order_changed(self, account_id: str, order: BookOrder) -> None:
        account = self.exchange.accounts.by_id[account_id]
        self.hub.update(account_id, wire.update_json(account, order))

    def _now(self) -> datetime:
        return self.exchange.now(utc_now())


def create_app(config: Config) -> Starlette:
    """The application; its lifespan moves the market. `app.state.server` is the Server."""
    server = Server(config)
    routes = [
        Route("/session/token", server.log_in, methods=["POST"]),
        Route("/session/token", server.log_out, methods=["DELETE"]),
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

    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.server = server
    return app


def _die_with(task: "asyncio.Task[None]") -> None:
    """A market that stands still by a bug must not look like a quiet one."""
    if not task.cancelled() and task.exception() is not None:
        logging.getLogger(__name__).critical("the paper market stopped", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


def _success(data: Any) -> Response:
    return JSONResponse({"status": "success", "data": data})


def _error(error: BrokerError) -> Response:
    body = {"status": "error", "message": error.message, "data": None, "error_type": error.error_type}
    headers = {"Retry-After": f"{error.retry_after:.3f}"} if error.retry_after is not None else None
    return JSONResponse(body, error.status, headers)
