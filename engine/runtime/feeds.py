"""What the live state tells of markets' feeds: who carries them, which symbols are watched, and what is held blind.

Listeners say which lines live; the script that grants entries and the watcher that alerts read it. A part of the store.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from redis.client import Redis

from engine.domain.run import RunId
from engine.ports import Holder, Naked
from engine.runtime import codec, keys

#: How long a listener's word lasts that an account carries its feed, us.
CARRIER_US = 10_000_000
#: How far apart two looks at what is blind may be where the live state was not away meanwhile, and how long listeners
#: have to say which lines live once it is back, us: what a call needs that began while it was away.
LOOKS_US, CHANCE_US = 2_000_000, 3_000_000
#: How many runs are looked at in one step, in which Redis serves nobody else.
WATCHED_AT_ONCE = 100


class _Scripted(Protocol):
    """What it is a part of."""

    _redis: "Redis"

    def _call(self, script: str, names: Sequence[str], arguments: Sequence[Any]) -> Any: ...

    def _ask(self, call: Any) -> Any: ...


class Feeds:
    """The feeds' part of the store. Every call raises StoreClosed where the live state may not be touched."""

    def symbols(self: _Scripted, market: str) -> set[str]:
        """Symbols of `market` that have a run; its listeners subscribe to them."""
        members: set[str] = self._ask(partial(self._redis.smembers, keys.symbols(market)))
        return members

    def markets(self: _Scripted) -> set[str]:
        """Markets that have a run."""
        members: set[str] = self._ask(partial(self._redis.smembers, keys.MARKETS))
        return members

    def carry(
        self: _Scripted,
        market: str,
        listener: str,
        account_id: int | None,
        proven: Iterable[tuple[timedelta, Iterable[str]]] = (),
    ) -> Mapping[str, int]:
        """Say that `account_id` carries a listener's feed, and how long ago the lines of which symbols were proven.

        Answers the account of each other listener of `market`, by its name; None says nothing and asks alone.
        """
        flat: list[Any] = [listener, "" if account_id is None else account_id, CARRIER_US]
        for age, symbols in proven:
            carried = [*symbols]
            flat += (age // timedelta(microseconds=1), len(carried), *carried)
        told = self._call("carry", [keys.feed(market), keys.carriers(market)], flat)
        return {name: int(account) for name, account in zip(told[0::2], told[1::2], strict=True)}

    def traded(self: _Scripted, market: str, opened: Mapping[str, datetime]) -> set[str]:
        """Symbols that were traded since their session `opened`: a price tells of it, or a run holds some."""
        flat = [text for symbol, at in opened.items() for text in (symbol, codec.to_us(at))]
        return {*self._call("traded", [keys.holding(market)], [market, *flat])}

    def may_judge(self: _Scripted, market: str) -> bool:
        """Whether listeners of `market` have had their chance to say which lines live; asked before every look."""
        return bool(self._call("looked", [keys.looked(market)], [LOOKS_US, CHANCE_US]))

    def watch(self: _Scripted, market: str, now: datetime) -> Sequence[Naked]:
        """The runs of `market` that hold something at market time `now` while no stop of theirs can fire.

        Counts for how long that has been so.
        """
        held = sorted(self._ask(partial(self._redis.smembers, keys.holding(market))))
        found: list[Naked] = []
        names = [keys.holding(market), keys.DUE]
        for start in range(0, max(len(held), 1), WATCHED_AT_ONCE):
            arguments = [market, codec.to_us(now), *held[start : start + WATCHED_AT_ONCE]]
            found += (
                Naked(run, tenant, symbol, codec.from_us(proven) if proven else None, is_blind=blind == "1")
                for run, tenant, symbol, proven, blind in self._call("watch", names, arguments)
            )
        return found

    def holders(self: _Scripted, before: date) -> Sequence[Holder]:
        """The runs of dates before that one which hold something, whatever their market."""

        def ask() -> list[Holder]:
            markets: set[str] = self._redis.smembers(keys.MARKETS)  # type: ignore[assignment]
            names: list[str] = [
                str(name) for market in sorted(markets) for name in sorted(self._redis.smembers(keys.holding(market)))
            ]
            left = [run for run in map(RunId.parse, names) if run.trading_date < before]
            with self._redis.pipeline(transaction=False) as pipe:
                for run in left:
                    pipe.hmget(keys.runtime(str(run)), "symbol", "closes_at")
                told = zip(left, pipe.execute(), strict=True)
            found = []
            for run, (symbol, closes_at) in told:
                # One that has ended meanwhile tells nothing; one that cannot be read is told of where it is swept.
                with suppress(TypeError, ValueError):
                    found.append(Holder(run, symbol, codec.from_us(closes_at)))
            return found

        holders: list[Holder] = self._ask(ask)
        return holders

    def outages(self: _Scripted, market: str) -> Mapping[str, str]:
        """What each tenant was last told of being blind in `market`."""
        found: dict[str, str] = self._ask(partial(self._redis.hgetall, keys.outage(market)))
        return found

    def set_outage(self: _Scripted, market: str, tenant: str, told: str) -> None:
        """Keep what a tenant was told; "" where the outage is over."""
        name = keys.outage(market)
        self._ask(partial(self._redis.hset, name, tenant, told) if told else partial(self._redis.hdel, name, tenant))
