"""An account's limits in memory: its in-flight slots and its rate windows, as claim.lua and intend.lua count them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta

from engine.domain.health import DeniedBy
from engine.ports import AccountState, Denied, Slot

#: Length of each rate window, seconds.
WINDOWS = {"second": 1, "minute": 60, "day": 86_400}
#: In-flight events of each class an account may have where it says nothing else.
SLOTS = {Slot.ENTRY: 32, Slot.EXIT: 32, Slot.UPDATE: 8}


class Limits:
    """Slots and rates of every account; times in microseconds."""

    def __init__(self, accounts: Mapping[int, AccountState]) -> None:
        self._accounts = accounts
        self.slots: defaultdict[tuple[int, Slot], dict[str, int]] = defaultdict(dict)
        self._rates: Counter[tuple[int, str, int]] = Counter()

    def take(self, account: int, slot: Slot, run: str, now: int, lease: int) -> bool:
        """Take a slot for `run`; whether one was free."""
        taken = self.slots[account, slot]
        for name in [name for name, until in taken.items() if until <= now]:
            del taken[name]
        if len(taken) >= self._of(account).get(f"{slot}_slots", SLOTS[slot]):
            return False
        taken[run] = now + lease
        return True

    def keep(self, account: int, run: str, now: int, lease: int) -> bool:
        """Keep the slot of `run` for another lease, or take one of those for updates; whether it has one."""
        for slot in SLOTS:
            if run in self.slots[account, slot]:
                self.slots[account, slot][run] = now + lease
                return True
        return self.take(account, Slot.UPDATE, run, now, lease)

    def free(self, account: int, run: str) -> None:
        """Give the slot of `run` back."""
        for slot in SLOTS:
            self.slots[account, slot].pop(run, None)

    def spend(self, account: int, now: int, *, entry: bool) -> Denied | None:
        """Count one order in every window; Denied, and nothing counted, where one is full."""
        limits, second = self._of(account), now // 1_000_000
        spent: list[tuple[int, str, int]] = []
        for window, length in WINDOWS.items():
            limit = limits.get(f"rate_{window}")
            if limit is None:
                continue
            limit -= limits.get(f"reserve_{window}", 0) if entry else 0
            key = (account, window, second // length)
            if self._rates[key] >= limit:
                opens = (second // length + 1) * length * 1_000_000
                return Denied(DeniedBy(window), timedelta(microseconds=opens - now))
            spent.append(key)
        self._rates.update(spent)
        return None

    def _of(self, account: int) -> Mapping[str, int]:
        known = self._accounts.get(account)
        return known.limits if known else {}
