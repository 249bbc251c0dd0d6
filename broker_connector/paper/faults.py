"""Scripted faults of the paper broker: each wraps a request and decides what of it happens and is told.

A fault is a row of FAULTS: an async function of the fault, the call it meets, and `proceed`, which does what the
request asks. Knows no accounts or books; which calls it meets is data.
"""

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from broker_connector.paper.errors import BrokerError, bad_token, too_many

#: The fault that meets no call but the listening socket.
REFUSE = "refuse"
#: The fault that meets no call but the order updates of an account.
SCRAMBLE = "scramble"

#: The kind that is drawn anew for each call it meets, among DRAWN.
ANY = "any"
#: Calls to meet, of a fault that is never spent.
EVER = 2**63

Proceed = Callable[[], Awaitable[Response]]

# Orders on their way; the loop itself holds a task only weakly.
_late: set[asyncio.Task[None]] = set()

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
    #: Share of the calls it could meet that it does, drawn by the seed.
    probability: float = 1.0
    seed: int = 0
    met: int = 0
    draw: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be between 0 and 1")
        self.draw = random.Random(self.seed)

    def told(self) -> dict[str, Any]:
        """Its description, and how many calls it met."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def act(self) -> str:
        """The kind it is for the call it met."""
        return self.draw.choice(DRAWN) if self.kind == ANY else self.kind

    def meets(self, call: "Call") -> bool:
        """Whether it concerns `call`, whatever is left of it."""
        wanted = {
            "operation": (self.operation, call.operation),
            "account": (self.account, call.account),
            "symbol": (self.symbol, call.form.get("tradingsymbol", "")),
            "side": (self.side.upper(), call.form.get("transaction_type", "")),
            "tag": (self.tag, call.form.get("tag", "")),
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


@dataclass(slots=True)
class Script:
    """The faults still to come, in order; the first that meets a call takes it."""

    faults: list[Fault] = field(default_factory=list)
    #: Stops listening for so many seconds; given by whoever runs the server.
    refuse: Callable[[float], None] = lambda _seconds: None
    #: Repeats and reorders the next order updates of an account.
    scramble: Callable[[str], None] = lambda _account: None

    def add(self, description: Mapping[str, Any]) -> Fault:
        """Append the fault `description` tells of; raises TypeError or KeyError at unknown words."""
        fault = Fault(**description)
        if fault.kind == REFUSE:
            self.refuse(fault.seconds)
        elif fault.kind == SCRAMBLE:
            self.scramble(fault.account)
        elif fault.kind in {ANY, *FAULTS}:
            self.faults.append(fault)
        else:
            raise KeyError(fault.kind)
        return fault

    async def run(self, call: Call, proceed: Proceed) -> Response:
        """Answer `call`, by the first fault that meets it, else as it should be."""
        for fault in self.faults:
            if not fault.meets(call) or fault.draw.random() >= fault.probability:
                continue
            fault.met += 1
            if fault.met <= fault.skip:
                continue
            if fault.met >= fault.skip + fault.times:
                self.faults.remove(fault)
            return await FAULTS[fault.act()](fault, call, proceed)
        return await proceed()


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
}

#: What ANY draws from: whatever a broker does to an order request that ends within seconds, and not the token's death.
DRAWN = (
    "reject", "reject_margin", "reject_in_book", "accepted_but_400", "late_accept", "rate_limit", "unavailable",
    "reset", "accept_then_reset", "close_after",
)  # fmt: skip


def _gateway(status: HTTPStatus) -> Response:
    """What a proxy in front of the broker says: no JSON."""
    return PlainTextResponse(status.phrase, status)


def _cut(request: Request) -> None:
    """Reset the connection, as a crashed peer does: no FIN, no answer."""
    transport: asyncio.Transport = request.state.transport
    transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
