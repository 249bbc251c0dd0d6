"""The routes: `POST /postback/{tenant}/{account}` for brokers, `GET /healthz` for whoever watches the process."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from broker_connector.base import Forged
from broker_connector.registry import BROKERS
from engine.domain.broker import BookEntry
from engine.ports import Log, StoreClosed
from engine.postbacks import Followed
from models.repositories.accounts import Account

#: The largest body that is read, bytes: a broker's has about 1,000.
LARGEST = 64 * 1024
#: Seconds the order stream is left to tell it first.
SETTLES = 1.0


class Hooks:
    """What brokers post. Who posts is proven by the account's API secret alone."""

    def __init__(
        self,
        named: Callable[[str, str], Account | None],
        follow: Callable[[BookEntry, int], Followed],
        log: Log,
        settles: float = SETTLES,
    ) -> None:
        """`named`: the account of a tenant; `follow`: what is done with a hint of an account."""
        self._named = named
        self._follow = follow
        self._log = log
        self._settles = settles
        #: Hints under way; the loop itself holds a task only weakly.
        self._under_way: set[asyncio.Task[None]] = set()

    async def postback(self, request: Request) -> JSONResponse:
        """Take a hint. A wrong checksum, no such account and one without a secret are answered alike."""
        body = await request.body()
        account = await asyncio.to_thread(self._named, request.path_params["tenant"], request.path_params["account"])
        secret = account.credentials.values.get("api_secret") if account else None
        read = BROKERS[account.broker].postback if account else next(iter(BROKERS.values())).postback
        try:
            # Of what nobody knows nothing can be right.
            told = read(body, secret or secrets.token_hex())
        except Forged:
            self._log("postback_refused", path=request.url.path)
            return _refused(HTTPStatus.FORBIDDEN, "checksum: not the one this account's API secret gives")
        except ValueError as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))
        assert account is not None
        task = asyncio.create_task(self._later(told, account.id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return JSONResponse({"status": "taken"})

    async def _later(self, told: BookEntry, account: int) -> None:
        await asyncio.sleep(self._settles)
        try:
            await asyncio.to_thread(self._follow, told, account)
        except StoreClosed as error:
            # A hint: the book is asked without it as well.
            self._log("store_closed", reason=str(error))


def create_app(hooks: Hooks, ready: Callable[[], object]) -> Starlette:
    """The application; `ready` is called before it is asked anything. A larger body than `LARGEST` is answered 413."""
    routes = [
        Route("/postback/{tenant}/{account}", hooks.postback, methods=["POST"]),
        Route("/healthz", _healthz),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        ready()
        yield

    return Starlette(routes=routes, lifespan=lifespan, max_body_size=LARGEST)


async def _healthz(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def _refused(status: HTTPStatus, why: str) -> JSONResponse:
    return JSONResponse({"status": "refused", "error": why}, status_code=status)
