"""One market's feed in one listener: carried by an account that can, replaced by another within seconds of its failing.

Says every second which symbols' lines live. Without that word they are blind, and whoever must know does.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from broker_connector.base import Feed
from broker_connector.feed import Connected, Disconnected, Frame, Malformed, Notice
from broker_connector.registry import open_feed
from broker_connector.ticker import decode_prices, undecoded
from engine.bootstrap import Parts
from engine.brokers import credentials_of
from engine.clock import ClockNotAnnounced
from engine.deafness import Heard
from engine.domain.broker import BrokerUnreachable, Instrument, Quote, TokenInvalid
from engine.domain.feed import Asked
from engine.domain.market import LINES, Candidate, choose, pause_after, rest_after
from engine.domain.routing import Alert
from engine.domain.ticks import Tick, to_units
from engine.instruments import Instruments
from engine.listener import Listener
from engine.ports import AccountState, StoreClosed

#: Seconds between two looks at which symbols have runs, and at overdue doubts.
LOOK_EVERY = 0.25
#: Seconds between two words on which lines live, and how long ago a line may have been heard to be among them.
CARRY_EVERY, HEARD_WITHIN = 1.0, 3.0
#: Seconds a feed may take to connect until another account is tried, and for which it must have stood to be no failure.
CONNECT_WITHIN, STOOD = 3.0, 30.0
#: Seconds between two looks whether another account would be better, and the pause where there is none to be had.
COMPARE_EVERY, PATIENCE = 5.0, 0.5
#: Seconds between two quotes, each of every symbol in doubt: as many as a broker answers.
ASK_EVERY = 1.0
#: Seconds between two looks for symbols of which the broker tells what no packet told, and for which a packet that is
#: on its way is waited for then.
WITNESS_EVERY, ON_ITS_WAY, ON_ITS_WAY_LOOKS = 5.0, 2.0, 20
#: Seconds between two lines that say how the feed is, and between two alerts that it cannot be read.
TELL_EVERY = 30.0
#: Seconds for which no frame could be decoded until its line counts as dead.
UNDECODED_FOR = 5.0


class MarketFeed:
    """The feed of one market. Used from one event loop."""

    def __init__(
        self, name: str, shared: Parts, market: str, listener: Listener, instruments: Instruments, number: int = 0
    ) -> None:
        """`name` and `number`: this listener's among all."""
        self.market = market
        #: The market's accounts, oldest first; whoever made this keeps it up to date.
        self.accounts: Sequence[AccountState] = ()
        self.connected = False
        self._name = name
        self._number = number
        self._shared = shared
        self._listener = listener
        self._instruments = instruments
        self._account: AccountState | None = None
        self._feed: Feed | None = None
        #: By account and version: how often it failed in a row, and until when it rests, monotonic seconds.
        self._failures: dict[tuple[int, str], tuple[int, float]] = {}
        #: As the exchange lists them, by symbol; those subscribed, by token.
        self._listed: dict[str, Instrument] = {}
        self._symbol_of: dict[int, str] = {}
        #: Other names of what is subscribed as a symbol: a renamed one keeps its token, and what is held its old name.
        self._also: dict[str, list[str]] = {}
        self._left_out: set[str] = set()
        #: Symbols whose token is another's since the last look.
        self._given_away: set[str] = set()
        #: What is waited for.
        self._missing = ""
        self._asked_at = self._carried_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        #: What came over this connection, and the symbols of which it provably did not tell what was traded.
        self._heard = Heard()
        self._deaf: set[str] = set()
        self._witnessed_at = 0.0
        self._witnessing: asyncio.Task[None] | None = None
        #: Packets and text frames that could not be read, and since when no frame could.
        self._malformed = 0
        self._undecoded_since: float | None = None

    async def run(self) -> None:
        """Carry the feed with one account after the other, for ever."""
        while True:
            account = await asyncio.to_thread(self._choose)
            if account is None:
                self._wait_for(f"no account of {self.market} has a ticker connection left, or there is none")
                await asyncio.sleep(PATIENCE)
            else:
                # One that failed just now is only tried where there is no other, and not at once.
                if account.id in self._resting():
                    await asyncio.sleep(pause_after(self._failures[account.id, account.version][0]))
                await self._carry_with(account)

    def _choose(self) -> AccountState | None:
        """The account to carry the feed with now."""
        named = self._shared.settings.feed_accounts
        candidates = [
            Candidate(each.id, f"{each.tenant}/{each.name}" in named, self._is_dead(each)) for each in self.accounts
        ]
        try:
            others = [*self._shared.store.carry(self.market, self._name, None).values()]
        except StoreClosed:
            others = []
        chosen = choose(candidates, others, self._resting(), self._number)
        return next((each for each in self.accounts if each.id == chosen), None)

    def _is_dead(self, account: AccountState) -> bool:
        if not credentials_of(account, self._shared.decrypt).access_token:
            return True
        if account.token_ends is not None and self._shared.real.now() >= account.token_ends:
            return True
        try:
            return self._shared.store.health(account.id).dead_version == account.version
        except StoreClosed:
            return False

    async def _carry_with(self, account: AccountState) -> None:
        """Read and look after the feed of `account` until another one, or its new login, is to carry it."""
        self._account, self._missing = account, ""
        self._symbol_of.clear()
        self._also = {}
        self._heard, self._deaf, self._witnessed_at = Heard(), set(), time.monotonic()
        self._feed = open_feed(account.broker, account.ws_url, credentials_of(account, self._shared.decrypt), LINES)
        self._shared.log("feed_opened", market=self.market, account=account.id)
        reading, subscribing = asyncio.create_task(self._read(self._feed)), asyncio.create_task(self._keep_subscribed())
        try:
            await self._look_after(account, reading, time.monotonic())
        finally:
            self.connected = False
            reading.cancel()
            subscribing.cancel()
            await asyncio.gather(reading, subscribing, return_exceptions=True)

    async def _keep_subscribed(self) -> None:
        """By itself: what a broker lists can take long to read, and what is watched is vouched for meanwhile."""
        while True:
            if self.connected:
                try:
                    await self._subscribe()
                except (StoreClosed, ClockNotAnnounced) as error:
                    self._wait_for(str(error))
                except Exception as error:  # noqa: BLE001 - the others go on being watched
                    self._shared.log("not_subscribed", market=self.market, reason=repr(error))
            await asyncio.sleep(LOOK_EVERY)

    async def _look_after(self, account: AccountState, reading: "asyncio.Task[None]", began: float) -> None:
        next_told, next_compared = began + TELL_EVERY, began + COMPARE_EVERY
        while True:
            now = time.monotonic()
            if reading.done() and reading.exception() is not None:
                self._shared.log("feed_failed", account=account.id, reason=repr(reading.exception()))
                self._rest(account, began)
                return
            if self._is_outdated(account):
                # A feed opened with an old token cannot come back once it is cut.
                return
            if self._deaf:
                # Opened anew, by another account where there is one: what is subscribed then is answered with packets.
                await asyncio.to_thread(self._tell_deaf)
                self._rest(account, began)
                return
            if reading.done() or (not self.connected and now > began + CONNECT_WITHIN):
                self._rest(account, began)
                return
            if now >= next_compared:
                next_compared += COMPARE_EVERY
                if await asyncio.to_thread(self._should_move, account):
                    return
            await self._look()
            if now >= next_told:
                next_told += TELL_EVERY
                await asyncio.to_thread(self._tell)
            await asyncio.sleep(LOOK_EVERY)

    def _is_outdated(self, account: AccountState) -> bool:
        current = next((each for each in self.accounts if each.id == account.id), None)
        return current is None or current.version != account.version

    def _should_move(self, account: AccountState) -> bool:
        """Whether another listener carries with this account, too, and one that lives is free: the later one moves."""
        try:
            others = self._shared.store.carry(self.market, self._name, None)
        except StoreClosed:
            return False
        if not any(carrier == account.id and name < self._name for name, carrier in others.items()):
            return False
        taken = {*others.values(), *self._resting()}
        return any(each.id not in taken and not self._is_dead(each) for each in self.accounts)

    def _rest(self, account: AccountState, began: float) -> None:
        """Leave an account alone for a while whose feed failed."""
        stood = time.monotonic() - began >= STOOD
        login = account.id, account.version
        failures = 1 if stood else self._failures.get(login, (0, 0.0))[0] + 1
        self._failures[login] = failures, time.monotonic() + rest_after(failures)

    def _resting(self) -> set[int]:
        """Accounts whose feed failed just now, with the login they have still."""
        current, now = {(each.id, each.version) for each in self.accounts}, time.monotonic()
        return {login[0] for login, (_, until) in self._failures.items() if login in current and now < until}

    async def _look(self) -> None:
        try:
            await self._say_what_lives()
            self._listener.on_pause()
            if self._listener.doubted:
                self._ask()
            self._witness()
        except ClockNotAnnounced:
            return
        except StoreClosed as error:
            self._wait_for(str(error))

    def _wait_for(self, reason: str) -> None:
        """Say what is missing, once: it may be missing all night."""
        if reason != self._missing:
            self._shared.log("waits", market=self.market, reason=reason)
        self._missing = reason

    async def _subscribe(self) -> None:
        """Subscribe what has a run and is not, and anew what has another token today."""
        assert self._feed is not None
        wanted = await asyncio.to_thread(self._shared.store.symbols, self.market)
        for exchange in {symbol.split(":")[0] for symbol in wanted}:
            await asyncio.to_thread(self._list, exchange, {each for each in wanted if each.startswith(f"{exchange}:")})
        token_of = {symbol: self._listed[symbol].token for symbol in wanted if symbol in self._listed}
        old = [
            token
            for token, symbol in self._symbol_of.items()
            if token_of.get(symbol, token) != token or symbol in self._given_away
        ]
        self._given_away.clear()
        self._heard.forget([self._symbol_of.pop(token) for token in old])
        await self._feed.unsubscribe(old)
        fresh = {token: symbol for symbol, token in token_of.items() if token not in self._symbol_of}
        if fresh:
            listed = {symbol: self._listed[symbol] for symbol in token_of}
            self._listener.learn({symbol: to_units(each.tick_size, each.scale) for symbol, each in listed.items()})
        # Told to the map first: the first frame may be here before the answer.
        self._symbol_of |= fresh
        no_room = await self._feed.subscribe(fresh) if fresh else []
        if no_room and (unwanted := self._unwanted(wanted, token_of.values())):
            self._heard.forget([self._symbol_of.pop(token) for token in unwanted])
            await self._feed.unsubscribe(unwanted)
            no_room = await self._feed.subscribe(no_room)
        left_out = {fresh[token] for token in no_room}
        for token in [token for token, symbol in fresh.items() if symbol in left_out]:
            self._symbol_of.pop(token)
        also: dict[str, list[str]] = {}
        for symbol, token in token_of.items():
            if (name := self._symbol_of.get(token)) is not None and name != symbol:
                also.setdefault(name, []).append(symbol)
        self._also = also
        if fresh and (told := len(fresh) - len(left_out)):
            self._shared.log("subscribed", market=self.market, symbols=told, renewed=len(old))
        if left_out - self._left_out:
            await asyncio.to_thread(self._shared.store.alert, "", self._full(left_out))
            self._left_out |= left_out

    def _unwanted(self, wanted: set[str], tokens: Iterable[int]) -> list[int]:
        """What is subscribed and nobody has a run of, to be given up only where there is no room for others.

        A live state that was lost names nothing for a while, and what its runs reach meanwhile must be seen.
        """
        needed = {*tokens}
        return [token for token, symbol in self._symbol_of.items() if symbol not in wanted and token not in needed]

    def _full(self, left_out: Iterable[str]) -> Alert:
        return Alert(
            "critical",
            "feed_full",
            f"the feed of {self.market} has no room for {', '.join(sorted(left_out))}: nothing is bought of these and "
            "their stops do not fire; trade fewer symbols there",
        )

    def _list(self, exchange: str, wanted: set[str]) -> None:
        # The one that carries the feed first: it is known to live.
        accounts = sorted(self.accounts, key=lambda each: self._account is None or each.id != self._account.id)
        now = self._shared.clock.now().market
        found = self._instruments.listed(self.market, exchange, accounts, now, wanted) or {}
        self._listed |= {symbol: found[symbol] for symbol in wanted if symbol in found}
        gone = {
            symbol: self._listed[symbol].token for symbol in wanted if found and symbol in self._listed.keys() - found
        }
        for symbol, token in gone.items():
            # Listed no more, and its token is another's: what that trades at is no price of it.
            if any(each.token == token and not _is_renamed(symbol, each.symbol) for each in found.values()):
                self._listed.pop(symbol)
                self._given_away.add(symbol)

    async def _say_what_lives(self) -> None:
        """Vouch for what this feed watches, unless nothing comes of it."""
        assert self._feed is not None
        assert self._account is not None
        now = time.monotonic()
        if not self.connected or now < self._carried_at + CARRY_EVERY or self._listener.is_behind:
            return
        self._carried_at = now
        unreadable = self._listener.unreadable()
        is_garbled = self._undecoded_since is not None and now > self._undecoded_since + UNDECODED_FOR
        if unreadable or is_garbled:
            self._tell_unreadable(unreadable)
        # A line that beats proves itself and no symbol: one of which nothing came may not be subscribed at all.
        lines = [] if is_garbled or self._listener.lags else self._feed.proven()
        dumb = unreadable | self._deaf
        proven = [
            (timedelta(seconds=age), [each for each in self._spoken(tokens) if each not in dumb])
            for age, tokens in lines
            if age < HEARD_WITHIN
        ]
        await asyncio.to_thread(self._shared.store.carry, self.market, self._name, self._account.id, proven)

    def _spoken(self, tokens: Iterable[int]) -> list[str]:
        symbols = [symbol for token in tokens if (symbol := self._symbol_of.get(token))]
        return self._heard.spoken(name for symbol in symbols for name in (symbol, *self._also.get(symbol, ())))

    def _tell_unreadable(self, symbols: set[str]) -> None:
        refused = ", ".join(f"{count} {reason.value}" for reason, count in self._listener.refused().items())
        what = f"the ticks of {', '.join(sorted(symbols)[:20])}" if symbols else "all frames"
        message = f"{what} of {self.market} cannot be used ({refused or 'not decoded'}): is this host's clock right?"
        now = self._shared.real.now()
        if self._shared.store.alert_once("", Alert("critical", "feed_refused", message), f"refused:{now:%Y%m%d%H}"):
            self._shared.log("alert", severity="critical", code="feed_refused", message=message)

    def _tell(self) -> None:
        refused = {reason.value: count for reason, count in self._listener.refused().items()}
        lead = self._listener.clock_lead.total_seconds()
        counts = {"evaluated": self._listener.evaluated, "malformed": self._malformed, "clock_behind": lead}
        if self._listener.lags:
            counts["lags"] = 1
        self._shared.log("feed", market=self.market, **counts, **refused)

    async def _read(self, feed: Feed) -> None:
        """Take in all it says until it is down."""
        async with aclosing(feed.events()) as events:
            async for event in events:
                match event:
                    case Frame(data):
                        self._on_frame(data)
                    case Connected():
                        self.connected = True
                        self._shared.log("feed_up", market=self.market)
                    case Disconnected(reason):
                        self.connected = False
                        self._shared.log("feed_down", market=self.market, reason=reason)
                        return
                    case Malformed(reason):
                        self._malformed += 1
                        self._shared.log("feed_malformed", reason=reason)
                    case Notice(kind, text):
                        self._shared.log("feed_notice", kind=kind, text=text)

    def _on_frame(self, data: bytes) -> None:
        held_at = self._shared.real.now()
        prices = decode_prices(data)
        lost = undecoded(data, len(prices))
        self._malformed += lost
        if prices:
            self._undecoded_since = None
        elif lost:
            self._undecoded_since = self._undecoded_since or time.monotonic()
        ticks = [
            Tick(symbol, price, _at(seconds), close, _at(traded_at), low)
            for token, price, seconds, close, traded_at, low in prices
            if (symbol := self._symbol_of.get(token)) is not None
        ]
        if self._also:
            ticks += [replace(tick, symbol=name) for tick in ticks for name in self._also.get(tick.symbol, ())]
        if ticks:
            now = time.monotonic()
            for tick in ticks:
                self._heard.hear(tick.symbol, tick.price, tick.traded_at or tick.exchange_time, now)
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

    async def _quoted(self, symbols: Sequence[str]) -> dict[str, Asked]:
        """What the broker says of `symbols`, nothing where it does not answer."""
        assert self._account is not None
        try:
            broker = self._shared.brokers.of(self._account.id, self._account.version)
            quotes = await asyncio.to_thread(broker.quote, symbols)
        except (BrokerUnreachable, TokenInvalid, StoreClosed) as error:
            self._shared.log("not_quoted", symbols=symbols, reason=str(error))
            return {}
        return {each.symbol: self._in_units(each) for each in quotes if each.symbol in self._listed}

    async def _hear_quotes(self, symbols: Sequence[str]) -> None:
        told = await self._quoted(symbols)
        if not told:
            # The next tick decides, or the day's band.
            return
        latched = self._listener.on_asked(told)
        self._shared.log("quoted", symbols=[*told], latched=latched)

    def _witness(self) -> None:
        """Ask the broker about the symbols that are quiet: whether they are, or the line is deaf."""
        now = time.monotonic()
        is_asking = self._witnessing is not None and not self._witnessing.done()
        if is_asking or not self.connected or now < self._witnessed_at + WITNESS_EVERY:
            return
        if now < self._asked_at + ASK_EVERY and now < self._witnessed_at + 2 * WITNESS_EVERY:
            # Prices in doubt go first, but for how long one noisy symbol may keep the others unwatched.
            return
        self._witnessed_at = now
        symbols = self._listener.in_session(self._heard.quiet(now))
        if symbols:
            self._witnessing = asyncio.create_task(self._hear_witness(symbols, self._heard, now))

    async def _hear_witness(self, symbols: Sequence[str], heard: Heard, asked_at: float) -> None:
        missed = heard.missed(await self._quoted(symbols))
        for _ in range(ON_ITS_WAY_LOOKS if missed else 0):
            # In turns: where this process stood still, what lies in its socket is read between them.
            await asyncio.sleep(ON_ITS_WAY / ON_ITS_WAY_LOOKS)
        deaf = heard.silent_since(missed, asked_at)
        if heard is self._heard:
            self._deaf = deaf

    def _tell_deaf(self) -> None:
        message = (
            f"the feed of {self.market} told nothing of {', '.join(sorted(self._deaf)[:20])}, of which the broker has "
            "later trades at other prices: it is opened anew; while it is deaf their stops do not fire"
        )
        self._shared.log("feed_deaf", market=self.market, symbols=sorted(self._deaf))
        now = self._shared.real.now()
        try:
            told = self._shared.store.alert_once("", Alert("critical", "feed_deaf", message), f"deaf:{now:%Y%m%d%H%M}")
        except StoreClosed:
            told = False
        if told:
            self._shared.log("alert", severity="critical", code="feed_deaf", message=message)

    def _in_units(self, quote: Quote) -> Asked:
        scale = self._listed[quote.symbol].scale
        money = (quote.last_price, quote.lower_band, quote.upper_band, quote.low)
        last, lower, upper, low = (to_units(each, scale) for each in money)
        return Asked(last, lower, upper, quote.at, low)


def _is_renamed(symbol: str, other: str) -> bool:
    """Whether one is the other in another series: RELIANCE is RELIANCE-BE."""
    return symbol.partition("-")[0] == other.partition("-")[0]


@lru_cache(maxsize=4096)
def _at(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
