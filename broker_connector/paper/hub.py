"""The WebSocket side of the paper broker: who listens to what, and the frames they get.

Each connection has a queue and a sender of its own, so a slow listener delays nobody. Knows no books.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from broker_connector.paper.exchange import TickOut
from broker_connector.ticker import (
    FULL_SIZE,
    INDEX_FULL_SIZE,
    INDEX_QUOTE_SIZE,
    LTP_SIZE,
    QUOTE_SIZE,
    Mode,
    pack_frame,
)

#: Seconds between heartbeats.
HEARTBEAT = 1.0
HEARTBEAT_FRAME = b"\x00"
#: Seconds a scrambled account's updates are held back.
SCRAMBLED_FOR = 0.5
#: Connections an API key may have open at once, and instruments one of them may subscribe.
CONNECTIONS, INSTRUMENTS = 3, 3000
#: Frames a listener may be behind before it is cut off.
QUEUE_LIMIT = 20_000

# A full body begins with the quote body, which begins with the ltp body: by the length of the full one.
_SIZES = {
    FULL_SIZE: {Mode.LTP: LTP_SIZE, Mode.QUOTE: QUOTE_SIZE},
    INDEX_FULL_SIZE: {Mode.LTP: LTP_SIZE, Mode.QUOTE: INDEX_QUOTE_SIZE},
}


class Listener:
    """One connection of one account."""

    def __init__(self, socket: WebSocket, account_id: str) -> None:
        self.account_id = account_id
        self.accepted = asyncio.Event()
        self.modes: dict[int, Mode] = {}
        self.signature: frozenset[tuple[int, Mode]] = frozenset()
        self._socket = socket
        self._queue: asyncio.Queue[bytes | str] = asyncio.Queue(QUEUE_LIMIT)

    def want(self, tokens: Iterable[int], mode: Mode) -> bool:
        """Send ticks of `tokens` in `mode` from now on; False where they were too many, and some were left out."""
        wanted = list(dict.fromkeys(tokens))
        room = INSTRUMENTS - len(self.modes)
        new = [token for token in wanted if token not in self.modes]
        beyond = set(new[max(0, room) :])
        self.modes |= {token: mode for token in wanted if token not in beyond}
        self.signature = frozenset(self.modes.items())
        return not beyond

    def drop(self, tokens: Iterable[int]) -> None:
        """Send no more ticks of `tokens`."""
        for token in tokens:
            self.modes.pop(token, None)
        self.signature = frozenset(self.modes.items())

    def send(self, message: bytes | str) -> None:
        """Queue a frame; a listener too far behind loses its connection instead of frames."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.modes.clear()
            raise

    async def pump(self) -> None:
        """Send what is queued, from when the connection is accepted until it ends."""
        await self.accepted.wait()
        while True:
            message = await self._queue.get()
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_text(message)


class Hub:
    """Every listener."""

    def __init__(self, snapshot: Callable[[int], bytes | None]) -> None:
        """`snapshot`: the full body of a symbol's last good tick."""
        self.listeners: dict[Listener, asyncio.Task[None]] = {}
        self._snapshot = snapshot
        #: Account -> its updates held back.
        self.scrambled: dict[str, list[str]] = {}

    def ticks(self, ticks: Sequence[TickOut]) -> None:
        """Send `ticks`, in order and none left out, to all who want them; equal wishes share a frame."""
        frames: dict[frozenset[tuple[int, Mode]], bytes | None] = {}
        for listener in list(self.listeners):
            if listener.signature not in frames:
                frames[listener.signature] = _frame(ticks, listener.modes)
            frame = frames[listener.signature]
            if frame is not None:
                self._send(listener, frame)

    def update(self, account_id: str, message: dict[str, Any]) -> None:
        """Send an order update to every connection of the account."""
        text = json.dumps(message)
        held = self.scrambled.get(account_id)
        if held is None:
            self._tell(account_id, text)
            return
        if not held:
            asyncio.get_running_loop().call_later(SCRAMBLED_FOR, self._unscramble, account_id)
        held.append(text)

    def scramble(self, account_id: str) -> None:
        """Hold the account's next updates back for a moment, then send them newest first, and each twice."""
        self.scrambled.setdefault(account_id, [])

    def _unscramble(self, account_id: str) -> None:
        for text in reversed(self.scrambled.pop(account_id)):
            self._tell(account_id, text)
            self._tell(account_id, text)

    def _tell(self, account_id: str, text: str) -> None:
        for listener in list(self.listeners):
            if listener.account_id == account_id:
                self._send(listener, text)

    async def heartbeat(self) -> None:
        """Tell every listener once a second that the line lives."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            for listener in list(self.listeners):
                self._send(listener, HEARTBEAT_FRAME)

    def cut(self, account_id: str = "") -> None:
        """End the connections of an account, or all."""
        for listener, sender in self.listeners.items():
            if account_id in {"", listener.account_id}:
                sender.cancel()

    def is_full(self, account_id: str) -> bool:
        """Whether an account may open no further connection."""
        return sum(listener.account_id == account_id for listener in self.listeners) >= CONNECTIONS

    async def serve(self, socket: WebSocket, account_id: str) -> None:
        """Speak with one connection until it ends."""
        # Counted before it is accepted, so that of many at once no more than fit come in.
        listener = Listener(socket, account_id)
        sender = asyncio.create_task(listener.pump())
        self.listeners[listener] = sender
        try:
            await socket.accept()
        except BaseException:
            sender.cancel()
            del self.listeners[listener]
            raise
        listener.accepted.set()
        reader = asyncio.create_task(self._read(socket, listener))
        try:
            await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self.listeners[listener]
            for task in (sender, reader):
                task.cancel()
            await asyncio.gather(sender, reader, return_exceptions=True)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

    async def _read(self, socket: WebSocket, listener: Listener) -> None:
        while True:
            text = await socket.receive_text()
            try:
                self._obey(listener, json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError):
                listener.send(json.dumps({"type": "error", "data": "Invalid message."}))

    def _obey(self, listener: Listener, message: dict[str, Any]) -> None:
        match message["a"], message["v"]:
            case "subscribe", tokens:
                # Like the real one: a plain subscription is in quote mode until it is told otherwise.
                fits = listener.want([token for token in tokens if token not in listener.modes], Mode.QUOTE)
            case "mode", [mode, tokens]:
                fits = listener.want(tokens, Mode(mode))
            case "unsubscribe", tokens:
                listener.drop(tokens)
                return
            case _:
                raise ValueError("unknown message")
        if not fits:
            listener.send(json.dumps({"type": "error", "data": f"Subscription limit of {INSTRUMENTS} exceeded."}))
        bodies = ((token, self._snapshot(token)) for token in tokens)
        frame = _frame([TickOut(token, body) for token, body in bodies if body is not None], listener.modes)
        if frame is not None:
            listener.send(frame)

    def _send(self, listener: Listener, message: bytes | str) -> None:
        try:
            listener.send(message)
        except asyncio.QueueFull:
            self.listeners[listener].cancel()


def _frame(ticks: Iterable[TickOut], modes: dict[int, Mode]) -> bytes | None:
    bodies = [
        tick.body if mode is Mode.FULL else tick.body[: _SIZES[len(tick.body)][mode]]
        for tick in ticks
        if (mode := modes.get(tick.token)) is not None
    ]
    return pack_frame(bodies) if bodies else None
