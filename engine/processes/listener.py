"""The listener's process: one feed a market there is an account of, its frames evaluated as they come."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from engine import bootstrap
from engine.bootstrap import Parts
from engine.calendar import Calendar
from engine.clock import ClockNotAnnounced
from engine.listener import Listener
from engine.ports import AccountState
from engine.processes.loop import Stop, awaited, show_life
from engine.processes.marketfeed import MarketFeed
from models.durable import DurableState

#: Seconds between two looks at the accounts, and between two at what the operator says of the calendar.
ACCOUNTS_EVERY, RELEARN_EVERY = 1.0, 5.0


def main(name: str = "listener") -> None:
    """Listen until told to stop. Two may serve the same symbols: a breach is latched by whichever sees it first."""
    shared = bootstrap.parts(name)
    sessions, stop = bootstrap.database(shared.settings), Stop()
    days = awaited(shared, partial(bootstrap.calendar, shared.settings, sessions), stop)
    listening = Listening(name, shared, days, DurableState(sessions).accounts)
    bootstrap.watch_clock(shared)
    bootstrap.settle()
    asyncio.run(listening.run(stop, partial(bootstrap.relearn, days, sessions)))


class Listening:
    """Every market's feed in this process."""

    def __init__(
        self, name: str, shared: Parts, days: Calendar, accounts: Callable[[], Sequence[AccountState]]
    ) -> None:
        self._name = name
        #: "listener" is 0, "listener-2" is 1: they begin with different accounts.
        self._number = int(tail) - 1 if (tail := name.rpartition("-")[2]).isdigit() else 0
        self._shared = shared
        self._days = days
        self._accounts = accounts
        self._feeds: dict[str, tuple[MarketFeed, Listener]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: Stop, relearn: Callable[[], object]) -> None:
        """Serve the markets there are until the stop."""
        following = asyncio.create_task(self._follow(relearn))
        try:
            while not stop:
                # Without PostgreSQL: with the accounts known.
                with suppress(SQLAlchemyError):
                    self._serve(await asyncio.to_thread(self._accounts))
                with suppress(RedisError):
                    if any(feed.connected for feed, _ in self._feeds.values()):
                        await asyncio.to_thread(show_life, self._shared, self._name)
                await asyncio.sleep(ACCOUNTS_EVERY)
        finally:
            tasks = [following, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _serve(self, accounts: Sequence[AccountState]) -> None:
        """Have one feed for every market of `accounts`; one that ended by a fault is begun again, and it is told."""
        markets = {market: tuple(of) for market, of in groupby(sorted(accounts, key=_market), key=_market)}
        for market in markets.keys() - self._feeds.keys():
            listener = bootstrap.listener(self._shared, market, self._days)
            instruments = bootstrap.instruments(self._shared, self._days)
            feed = MarketFeed(self._name, self._shared, market, listener, instruments, self._number)
            self._feeds[market] = feed, listener
        for market, (feed, _) in self._feeds.items():
            feed.accounts = markets.get(market, ())
            task = self._tasks.get(market)
            if task is None or task.done():
                if task is not None and (error := task.exception()):
                    self._shared.log("feed_failed", market=market, reason=repr(error))
                self._tasks[market] = asyncio.create_task(feed.run())

    async def _follow(self, relearn: Callable[[], object]) -> None:
        """Sessions an operator changes are the ones that count; without PostgreSQL, those known."""
        while True:
            await asyncio.sleep(RELEARN_EVERY)
            with suppress(SQLAlchemyError, ClockNotAnnounced):
                await asyncio.to_thread(relearn)
                for _, listener in self._feeds.values():
                    listener.follow()


def _market(account: AccountState) -> str:
    return account.market
