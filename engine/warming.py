"""Connections to brokers kept warm: an order of an account that has been silent must not wait for TCP and TLS first."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from redis.exceptions import RedisError

from engine.clock import ClockNotAnnounced
from engine.ports import Brokers, Log

#: Seconds between two looks: a connection unused for `broker_connector.http.IDLE_LIMIT` is replaced before use.
EVERY = 12.0
#: Kept-alive connections of an account; a herd opens its own.
CONNECTIONS = 1
#: Accounts warmed at once, so that one broker's silence holds up few others, and in a second: each is a read.
AT_ONCE, A_SECOND = 4, 50


class Warmer:
    """Keeps a connection warm to each account that may trade now, in a worker that sends orders."""

    def __init__(self, at_work: Callable[[], Sequence[tuple[int, str]]], brokers: Brokers, log: Log) -> None:
        """`at_work`: (account, version of its details) of those that may trade now."""
        self._at_work = at_work
        self._brokers = brokers
        self._log = log

    def start(self) -> None:
        """Warm now, and from now on in threads of its own."""
        threading.Thread(target=self._go_on, name="warmer", daemon=True).start()

    def look(self) -> int:
        """Warm every account at work once; how many connections stand. Never raises."""
        try:
            accounts = self._at_work()
        except (RedisError, ClockNotAnnounced) as error:
            self._log("not_warmed", reason=str(error))
            return 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="warm") as threads:
            return sum(threads.map(self._warm, accounts))

    def _warm(self, account: tuple[int, str]) -> int:
        began = time.monotonic()
        try:
            stand = self._brokers.of(*account).warm(CONNECTIONS)
        # Whatever is wrong with one account, its order will say; the others are warmed.
        except Exception as error:  # noqa: BLE001
            self._log("not_warmed", account=account[0], reason=f"{type(error).__name__}: {error}")
            return 0
        time.sleep(max(0.0, AT_ONCE / A_SECOND - (time.monotonic() - began)))
        return stand

    def _go_on(self) -> None:
        while True:
            self.look()
            time.sleep(EVERY)
