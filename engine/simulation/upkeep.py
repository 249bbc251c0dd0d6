"""Whether the live state says the same of its runs in all its places: their orders, the account's pool, every index."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from engine.domain.orders import TERMINAL
from engine.runtime import codec, keys
from engine.simulation.broker import SimulatedBroker
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import SYMBOL, Seed

#: How long what the runs are told of their account may lag behind what it has.
LAGS = timedelta(seconds=25)
#: How long less may be told: what others bought may be positions that lag, until book and positions are read again.
TOO_FEW_FOR = timedelta(seconds=27)
#: Kinds in which an order of ours may be at the broker that no run knows, or a run is told what is not so.
UNSURE = frozenset({Kind.ALONE, Kind.BEYOND_GRACE, Kind.REFUSED_RESTS, Kind.VANISHED, Kind.POLICIES})
_ENTRY, _EXIT = "entry", "exit"
_SLOT_CLASSES = ("entry", "exit", "update")
#: Fields of a latch.
_LATCHED = "latch_time"


class Told:
    """One run as its hash tells it."""

    def __init__(self, name: str, fields: Mapping[str, str]) -> None:
        self.name = name
        self.fields = fields
        orders = [orjson.loads(text) for field, text in fields.items() if field.startswith("order:")]
        self.entries = [each for each in orders if each["leg"] == _ENTRY]
        self.exits = [each for each in orders if each["leg"] == _EXIT]
        self.held = _filled(self.entries) - _filled(self.exits)

    @property
    def is_latched(self) -> bool:
        """Whether a breach of its stop is kept."""
        return _LATCHED in self.fields

    @property
    def may_hold(self) -> bool:
        """Whether it holds something, or an entry of it may fill."""
        return self.held > 0 or any(each["status"] not in TERMINAL for each in self.entries)


def _filled(orders: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(each["filled_quantity"]) for each in orders)


def _unfilled(orders: Iterable[Mapping[str, Any]]) -> int:
    return sum(max(0, int(each["quantity"]) - int(each["filled_quantity"])) for each in orders)


class Upkeep:
    """Looks at the whole of it between two steps."""

    def __init__(
        self, seed: Seed, store: LiveState, now: Callable[[], datetime], brokers: Mapping[int, SimulatedBroker]
    ) -> None:
        self._seed = seed
        self._store = store
        self._now = now
        self._brokers = brokers
        #: By account: what it had left to sell after each change of its book, as long as it could be read.
        self._had: defaultdict[int, deque[tuple[datetime, int]]] = defaultdict(deque)
        #: Orders whose average price was known.
        self._priced: set[str] = set()
        #: By account: since when it is told to have less than it has.
        self._too_few: dict[int, datetime] = {}
        self._call: Callable[[str, list[str]], Any] = store.server.keys.call

    def disturbed(self) -> None:
        """Nothing can be kept, or a night has passed."""
        self._had.clear()
        self._too_few.clear()

    def changed(self, account: int) -> None:
        """An order of the account was placed, filled or ended."""
        broker, product = self._brokers[account], self._seed.hard.product
        left = broker.net(SYMBOL, product) - broker.promised(SYMBOL, product)
        self._had[account].append((self._now(), left))

    def check(self) -> list[Told]:
        """Every live run as its hash tells it; raises Violation. Only while the store is open."""
        runs = [Told(name, _pairs(self._call("HGETALL", [keys.runtime(name)]))) for name in self._store.runtimes]
        for run in runs:
            self._check_indexes(run)
            self._check_prices(run)
        for account in {run.fields["account_id"] for run in runs}:
            self._check_account(int(account), [run for run in runs if run.fields["account_id"] == account])
        return runs

    def _check_indexes(self, run: Told) -> None:
        fields, name = run.fields, run.name
        # One that has failed may wait for a human alone, and one whose session is over for the next.
        is_open = codec.to_us(self._now()) < int(fields["closes_at"])
        if fields["status"] == "active" and is_open and self._call("ZSCORE", [keys.DUE, name]) is None:
            raise Violation(f"{name} lives, and is never looked at again")
        market, symbol = fields["market"], fields["symbol"]
        stop = self._call("ZSCORE", [keys.armed(market, symbol), name])
        if run.is_latched and not self._call("SISMEMBER", [keys.latched(market, symbol), name]):
            raise Violation(f"{name} is latched, and not among those that are")
        # What is not known to hold anything hears of every breach, for its first fill decides which of them counts.
        is_watched = run.may_hold and not (run.is_latched and "first_fill_at" in fields)
        if is_watched and (stop is None or int(float(stop)) != int(fields["stop_units"])):
            raise Violation(f"{name} may hold {symbol}, and its stop is armed at {stop}")
        if self._call("EXISTS", [keys.lock(name)]):
            # In the middle of a step it may have learned what the step's end tells the index.
            return
        is_indexed = bool(self._call("SISMEMBER", [keys.holding(market), name]))
        if is_indexed is not (fields.get("position") == "bought"):
            raise Violation(f"{name} is {fields.get('position')}, and its market's index says {is_indexed}")

    def _check_prices(self, run: Told) -> None:
        """A price that was known once stays known."""
        for order in (*run.entries, *run.exits):
            name, is_known = order["client_order_id"], float(order["average_price"]) > 0
            if name in self._priced and not is_known and self._seed.is_sound:
                raise Violation(f"the price of {name} was known, and is not any more")
            if is_known:
                self._priced.add(name)

    def _check_account(self, account: int, runs: list[Told]) -> None:
        if missing := {run.name for run in runs} - {*self._call("SMEMBERS", [keys.account_runs(account)])}:
            raise Violation(f"account {account} does not know of {', '.join(sorted(missing))}")
        slots = Counter(
            name
            for each in _SLOT_CLASSES
            for name in self._call("ZRANGE", [f"account:{account}:slots:{each}", "0", "-1"])
        )
        if twice := [name for name, count in slots.items() if count > 1]:
            raise Violation(f"{twice[0]} has slots of several classes")
        pool = Counter[str]()
        for field, units in _pairs(self._call("HGETALL", [keys.pool(account)])).items():
            what = field.rsplit(" ", 1)[-1]
            pool[what] += int(units) if what in ("held", "out", "taken") else 0
        held = sum(max(0, run.held) for run in runs)
        if pool["held"] != held:
            raise Violation(f"account {account} has runs that hold {held}, and its pool says {pool['held']}")
        open_exits = [
            each for run in runs for each in run.exits if not (each["status"] in TERMINAL or each["given_up"])
        ]
        least = _unfilled(open_exits)
        most = sum(_unfilled(run.exits) for run in runs)
        if not least <= pool["out"] <= most:
            raise Violation(f"exits of account {account} may fill {least} to {most}, and its pool says {pool['out']}")
        taken = {run.name: int(run.fields.get("taken", "0")) for run in runs}
        if pool["taken"] != sum(taken.values()) or any(not 0 <= taken[run.name] <= max(0, run.held) for run in runs):
            raise Violation(f"of runs of account {account} others took {taken}, and its pool says {pool['taken']}")
        # Of one whose units were taken less may be sold than its account has.
        whole = [run for run in runs if not taken[run.name]]
        if whole:
            self._check_cover(account, whole[0], held - pool["taken"], pool["out"])

    def _check_cover(self, account: int, told: Told, held: int, out: int) -> None:
        """What runs are told they may sell is what their account had at some time lately, less what was being sold.

        `held`: what they hold in all; how much more there is says nothing to them.
        """
        broker, now = self._brokers[account], self._now()
        self.changed(account)
        lately = self._had[account]
        # Once its session is over an exit is settled by the next one.
        is_open = codec.to_us(now) < int(told.fields["closes_at"])
        if not (is_open and broker.can_be_read() and broker.is_honest()) or UNSURE & self._seed.hard.kinds:
            self._too_few.pop(account, None)
            lately.clear()
            return
        while len(lately) > 1 and lately[1][0] < now - LAGS:
            lately.popleft()
        if not self._seed.is_sound or not lately or lately[0][0] > now - LAGS:
            return
        run = self._store.run(told.name)
        known = None if run is None else self._store.covered(run).net
        if known is None:
            return
        least, most = min(units for _, units in lately), max(units for _, units in lately)
        # What was granted may be on its way to the broker yet.
        is_enough = _within(known.quantity + out, held) >= _within(least, held)
        if is_enough:
            self._too_few.pop(account, None)
        # Less is told while a fill is known of and not contained in any reading; more never is.
        if _within(known.quantity, held) > _within(most, held) or now - self._too_few.get(account, now) > TOO_FEW_FOR:
            raise Violation(
                f"account {account} has {least} to {most} left to sell, {out} being sold, and is told {known}"
            )
        if not is_enough:
            self._too_few.setdefault(account, now)


def _within(units: int, held: int) -> int:
    return max(0, min(units, held))


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
