"""Whose positions are blind: held, in their session, while no listener proves that the line of their symbol lives.

The one place that turns dead feeds into alerts, for each tenant concerned: once an outage, again for what joins it, and
once more when it is over. Lives in no listener, for that may be what is dead.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from engine.domain.market import blind_text
from engine.domain.moment import Moment
from engine.domain.routing import Alert
from engine.domain.run import Run
from engine.ports import CorruptState, Log, Naked, StoreFault

#: Runs of an outage whose quantity is told.
MOST_TOLD = 50


class Live(Protocol):
    """What it needs of the live state. Every call raises StoreClosed."""

    def markets(self) -> set[str]:
        """Markets that have a run."""

    def may_judge(self, market: str) -> bool:
        """Whether listeners of `market` have had their chance to say which lines live; asked before every look."""

    def watch(self, market: str, now: datetime) -> Sequence[Naked]:
        """The runs of `market` that hold something while no stop of theirs can fire; counts for how long."""

    def outages(self, market: str) -> Mapping[str, str]:
        """What each tenant was last told."""

    def set_outage(self, market: str, tenant: str, told: str) -> None:
        """Keep what a tenant was told; "" where the outage is over."""

    def run(self, name: str) -> Run | None:
        """One live run."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `engine.ports.Store.alert_once`."""


class BlindWatch:
    """Looks at every market. What it has told lies in the live state, so that any process can go on."""

    def __init__(self, store: Live, log: Log) -> None:
        self._store = store
        self._log = log

    def look(self, now: Moment) -> None:
        """Tell whom it concerns what is blind, and what is no longer."""
        for market in sorted(self._store.markets()):
            try:
                self._look_at(market, now)
            except StoreFault as error:
                # What one market's state breaks keeps nobody of another untold.
                self._log("market_unwatched", market=market, reason=str(error))

    def _look_at(self, market: str, now: Moment) -> None:
        if not self._store.may_judge(market):
            # The live state was away: what nobody could write in it is no word of a dead feed, nor of one that is back.
            return
        blind: defaultdict[str, list[Naked]] = defaultdict(list)
        for each in self._store.watch(market, now.market):
            if each.is_blind:
                blind[each.tenant].append(each)
        told = self._store.outages(market)
        for tenant, runs in sorted(blind.items()):
            self._tell(market, tenant, runs, json.loads(told.get(tenant, "{}")), now)
        for tenant in sorted(told.keys() - blind.keys()):
            self._tell_over(market, tenant, json.loads(told[tenant]))
            self._store.set_outage(market, tenant, "")

    def _tell(self, market: str, tenant: str, runs: Sequence[Naked], told: Mapping[str, str], now: Moment) -> None:
        """`told`: symbol -> since when it is blind, of which the tenant knows."""
        since = {run.symbol: (run.proven_at or now.real).isoformat(timespec="seconds") for run in runs}
        fresh = {symbol: at for symbol, at in since.items() if symbol not in told}
        over = {symbol: at for symbol, at in told.items() if symbol not in since}
        if fresh:
            held: defaultdict[str, int] = defaultdict(int)
            for each in [run for run in runs if run.symbol in fresh][:MOST_TOLD]:
                live = None
                with suppress(CorruptState):
                    live = self._store.run(each.run)
                held[each.symbol] += live.held if live else 0
            had_one = any(run.proven_at for run in runs if run.symbol in fresh)
            message = (
                f"the feed of {', '.join(sorted(fresh))} at {market} "
                f"{f'is dead since {min(fresh.values())}' if had_one else 'never came up'}; held: {blind_text(held)}. "
                "Their stops cannot fire: log an account of that market in, or sell by hand"
            )
            self._alert(tenant, Alert("critical", "blind", message), _named("blind", market, tenant, fresh))
        if over:
            self._tell_over(market, tenant, over)
        # Last: until it is kept, all of this is repeated, and told once all the same.
        if fresh or over:
            kept = {symbol: at for symbol, at in told.items() if symbol not in over} | fresh
            self._store.set_outage(market, tenant, json.dumps(kept))

    def _tell_over(self, market: str, tenant: str, over: Mapping[str, str]) -> None:
        message = f"{', '.join(sorted(over))} of {market}: watched again, or no longer held"
        self._alert(tenant, Alert("info", "blind_over", message), _named("seen", market, tenant, over))

    def _alert(self, tenant: str, alert: Alert, name: str) -> None:
        if self._store.alert_once(tenant, alert, name):
            self._log("alert", tenant=tenant, severity=alert.severity, code=alert.code, message=alert.message)


def _named(what: str, market: str, tenant: str, since: Mapping[str, str]) -> str:
    """One alert's name, the same however often it is tried."""
    return f"{what}:{market}:{tenant}:{','.join(f'{symbol}@{at}' for symbol, at in sorted(since.items()))}"
