"""Scripted faults of the paper broker: each wraps a request and decides what of it happens and is told.

A fault is a row of FAULTS: an async function of the fault, the call it meets, and `proceed`, which does what the
request asks; or a row of `sickness.SICKNESSES`, which changes what is told. Which calls it meets is data.
"""

import asyncio
import math
import random
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from broker_connector.paper.errors import BrokerError, bad_token, too_many
from broker_connector.paper.sickness import SICKNESSES

#: The fault that meets no call but the listening socket.
REFUSE = "refuse"
#: The fault that meets no call but the order updates of an account.
SCRAMBLE = "scramble"

#: The kind that is drawn anew for each call it meets: an order's among DRAWN, a read's among those that concern it.
ANY = "any"
#: Calls to meet, of a fault that is never spent.
EVER = 2**63

Spoil = Callable[[Any], Any]


class Proceed(Protocol):
    """Does what a request asks; what is told is what `spoil` makes of it."""

    def __call__(self, spoil: Spoil = ...) -> Awaitable[Response]:
        """The answer."""


# Orders on their way; the loop itself holds a task only weakly.
_late: set[asyncio.Task[None]] = set()

#: A proxy's page; not the broker's word, though the status is that of a dead token.
FORBIDDEN_PAGE = "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>"
#: What the broker says when its own order system did not answer in time; the order may be on its way.
TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."


@dataclass(slots=True)
class Fault:
    """One scripted fault and the calls it meets; "" matches any."""

    kind: str
    operation: str = "place"
    account: str = ""
    symbol: str = ""
    side: str = ""
    tag: str = ""
    #: Calls to meet before it is spent; calls to let pass first.
    times: int = 1
    skip: int = 0
    #: Seconds, for the kinds that take time.
    seconds: float = 10.0
    error_type: str = ""
    message: str = ""
    #: Seconds from when it is added that it meets every call, instead of `times`; 0 for no end by time.
    lasts: float = 0.0
    #: For sick answers, see `sickness.Illness`.
    where: dict[str, Any] = field(default_factory=dict)
    put: dict[str, Any] = field(default_factory=dict)
    drop: list[str] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    share: float = 0.5
    #: Share of the calls it could meet that it does, drawn by the seed.
    probability: float = 1.0
    seed: int = 0
    met: int = 0
    draw: random.Random = field(init=False, repr=False)
    #: When it ends by time, of the monotonic clock.
    ends: float = field(init=False, default=math.inf, repr=False)

    def __post_init__(self) -> None:
        if self.lasts > 0:
            self.times, self.ends = EVER, time.monotonic() + self.lasts
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be between 0 and 1")
        self.draw = random.Random(self.seed)

    def told(self) -> dict[str, Any]:
        """Its description, and how many calls it met."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() >= self.ends

    def act(self, operation: str = "place") -> str:
        """The kind it is for the call it met."""
        return self.draw.choice(drawn_for(operation)) if self.kind == ANY else self.kind

    def meets(self, call: "Call") -> bool:
        """Whether it concerns `call`, whatever is left of it."""
        # A sick answer's symbol and tag are those of its rows.
        request = self if self.kind not in SICKNESSES else Fault(self.kind)
        wanted = {
            "operation": (self.operation, call.operation),
            "account": (self.account, call.account),
            "symbol": (request.symbol, call.form.get("tradingsymbol", "")),
            "side": (request.side.upper(), call.form.get("transaction_type", "")),
            "tag": (request.tag, call.form.get("tag", "")),
        }
        return all(want in {"", "any", has} for want, has in wanted.values())


@dataclass(frozen=True, slots=True)
class Call:
    """A request as faults see it."""

    operation: str
    account: str
    form: Mapping[str, str]
    request: Request
    #: Take the order in and refuse it afterwards, with this message.
    reject_in_book: Callable[[str], Response]
    #: While it lasts, what is taken in trades only after so many seconds.
    fills_after: Callable[[float], AbstractContextManager[None]]
    #: While it lasts, what is told of positions is as old as so many seconds.
    held_before: Callable[[float], AbstractContextManager[None]]
    #: Say yes, with an order id that no order has.
    accept_nothing: Callable[[], Response]


async def _reject(fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    raise BrokerError(fault.error_type or "OrderException", fault.message or "The order was refused.")


async def _reject_margin(fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    raise BrokerError("MarginException", fault.message or "Insufficient funds.")


async def _reject_in_book(fault: Fault, call: Call, _proceed: Proceed) -> Response:
    return call.reject_in_book(fault.message or "RMS: the order was refused.")


async def _accept_then_hang(fault: Fault, _call: Call, proceed: Proceed) -> Response:
    await proceed()
    await asyncio.sleep(fault.seconds)
    return _gateway(HTTPStatus.GATEWAY_TIMEOUT)


async def _hang(fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    await asyncio.sleep(fault.seconds)
    return _gateway(HTTPStatus.GATEWAY_TIMEOUT)


async def _accepted_but_400(_fault: Fault, _call: Call, proceed: Proceed) -> Response:
    await proceed()
    raise BrokerError("OrderException", TIMED_OUT)


async def _late_accept(fault: Fault, _call: Call, proceed: Proceed) -> Response:
    async def later() -> None:
        await asyncio.sleep(fault.seconds)
        await proceed()

    task = asyncio.create_task(later())
    _late.add(task)
    task.add_done_callback(_late.discard)
    raise BrokerError("OrderException", TIMED_OUT)


async def _token(_fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    raise bad_token()


async def _rate_limit(fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    raise too_many(fault.seconds)


async def _unavailable(_fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    return _gateway(HTTPStatus.SERVICE_UNAVAILABLE)


async def _slow(fault: Fault, _call: Call, proceed: Proceed) -> Response:
    await asyncio.sleep(fault.seconds)
    return await proceed()


async def _reset(_fault: Fault, call: Call, _proceed: Proceed) -> Response:
    _cut(call.request)
    return _gateway(HTTPStatus.BAD_GATEWAY)


async def _accept_then_reset(_fault: Fault, call: Call, proceed: Proceed) -> Response:
    await proceed()
    _cut(call.request)
    return _gateway(HTTPStatus.BAD_GATEWAY)


async def _close_after(_fault: Fault, call: Call, proceed: Proceed) -> Response:
    """A good answer whose connection the server closes a moment later, without having said so."""
    transport = call.request.state.transport
    asyncio.get_running_loop().call_later(0.05, transport.close)
    return await proceed()


async def _limbo(fault: Fault, call: Call, proceed: Proceed) -> Response:
    """A good answer, and an order that stands open for `seconds`, whatever the market does."""
    with call.fills_after(fault.seconds):
        return await proceed()


async def _refused_but_placed(fault: Fault, call: Call, proceed: Proceed) -> Response:
    """A refusal that sounds final, of an order that rests in the book for `seconds`, and then trades."""
    with call.fills_after(fault.seconds):
        await proceed()
    raise BrokerError(fault.error_type or "OrderException", fault.message or "The order was refused.")


async def _vanish(_fault: Fault, call: Call, _proceed: Proceed) -> Response:
    """A good answer, with the id of an order that the book never shows."""
    return call.accept_nothing()


async def _bad_gateway(_fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    return _gateway(HTTPStatus.BAD_GATEWAY)


async def _forbidden_page(_fault: Fault, _call: Call, _proceed: Proceed) -> Response:
    """The page of a firewall in front of the broker, which never saw the request."""
    return HTMLResponse(FORBIDDEN_PAGE, HTTPStatus.FORBIDDEN)


async def _lag(fault: Fault, call: Call, proceed: Proceed) -> Response:
    """A good answer of `seconds` ago."""
    with call.held_before(fault.seconds):
        return await proceed()


#: kind -> what it does. Besides these, "refuse" stops the server from listening for `seconds`, and "scramble" holds
#: an account's order updates back, to send them newest first and each twice.
FAULTS: dict[str, Callable[[Fault, Call, Proceed], Awaitable[Response]]] = {
    "reject": _reject,
    "reject_margin": _reject_margin,
    "reject_in_book": _reject_in_book,
    "accept_then_hang": _accept_then_hang,
    "hang": _hang,
    "accepted_but_400": _accepted_but_400,
    "late_accept": _late_accept,
    "token": _token,
    "rate_limit": _rate_limit,
    "unavailable": _unavailable,
    "slow": _slow,
    "reset": _reset,
    "accept_then_reset": _accept_then_reset,
    "close_after": _close_after,
    "limbo": _limbo,
    "refused_but_placed": _refused_but_placed,
    "vanish": _vanish,
    "bad_gateway": _bad_gateway,
    "forbidden_page": _forbidden_page,
}
#: The same for reads alone, besides the sicknesses of an answer.
READS: dict[str, Callable[[Fault, Call, Proceed], Awaitable[Response]]] = {"lag": _lag}

#: What ANY draws from: whatever a broker does to an order request that ends within seconds, and not the token's death.
DRAWN = (
    "reject", "reject_margin", "reject_in_book", "accepted_but_400", "late_accept", "rate_limit", "unavailable",
    "reset", "accept_then_reset", "close_after",
)  # fmt: skip
#: What it draws from for a read, besides the sicknesses of its answer; and those of them that must be worded.
FAILING = ("bad_gateway", "unavailable", "rate_limit", "reset", "forbidden_page")
WORDED = frozenset({"edit", "add"})


def drawn_for(operation: str) -> tuple[str, ...]:
    """What ANY draws from for a call of `operation`."""
    if operation == "place":
        return DRAWN
    lags = ("lag",) if operation == "positions" else ()
    # What needs words of its own is not drawn.
    sick = (kind for kind, (_, concerned) in SICKNESSES.items() if operation in concerned and kind not in WORDED)
    return (*FAILING, *lags, *sick)


def _gateway(status: HTTPStatus) -> Response:
    """What a proxy in front of the broker says: no JSON."""
    return PlainTextResponse(status.phrase, status)


def _cut(request: Request) -> None:
    """Reset the connection, as a crashed peer does: no FIN, no answer."""
    transport: asyncio.Transport = request.state.transport
    transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
