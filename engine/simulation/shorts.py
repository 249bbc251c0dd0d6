"""What must be told of an account that is short, whether our attempts stand for each other or others sold beside us."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from engine.domain.orders import Product
from engine.simulation.broker import SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation
from engine.simulation.scenario import SYMBOL, Seed

#: How long an account may be short by attempts that stand for each other before somebody is told.
SHORT_FOR = timedelta(seconds=40)
#: How long an account may be short by a sale of ours and one of others: until our fill is known, a reading begins, and
#: all readings of five seconds have shown it.
SHORT_BESIDE_OTHERS_FOR = timedelta(seconds=20)
#: Kinds in which nobody looks, a fill of ours is known late, or what is read is not what is there.
UNTOLD = frozenset({
    Kind.ALONE, Kind.APART, Kind.BEHIND, Kind.BEYOND_GRACE, Kind.LYING_POSITIONS, Kind.REFUSED_RESTS, Kind.SLOW,
    Kind.VANISHED,
})  # fmt: skip
#: Alerts whose owner looks at what the account has.
TELLS_OF_A_SHORT = frozenset({
    "account_short", "oversold", "closed_and_sold", "given_up_appeared", "double_order", "fill_after_end"
})  # fmt: skip


class Shorts:
    """Watches every account of a world. Others sell only what is there, so that a sale of ours makes each short."""

    def __init__(self, seed: Seed, brokers: Mapping[int, SimulatedBroker], durable: SimulatedDurable) -> None:
        self._is_judged = seed.is_sound and not UNTOLD & seed.hard.kinds
        self._brokers = brokers
        self._durable = durable
        #: By account: since when it is short.
        self._since: dict[int, datetime] = {}

    def night_passed(self) -> None:
        """Nobody could be told meanwhile."""
        self._since.clear()

    def waits(self, sold: Mapping[int, object]) -> bool:
        """Whether somebody has yet to be told of a short beside a sale of others; by account: what these `sold`."""
        return self._is_judged and any(
            sold[account] and self._is_short(account) and not self._is_told(account, since)
            for account, since in self._since.items()
        )

    def check(self, now: datetime, sold: Mapping[int, object], readable_since: Mapping[int, datetime]) -> None:
        """Once a second. `sold`: by account, what others sold; `readable_since`: since when it can be read."""
        for account in self._brokers:
            if not self._is_short(account):
                self._since.pop(account, None)
                continue
            since = self._since.setdefault(account, now)
            if sold[account]:
                is_late = now - max(since, readable_since[account]) > SHORT_BESIDE_OTHERS_FOR
                is_untold = self._is_judged and is_late and not self._is_told(account, since)
            else:
                is_untold = now - since > SHORT_FOR and not self._is_told(account)
            if is_untold:
                raise Violation(f"account {account} is short by {-self._least(account)}, and nobody was told")

    def _is_short(self, account: int) -> bool:
        return self._least(account) < 0

    def _least(self, account: int) -> int:
        return min(self._brokers[account].net(SYMBOL, product) for product in Product)

    def _is_told(self, account: int, since: datetime | None = None) -> bool:
        runs = [run for run in self._durable.runs() if run.strategy.account_id == account]
        return any(TELLS_OF_A_SHORT & self._durable.alerts_of(run, since) for run in runs)
