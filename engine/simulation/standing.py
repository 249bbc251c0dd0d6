"""Whether what rests at each broker is what its run still wants, while nothing keeps the engine from changing it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.domain.orders import TERMINAL, Side
from engine.domain.run import EXIT_TROUBLES, Run, RunId, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from engine.runtime import codec
from engine.simulation.broker import Placed, SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation, run_id_of
from engine.simulation.oversight import IN_DOUBT, PAUSES, SLOWLY_READ, can_be_known_since
from engine.simulation.scenario import QUANTITY, SYMBOL, Seed
from engine.simulation.upkeep import Told

#: How long an order may rest that nobody wants: until a book shows it, a worker takes it up, and its broker obeys.
STANDS_FOR = timedelta(seconds=15)
#: How long exits may rest that sell more than the account has: until two readings have shown it for a while.
OVERDRAWN_FOR = timedelta(seconds=20)
#: How long a fill may be unknown to its run: until nothing was heard for a while, a worker asks, and the book says so.
UNKNOWN_FOR = timedelta(seconds=12)
#: Kinds in which what filled is not told, or not at once.
UNTOLD = frozenset({
    Kind.BEHIND, Kind.BEYOND_GRACE, Kind.BLIND, Kind.REDIS_REFUSES, Kind.REFUSED_RESTS, Kind.TOKEN, Kind.VANISHED
})  # fmt: skip
#: Kinds in which an order is not taken back at once, or is not known of.
UNTAKEN = frozenset(
    {Kind.STUBBORN, Kind.LIMITED, Kind.TOKEN, Kind.REDIS_REFUSES, Kind.BEYOND_GRACE, Kind.REFUSED_RESTS}
)
#: Kinds in which an order cannot be taken back when we like, or is not known to be there.
HOLD_BACK = frozenset({Kind.LIMITED, Kind.SILENT, Kind.TOKEN, Kind.REDIS_REFUSES, Kind.MANUAL, Kind.FOREIGN})


@dataclass(frozen=True, slots=True)
class _Own:
    """The orders of one run as its broker has them."""

    orders: Sequence[Placed]

    def filled(self, side: Side) -> int:
        """Units, of orders in sight or not."""
        return sum(each.filled for each in self.orders if each.request.side is side)

    @property
    def held(self) -> int:
        """Units bought and not sold."""
        return self.filled(Side.BUY) - self.filled(Side.SELL)

    def resting(self, side: Side, now: datetime) -> list[Placed]:
        """What its book shows and may still fill."""
        alive = [each for each in self.orders if each.status not in TERMINAL and each.visible_at <= now]
        return [each for each in alive if each.request.side is side]


class Standing:
    """Looks at every order of ours that rests, once a second."""

    def __init__(
        self,
        seed: Seed,
        now: Callable[[], datetime],
        brokers: Mapping[int, SimulatedBroker],
        durable: SimulatedDurable,
    ) -> None:
        self._seed = seed
        self._now = now
        self._brokers = brokers
        self._durable = durable
        #: Since when an order rests that is not wanted, by its number at its account's broker and by why.
        self._unwanted: dict[tuple[int, str, str], datetime] = {}
        #: By account: what its exits would sell beyond what it has, units, and since when it is no less.
        self._overdrawn: dict[int, tuple[int, datetime]] = {}
        #: By run: what it holds and does not know of, units, and since when.
        self._unknown: dict[str, tuple[int, datetime]] = {}

    def disturbed(self) -> None:
        """Something keeps the engine from taking back what it likes."""
        self._unwanted.clear()
        self._overdrawn.clear()
        self._unknown.clear()

    def check(self, runs: Iterable[Told]) -> None:
        """Raises Violation of what has rested for too long."""
        if not self._seed.is_sound:
            return
        self._check_promises()
        if HOLD_BACK & self._seed.hard.kinds:
            return
        before, self._unwanted = self._unwanted, {}
        stands_for = STANDS_FOR * 3 if {Kind.STUBBORN, Kind.ALONE} & self._seed.hard.kinds else STANDS_FOR
        stands_for += SLOWLY_READ if Kind.SLOW in self._seed.hard else timedelta(0)
        for told in runs:
            run = self._durable.run(RunId.parse(told.name))
            broker = self._brokers[run.strategy.account_id]
            if not (broker.can_be_read() and broker.is_honest() and self._now() < run.closes_at):
                continue
            own = _Own([each for each in broker.book if not each.is_foreign and run_id_of(each) == run.id])
            self._check_known(told, own)
            for placed, why in self._unwanted_of(run, told, own):
                key = (run.strategy.account_id, placed.broker_order_id, why)
                since = self._unwanted[key] = before.get(key, self._now())
                if self._now() - since > stands_for:
                    name = placed.request.client_order_id
                    raise Violation(f"{name} rests at the broker since {since:%M:%S} at least though {why}")

    def _check_known(self, told: Told, own: _Own) -> None:
        """A run knows what it holds, whoever tells it or does not."""
        if told.held == own.held or UNTOLD & self._seed.hard.kinds:
            self._unknown.pop(told.name, None)
            return
        held, since = self._unknown.get(told.name, (own.held, self._now()))
        self._unknown[told.name] = (own.held, since if held == own.held else self._now())
        unknown_for = UNKNOWN_FOR + (SLOWLY_READ if Kind.SLOW in self._seed.hard else timedelta(0))
        if self._now() - self._unknown[told.name][1] > unknown_for:
            raise Violation(f"{told.name} holds {own.held}, and takes it for {told.held}")

    def _check_promises(self) -> None:
        """Exits that rest sell no more than the account has, once it is known that somebody else sold."""
        now, product = self._now(), self._seed.hard.product
        for account, broker in self._brokers.items():
            is_known = (
                broker.can_be_read()
                and broker.is_honest()
                and not (broker.is_closed or UNTAKEN & self._seed.hard.kinds)
            )
            beyond = broker.promised(SYMBOL, product) - max(0, broker.net(SYMBOL, product))
            if not is_known or beyond <= 0:
                self._overdrawn.pop(account, None)
                continue
            before, since = self._overdrawn.get(account, (beyond, now))
            # What others take just now is not known yet.
            since = now if beyond > before else since
            self._overdrawn[account] = beyond, since
            if now - can_be_known_since(broker, since) > OVERDRAWN_FOR:
                raise Violation(f"exits of account {account} rest for more than it has since {since:%M:%S}")

    def _unwanted_of(self, run: Run, told: Told, own: _Own) -> Iterable[tuple[Placed, str]]:
        now = self._now()
        entries, exits = own.resting(Side.BUY, now), own.resting(Side.SELL, now)
        for placed in entries:
            if placed.request.quantity - placed.filled > max(0, QUANTITY - own.filled(Side.BUY)):
                yield placed, "all was bought"
            if exits or own.filled(Side.SELL):
                yield placed, "what it buys is being sold"
            if _is_breached_since(told, placed):
                yield placed, "its stop was reached since"
            if _is_over(told):
                yield placed, "its run has failed or was stopped"
        for placed in exits:
            left = placed.request.quantity - placed.filled
            if left > own.held:
                yield placed, "it sells more than is held"
        is_selling = any(each.request.side is Side.SELL and each.status not in TERMINAL for each in own.orders)
        # One that vanished may be selling it, for all the engine knows.
        asked_at = self._brokers[run.strategy.account_id].exit_asked_at
        is_in_doubt = bool(IN_DOUBT & self._seed.hard.kinds) and asked_at is not None and now <= asked_at + PAUSES
        is_selling = is_selling or is_in_doubt
        if own.held > QUANTITY and not is_selling and self._may_sell(run, told):
            yield (
                next(each for each in own.orders if each.request.side is Side.BUY),
                "what is too much is not being sold",
            )
        left = sum(each.request.quantity - each.filled for each in exits)
        if exits and self._is_due(run, told) and left < min(own.held, self._sellable(run) + left):
            yield exits[0], "it sells less than is held"

    def _may_sell(self, run: Run, told: Told) -> bool:
        """Whether neither its owner nor its policy keeps what it holds."""
        is_frozen = _is_over(told) and run.strategy.on_abort is AbortPolicy.FREEZE
        return not (is_frozen or told.fields.get("stop_requested") or told.fields.get("closed_elsewhere"))

    def _is_due(self, run: Run, told: Told) -> bool:
        is_asked = told.fields.get("stop_requested") == StopMode.CLOSE
        return told.is_latched or is_asked or self._now() >= run.sell_at

    def _sellable(self, run: Run) -> int:
        """What the account has beside all that is being sold."""
        broker, (symbol, product) = self._brokers[run.strategy.account_id], (run.strategy.symbol, run.strategy.product)
        return max(0, broker.net(symbol, product) - broker.promised(symbol, product))


def _is_breached_since(told: Told, entry: Placed) -> bool:
    """Whether its stop was reached while it rested."""
    seen_at = told.fields.get("latch_seen_at")
    return bool(seen_at) and codec.from_us(int(seen_at or 0)) > entry.visible_at + timedelta(seconds=1)


def _is_over(told: Told) -> bool:
    """Whether its run buys nothing more."""
    failure = told.fields.get("failure", "")
    has_failed = told.fields["status"] == RunStatus.FAILED and failure not in EXIT_TROUBLES
    return has_failed or bool(told.fields.get("stop_requested"))
