"""What the live state tells of markets' feeds: who carries them, which symbols are watched, and what is held blind.

Listeners say which lines live; the script that grants entries and the watcher that alerts read it. A part of the store.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from redis.client import Redis

from engine.ports import Naked
from engine.runtime import codec, keys

#: How long a listener's word lasts that an account carries its feed, us.
CARRIER_US = 10_000_000
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

    def watch(self: _Scripted, market: str, now: datetime) -> Sequence[Naked]:
        """The runs of `market` that hold something at market time `now` while no stop of theirs can fire.

        Counts for how long that has been so.
        """
        held = sorted(self._ask(partial(self._redis.smembers, keys.holding(market))))
        found: list[Naked] = []
        for start in range(0, max(len(held), 1), WATCHED_AT_ONCE):
            arguments = [market, codec.to_us(now), *held[start : start + WATCHED_AT_ONCE]]
            found += (
                Naked(run, tenant, symbol, codec.from_us(proven) if proven else None, is_blind=blind == "1")
                for run, tenant, symbol, proven, blind in self._call("watch", [keys.holding(market)], arguments)
            )
        return found

    def outages(self: _Scripted, market: str) -> Mapping[str, str]:
        """What each tenant was last told of being blind in `market`."""
        found: dict[str, str] = self._ask(partial(self._redis.hgetall, keys.outage(market)))
        return found

    def set_outage(self: _Scripted, market: str, tenant: str, told: str) -> None:
        """Keep what a tenant was told; "" where the outage is over."""
        name = keys.outage(market)
        self._ask(partial(self._redis.hset, name, tenant, told) if told else partial(self._redis.hdel, name, tenant))
