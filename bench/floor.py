"""The floor of a stop-loss: two bare processes that do the least that is correct, with the engine's own scripts.

`python -m bench.floor listener PLAN`: hold a frame, parse it, latch what it breaches, LPUSH each. `python -m
bench.floor worker PLAN THREADS`: BRPOP, claim, intend, one POST on a kept-alive socket, commit. What each run's calls
are stands in the plan, taken down of the engine beforehand: nothing is decided here.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.sync.client import connect as listen

from bench.recorded import Recorded
from broker_connector.ticker import decode_prices
from engine.runtime.connect import connect
from engine.runtime.scripts import Scripts
from engine.runtime.store import load_scripts

QUEUE = "floor"
#: What both say when they have begun.
READY = "floor ready"
#: Requests to the broker before the first that counts, a thread: the engine's connections are warm, too.
WARM_UPS = 3


def main(part: str, path: str, threads: str = "1") -> None:
    """Run one of the two processes until SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    plan = json.loads(Path(path).read_text())
    if part == "listener":
        _listener(plan)
    else:
        _worker(plan, int(threads))


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _listener(plan: Mapping[str, Any]) -> None:
    redis: Any = connect(plan["redis"])
    scripts, line = Scripts(redis, load_scripts()), redis.connection_pool.make_connection()
    symbols: dict[str, str] = plan["symbols"]
    with listen(plan["feed"], compression=None) as feed, Path(plan["held"]).open("w", encoding="utf-8") as held:
        feed.send("{}")
        print(READY, flush=True)
        for number, frame in enumerate(feed):
            at = time.time_ns() // 1000
            if not isinstance(frame, bytes) or len(frame) < 2:
                continue
            ticks: list[Any] = []
            for token, price, seconds, _close, traded_at, _low in decode_prices(frame):
                ticks += (symbols[str(token)], price, seconds * 1_000_000, traded_at * 1_000_000 if traded_at else "")
            arguments = (plan["epoch"], at, f"f{number}", "", at, plan["market"], *ticks)
            latched = scripts.call("on_tick", ("engine:epoch", "due", ""), arguments)
            for run in latched[0::3]:
                line.send_command("LPUSH", QUEUE, run)
                line.read_response()
            for run in latched[0::3]:
                held.write(f"{run} {at}\n")
            held.flush()


class _Broker:
    """One kept-alive connection, written and read as bytes."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._line = socket.create_connection((parts.hostname, parts.port or 80))
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        """One request; returns once its answer is there."""
        self._line.sendall(request)
        answer = self._line.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._line.recv(65536)


def _worker(plan: Mapping[str, Any], threads: int) -> None:
    redis: Any = connect(plan["redis"])
    scripts = Scripts(redis, load_scripts())
    orders: dict[str, tuple[Recorded, bytes]] = {}
    for run, parts in plan["orders"].items():
        recorded = Recorded(*parts)
        orders[run] = recorded, _request("POST", "/orders/regular", plan["headers"], recorded.form)
    profile = _request("GET", "/user/profile", plan["headers"], None)

    def serve(line: Any, broker: _Broker) -> None:
        while True:
            line.send_command("BRPOP", QUEUE, 1)
            taken = line.read_response()
            if taken is None:
                continue
            recorded, request = orders[taken[1]]
            for call in recorded.before:
                scripts.call(*call)
            broker.send(request)
            for call in recorded.after:
                scripts.call(*call)

    for _ in range(threads):
        broker = _Broker(plan["broker"])
        for _ in range(WARM_UPS):
            broker.send(profile)
        line = redis.connection_pool.make_connection()
        threading.Thread(target=serve, args=(line, broker), daemon=True).start()
    print(READY, flush=True)
    signal.pause()


def _request(method: str, path: str, headers: Mapping[str, str], form: Mapping[str, str] | None) -> bytes:
    body = urlencode(form or {}).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: broker", *(f"{name}: {value}" for name, value in headers.items())]
    lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def arguments(part: str, plan: Path, threads: int = 1) -> Sequence[str]:
    """The command line of one of them."""
    return (sys.executable, "-m", "bench.floor", part, str(plan), str(threads))


if __name__ == "__main__":
    main(*sys.argv[1:])
