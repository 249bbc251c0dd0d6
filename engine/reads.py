"""Questions to many brokers at once: each is asked once at a time, and a silent one keeps no other's answer back."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any, Generic, TypeVar

from engine.domain.broker import BrokerUnreachable, TokenInvalid

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: How long new questions are waited for, and how soon one that failed may be put again, seconds.
WITHIN, AGAIN_AFTER = 2.0, 2.0
#: Questions under way at once: a silent broker holds a thread for as long as its connector waits.
AT_ONCE = 256

#: Why a broker did not answer; anything else is a bug, or the store's to say, and raised.
Failure = BrokerUnreachable | TokenInvalid


class Reads(Generic[K, T]):
    """Used by one thread. What is not answered in time is not put again, but answered by a later `ask`."""

    def __init__(self, *, threads: int = 0, within: float = WITHIN, again_after: float = AGAIN_AFTER) -> None:
        """`threads`: 0 asks one after the other, in the caller's own."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reads") if threads else None
        self._within = within
        self._again_after = again_after
        self._under_way: dict[K, Future[T]] = {}
        self._failed_at: dict[K, float] = {}

    def ask(self, questions: Mapping[K, Callable[[], T]]) -> Iterator[tuple[K, T | Failure]]:
        """Each answer as it comes, or why there is none. Those still under way are left out."""
        if self._pool is None:
            for name, question in questions.items():
                try:
                    yield name, question()
                except (BrokerUnreachable, TokenInvalid) as error:
                    yield name, error
            return
        is_new = False
        for name, question in questions.items():
            rests = time.monotonic() < self._failed_at.get(name, 0.0) + self._again_after
            if name not in self._under_way and not (name in self._failed_at and rests):
                self._under_way[name] = self._pool.submit(question)
                is_new = True
        names = {future: name for name, future in self._under_way.items() if name in questions}
        with suppress(NotYet):
            for future in as_completed(names, self._within if is_new else 0):
                yield names[future], self._answer(names[future], future)

    def forget(self) -> None:
        """What is under way answers a question of before: it is put again."""
        self._under_way.clear()
        self._failed_at.clear()

    def _answer(self, name: K, future: "Future[Any]") -> T | Failure:
        del self._under_way[name]
        self._failed_at.pop(name, None)
        try:
            answer: T = future.result()
        except (BrokerUnreachable, TokenInvalid) as error:
            self._failed_at[name] = time.monotonic()
            return error
        return answer
