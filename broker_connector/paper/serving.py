"""The paper broker's process: uvicorn with what faults need of it, the transport of a request and a deaf socket."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.lifespan.off import LifespanOff
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker_connector.paper.server import Config, Server, create_app

Announce = Callable[[str], None]

#: Seconds an idle connection is kept, as at the real one.
KEEP_ALIVE = 75
#: Seconds until a server that shall refuse connections does, so that who asked for it hears of it.
REFUSE_DELAY = 0.1
#: Seconds requests may take to end at a shutdown; hanging faults take longer.
SHUTDOWN_GRACE = 1


class _Protocol(H11Protocol):
    """Hands the transport to the application as `request.state.transport`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = self.app_state | {"transport": transport}


class _Uvicorn(uvicorn.Server):
    """A server that tells when it listens, and can stop for a while."""

    def __init__(self, config: uvicorn.Config, announce: Announce) -> None:
        super().__init__(config)
        self._announce: Announce | None = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self._announce is None or not self.servers:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        # Listening again must be on the same port, whichever the first one was.
        self.config.port = port
        self._announce(f"paper broker ready on http://{host}:{port}")
        self._announce = None

    def refuse(self, seconds: float) -> None:
        """Refuse connections and cut those that stand, for `seconds`; begins when the caller has its answer."""
        asyncio.get_running_loop().call_later(REFUSE_DELAY, self._go_deaf, seconds)

    def _go_deaf(self, seconds: float) -> None:
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self._deaf = asyncio.create_task(self._listen_again(seconds))

    async def _listen_again(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        # `startup` would start the application's lifespan, which never stopped, once more.
        lifespan, self.lifespan = self.lifespan, LifespanOff(self.config)
        try:
            await self.startup()
        finally:
            self.lifespan = lifespan


async def serve(
    config: Config, host: str, port: int, accounts: list[dict[str, Any]], announce: Announce = print
) -> None:
    """Serve until a signal to end; `announce` is called with one line once it is ready. Port 0: any free one."""
    app = create_app(config)
    server: Server = app.state.server
    for account in accounts:
        server.open_account(account)
    uvicorn_server = _Uvicorn(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=_Protocol,
            ws="websockets-sansio",
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=SHUTDOWN_GRACE,
        ),
        announce,
    )
    server.script.refuse = uvicorn_server.refuse
    await uvicorn_server.serve()
