"""The listener's process: the market feed's frames into the listener, as they come."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial

from sqlalchemy.exc import SQLAlchemyError

from broker_connector.base import Feed
from broker_connector.feed import Connected, Disconnected, Frame, Malformed, Notice
from broker_connector.registry import open_feed
from broker_connector.ticker import decode_prices, undecoded
from engine import bootstrap
from engine.bootstrap import Parts
from engine.brokers import credentials_of
from engine.clock import ClockNotAnnounced
from engine.domain.broker import BrokerUnreachable, Instrument, Quote, TokenInvalid
from engine.domain.feed import Asked
from engine.domain.routing import Alert
from engine.domain.ticks import Tick, to_units
from engine.listener import Listener
from engine.ports import AccountState, StoreClosed
from engine.processes.loop import PATIENCE, Stop, awaited, show_life
from models.durable import DurableState

#: Seconds between two looks at which symbols have runs, and at overdue doubts.
LOOK_EVERY = 0.25
#: Seconds between two looks at what the operator says of the calendar, and at the account's details.
RELEARN_EVERY = 5.0
#: Seconds between two quotes, each of every symbol in doubt: as many as a broker answers.
ASK_EVERY = 1.0
#: Seconds between two lines that say how the feed is.
TELL_EVERY = 30.0


def main(name: str = "listener") -> None:
    """Listen until told to stop. Two may serve the same symbols: a breach is latched by whichever sees it first."""
    shared = bootstrap.parts(name)
    sessions, stop = bootstrap.database(shared.settings), Stop()
    durable = DurableState(sessions)
    account = _feed_account(shared, durable, stop)
    days = awaited(shared, partial(bootstrap.calendar, shared.settings, sessions), stop)
    relearn = partial(bootstrap.relearn, days, sessions)
    listener = bootstrap.listener(shared, days)
    bootstrap.settle()
    while account is not None:
        account = asyncio.run(_Run(name, shared, listener, relearn, durable.accounts, account, stop).run())


def _feed_account(shared: Parts, durable: DurableState, stop: Stop) -> AccountState | None:
    """The account whose ticker is listened to: the first; waits until there is one."""
    while not stop:
        accounts = awaited(shared, durable.accounts, stop)
        if accounts:
            return accounts[0]
        stop.wait(PATIENCE)
    return None


class _Run:
    """One feed, one listener, one event loop: as long as the account's details stay what they are."""

    def __init__(
        self,
        name: str,
        shared: Parts,
        listener: Listener,
        relearn: Callable[[], object],
        accounts: Callable[[], Sequence[AccountState]],
        account: AccountState,
        stop: Stop,
    ) -> None:
        self._name = name
        self._shared = shared
        self._listener = listener
        self._relearn = relearn
        self._accounts = accounts
        self._account = account
        self._stop = stop
        self._feed: Feed = open_feed(account.broker, account.ws_url, credentials_of(account, shared.decrypt))
        self._symbol_of: dict[int, str] = {}
        #: As the exchange lists them, by symbol.
        self._listed: dict[str, Instrument] = {}
        self._subscribed: set[str] = set()
        self._connected = False
        #: The account with other details: a feed opened with an old token cannot come back once it is cut.
        self._next: AccountState | None = None
        #: What is waited for.
        self._missing = ""
        #: When quotes were asked for last, and the asking.
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        #: Packets and text frames that could not be read.
        self._malformed = 0

    async def run(self) -> AccountState | None:
        """Read and look after, until the stop, or until a login: returns the account to go on with."""
        reading, relearning = asyncio.create_task(self._read()), asyncio.create_task(self._follow())
        try:
            next_told = time.monotonic() + TELL_EVERY
            while not self._stop and not reading.done() and self._next is None:
                await self._look()
                if time.monotonic() >= next_told:
                    next_told += TELL_EVERY
                    refused = {reason.value: count for reason, count in self._listener.refused().items()}
                    self._shared.log("feed", evaluated=self._listener.evaluated, malformed=self._malformed, **refused)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            reading.cancel()
            relearning.cancel()
            await asyncio.gather(reading, relearning, return_exceptions=True)
        return self._next

    async def _look(self) -> None:
        try:
            try:
                await self._subscribe()
                self._missing = ""
            except (BrokerUnreachable, TokenInvalid) as error:
                # New symbols wait; those that are subscribed are watched all the same.
                self._wait_for(error)
            if self._connected:
                show_life(self._shared, self._name)
            self._listener.on_pause()
            if self._listener.doubted:
                self._ask()
        except ClockNotAnnounced:
            return
        except StoreClosed as error:
            # What was missed meanwhile is kept by the listener and played in.
            self._wait_for(error)

    def _wait_for(self, error: Exception) -> None:
        """Say what is missing, once: it may be missing all night."""
        if str(error) != self._missing:
            self._shared.log("waits", reason=str(error))
        self._missing = str(error)

    async def _follow(self) -> None:
        """Sessions and a token an operator changes are the ones that count; without PostgreSQL, those known."""
        while True:
            await asyncio.sleep(RELEARN_EVERY)
            with suppress(SQLAlchemyError, ClockNotAnnounced):
                await asyncio.to_thread(self._relearn)
                self._listener.follow()
            with suppress(SQLAlchemyError):
                accounts = await asyncio.to_thread(self._accounts)
                if accounts and accounts[0].version != self._account.version:
                    self._next = accounts[0]

    async def _subscribe(self) -> None:
        fresh = await asyncio.to_thread(self._shared.store.symbols) - self._subscribed
        if not fresh:
            return
        exchanges = {symbol.split(":")[0] for symbol in fresh}
        if any(symbol not in self._listed for symbol in fresh):
            for exchange in exchanges:
                await asyncio.to_thread(self._list, exchange)
        tokens = [self._listed[symbol].token for symbol in fresh if symbol in self._listed]
        left_out = await self._feed.subscribe(tokens)
        self._shared.log("subscribed", symbols=len(tokens) - len(left_out))
        if left_out:
            await asyncio.to_thread(self._shared.store.alert, "", self._full(left_out))
        # Last: where the alert finds the store closed, all of it is done again.
        self._subscribed |= fresh

    def _full(self, left_out: Sequence[int]) -> Alert:
        unwatched = ", ".join(sorted(self._symbol_of[token] for token in left_out))
        return Alert(
            "critical",
            "feed_full",
            f"no line of the feed has room for {unwatched}: their stops do not fire; trade fewer symbols",
        )

    def _list(self, exchange: str) -> None:
        broker = self._shared.brokers.of(self._account.id, self._account.version)
        for instrument in broker.instruments(exchange):
            self._listed[instrument.symbol] = instrument
            self._symbol_of[instrument.token] = instrument.symbol

    async def _read(self) -> None:
        async for event in self._feed.events():
            match event:
                case Frame(data):
                    self._on_frame(data)
                case Connected():
                    self._connected = True
                    self._shared.log("feed_up")
                case Disconnected(reason):
                    self._connected = False
                    self._shared.log("feed_down", reason=reason)
                case Malformed(reason):
                    self._malformed += 1
                    self._shared.log("feed_malformed", reason=reason)
                case Notice(kind, text):
                    self._shared.log("feed_notice", kind=kind, text=text)

    def _on_frame(self, data: bytes) -> None:
        held_at = self._shared.real.now()
        prices = decode_prices(data)
        self._malformed += undecoded(data, len(prices))
        ticks = [
            Tick(symbol, price, _at(seconds), close, _at(traded_at))
            for token, price, seconds, close, traded_at in prices
            if (symbol := self._symbol_of.get(token)) is not None
        ]
        if ticks:
            try:
                self._listener.on_frame(ticks, held_at)
            except ClockNotAnnounced:
                return
            if self._listener.doubted:
                self._ask()

    def _ask(self) -> None:
        """Ask the broker for the prices in doubt, unless it was asked just now: the frames go on meanwhile."""
        is_asking = self._asking is not None and not self._asking.done()
        if not is_asking and time.monotonic() >= self._asked_at + ASK_EVERY:
            symbols = [*self._listener.doubted]
            self._listener.doubted.clear()
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._hear_quotes(symbols))

    async def _hear_quotes(self, symbols: Sequence[str]) -> None:
        try:
            broker = self._shared.brokers.of(self._account.id, self._account.version)
            quotes = await asyncio.to_thread(broker.quote, symbols)
        except (BrokerUnreachable, TokenInvalid, StoreClosed) as error:
            # The next tick decides, or the day's band.
            self._shared.log("not_quoted", symbols=symbols, reason=str(error))
            return
        told = {each.symbol: self._in_units(each) for each in quotes if each.symbol in self._listed}
        latched = self._listener.on_asked(told)
        self._shared.log("quoted", symbols=[*told], latched=latched)

    def _in_units(self, quote: Quote) -> Asked:
        scale = self._listed[quote.symbol].scale
        last, lower, upper = (to_units(each, scale) for each in (quote.last_price, quote.lower_band, quote.upper_band))
        return Asked(last, lower, upper, quote.at)


@lru_cache(maxsize=4096)
def _at(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
