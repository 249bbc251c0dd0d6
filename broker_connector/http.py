"""One account's HTTP line to its broker: kept-alive connections, no retries, and proof of what was sent.

Knows nothing of any broker's paths, words or errors.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from broker_connector.verdicts import DOUBT, EXCEPTIONS
from engine.domain.broker import Outcome

#: Seconds to wait for a TCP and TLS connection.
CONNECT_TIMEOUT = 1.0
#: Seconds without a byte of the answer until a sent request is in doubt.
READ_TIMEOUT = 3.0
#: Seconds within which an answer is whole, however steadily it comes: whoever waits for it holds a thread.
ANSWER_TIMEOUT = 10.0
#: Bytes of a body taken at a time.
CHUNK = 1 << 16
#: Seconds after which an idle connection is replaced before use: middleboxes drop idle flows without a word,
#: and a write into one ends in doubt.
IDLE_LIMIT = 30.0
#: Kept-alive connections; more are opened when more threads call at once, and closed after use.
POOL_SIZE = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer: SERVER_DOWN when nothing was sent, else TIMEOUT."""

    outcome: Outcome
    message: str


class NotPermitted(Exception):
    """Raised inside a connection when the sender may no longer send; nothing was written."""


def outcome_of(error: Exception, written: bool) -> Outcome:
    """What `error` proves. `written`: the connection stood and the write was begun."""
    if not written:
        return Outcome.SERVER_DOWN
    known = next((kind for kind in type(error).__mro__ if kind in EXCEPTIONS), None)
    return DOUBT.outcome if known is None else EXCEPTIONS[known].outcome


class Dated(NamedTuple):
    """The time a broker's server put on an answer, whole seconds, and when it came (`time.monotonic`)."""

    date: datetime
    heard_at: float
    #: Seconds from when it was asked for to when it came: it may have been written at any moment between.
    took: float = 0.0


#: The newest of them, of whichever broker: all of them keep the market's time.
_newest: list[Dated] = []


def newest_date() -> Dated | None:
    """The last time a broker told; None before the first answer."""
    return _newest[-1] if _newest else None


def _note_time(header: str, asked_at: float) -> None:
    date, now = _read_date(header), time.monotonic()
    # No date, or none that can be read, says nothing.
    if date is not None:
        _newest[:] = [Dated(date, now, now - asked_at)]


# Of answers by the second, most tell the same one.
@lru_cache(maxsize=8)
def _read_date(header: str) -> datetime | None:
    try:
        return parsedate_to_datetime(header)
    except (ValueError, TypeError):
        return None


class _Sending(threading.local):
    """What the calling thread sends now: the permission to ask, and whether the write was begun."""

    may_send: Callable[[], bool] | None = None
    written: bool = False


_sending = _Sending()


def _begin_write() -> None:
    """Ask for permission; from here on bytes may have left."""
    if _sending.may_send is not None and not _sending.may_send():
        raise NotPermitted
    _sending.written = True


# urllib3 connects lazily inside `request`, and asks `is_connected` of a pooled connection before it hands it
# out: these two are the only places where "the line is good" and "now we write" can be told apart.
class _Connection(HTTPConnection):
    used_at = 0.0
    #: The head of a request whose body is still to come: both leave in one packet, and wake the broker once.
    _head: bytes | None = None
    _has_body = False

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self.used_at < IDLE_LIMIT

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self._head, self._has_body = None, bool(kwargs.get("body"))
        _begin_write()
        self.used_at = time.monotonic()
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self._has_body and self._head is None:
            self._head = data
            return
        whole, self._head = (self._head or b"") + data, None
        self._has_body = False
        super().send(whole)


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def _stands(answer: Answer | Failure) -> bool:
    return isinstance(answer, Answer) and answer.headers.get("Connection", "").lower() != "close"


def _wait(together: threading.Barrier) -> bool:
    with suppress(threading.BrokenBarrierError):
        together.wait(CONNECT_TIMEOUT)
    return True


def _whole(response: Any, until: float) -> bytes:
    """The body; raises TimeoutError where it is not there by then, for a byte now and then is no answer."""
    parts: list[bytes] = []
    while part := response.read1(CHUNK):
        parts.append(part)
        if time.monotonic() > until:
            response.close()
            raise TimeoutError(f"the answer was not whole after {sum(map(len, parts))} bytes")
    response.release_conn()
    return b"".join(parts)


class Line:
    """Kept-alive connections of one account to `base_url`; safe to use from many threads.

    A pooled connection the peer has closed is replaced before anything is written. Nothing is retried, no
    redirect is followed, and proxies and netrc of the environment are ignored.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._headers = dict(headers)
        self._form_headers = self._headers | {"Content-Type": "application/x-www-form-urlencoded"}
        self._timeout = Timeout(connect=connect_timeout, read=read_timeout)
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=POOL_SIZE, max_retries=0, pool_block=False)
        # The pool `requests` would use, with the certificates it would trust.
        model = requests.Request("GET", base_url).prepare()
        self._pool: Any = self._adapter.get_connection_with_tls_context(model, verify=True)

    def send(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
        within: float = ANSWER_TIMEOUT,
    ) -> Answer | Failure:
        """One request, once. `may_send` is asked when the connection stands, right before the write.

        `within`: seconds for all of it.
        """
        _sending.may_send, _sending.written = may_send, False
        asked_at = time.monotonic()
        try:
            # On the pool itself: what `requests` puts around it is most of an order's cost, and nothing an order needs.
            response = self._pool.urlopen(
                method,
                self._prefix + path,
                body=None if form is None else urlencode(form),
                headers=self._headers if form is None else self._form_headers,
                timeout=self._timeout,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
            _note_time(response.headers.get("Date", ""), asked_at)
            return Answer(response.status, _whole(response, asked_at + within), response.headers)
        except NotPermitted:
            return Failure(Outcome.SERVER_DOWN, "not sent: the permission to send had ended")
        # A connection can fail in ways nobody wraps (an OSError while the body is read).
        except Exception as error:  # noqa: BLE001
            return Failure(outcome_of(error, _sending.written), f"{type(error).__name__}: {error}")
        finally:
            _sending.may_send = None

    def warm(self, path: str, connections: int) -> int:
        """Open up to `connections` kept-alive connections, at most POOL_SIZE, each with one GET of `path`.

        Returns how many stand: those that answered, whatever it was, and were not told to close. Never raises.
        """
        wanted = min(connections, POOL_SIZE)
        if wanted < 1:
            return 0
        # All hold their connection before the first one writes: else the pool would lend one of them to all.
        together = threading.Barrier(wanted)

        def read_once() -> bool:
            try:
                return _stands(self.send("GET", path, may_send=lambda: _wait(together)))
            finally:
                # One that could not connect is not waited for.
                together.abort()

        with ThreadPoolExecutor(wanted, thread_name_prefix="warm") as threads:
            return sum(threads.map(lambda _: read_once(), range(wanted)))

    def close(self) -> None:
        """Close idle connections; busy ones close when they come back."""
        self._adapter.close()
