"""What every order of ours must have kept to, judged by what the world knows the moment it reaches a broker.

The engine's own state is not asked, but whether a run that is to be flattened has failed: an order is right by prices,
times, answers and the word of its owner.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine.domain.broker import OrderRequest, Outcome, Reply
from engine.domain.exits import REPRICES
from engine.domain.health import OPENS_AFTER, PAUSE_US, DeniedBy
from engine.domain.orders import Leg, Order, Product, Side
from engine.domain.routing import RETRIES, retry_delay
from engine.domain.run import EXIT_TROUBLES, SIDE_OF, Run, RunId, RunStatus, parse_client_order_id
from engine.domain.strategy import SQUARE_OFF, AbortPolicy, StopMode
from engine.ports import Denied
from engine.simulation.broker import Placed, SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation, run_id_of
from engine.simulation.oversight import TELLS_OF_A_POSITION
from engine.simulation.scenario import DEPLOYMENT, QUANTITY, START, STOP, Seed
from engine.simulation.upkeep import Told

#: How old what is known of a position may be when it is sold, and when the broker may square it off any minute.
LONG_TRUST, SHORT_TRUST = timedelta(seconds=30), timedelta(seconds=5)
#: How many exits of a run may fill nothing before somebody is told.
FRUITLESS = RETRIES + 1
#: Alerts besides that tell that it does not go out as it should.
TELLS_OF_AN_EXIT = frozenset({"safety_abort", "not_covered", "attempt_given_up", "exit_rests"})
#: How often an account may be asked within so long.
COUNTED_FOR = timedelta(seconds=10)
MOST_ASKED = {"orders": 30, "positions": 25, "quote": 8}
#: How long before an entry reaches its broker it is granted, with what an exchange's stamps may be off.
GRANTED_BEFORE = timedelta(seconds=2.6)
#: How late an entry may be sent, and how long after its session an exit, with the time an order takes to be sent.
ENTRY_LATEST, EXIT_LATEST = timedelta(seconds=32), timedelta(seconds=62)
#: How long what the world tells, a price, a pause, a dead token, may take to reach whoever sends.
ON_ITS_WAY = timedelta(seconds=3)
#: How long a feed may be silent before nothing is bought.
BLIND_AFTER = timedelta(seconds=5)
#: Of a pause after a failure, what must have passed: the rest is clocks.
MOST_OF = 0.9
#: How far the server's clock may be off.
CLOCKS_APART = timedelta(seconds=5)
#: Kinds in which the trades of an order may not be read, so that nobody knows when it filled first.
UNREAD = frozenset({Kind.BLIND, Kind.TOKEN, Kind.REDIS_REFUSES})
#: The most units of an order: what two entries bought where one of them was believed lost, or all that may appear late.
MOST_UNITS, MOST_LATE_UNITS = 2 * QUANTITY, (1 + RETRIES) * QUANTITY
#: How many entries an account may send under a dead token: those that were under way.
UNDER_WAY = 3
#: How long a fill is unknown where nobody tells of it, or nobody can store it.
UNTOLD_FOR = timedelta(seconds=8)
TELL_LATE = frozenset({Kind.ALONE, Kind.REDIS_REFUSES})
#: How soon it is known that an order had no answer, and how long entries pause after so many of them.
HEARD_WITHIN, PAUSED_FOR = timedelta(seconds=2), timedelta(microseconds=PAUSE_US) * 0.9
#: How long before an order is there a price may have been seen that takes it back.
BEFORE_ITS_ANSWER = timedelta(seconds=5)
#: How long an entry rests at least before it is taken back for that; and how soon a book tells of what it shows.
RESTS_AT_LEAST, TOLD_BY_THE_BOOK = timedelta(seconds=19), timedelta(seconds=15)
#: Kinds in which somebody else, or a lie, decides what an account has left to sell.
BESIDE = frozenset({Kind.MANUAL, Kind.FOREIGN, Kind.LYING_POSITIONS, Kind.POLICIES, Kind.REDIS_REFUSES})


@dataclass
class _Attempts:
    """What was sent of one leg of a run."""

    ids: set[str] = field(default_factory=set)
    #: When the last one reached the broker.
    reached_at: datetime = START - timedelta(hours=1)
    #: When the last one failed by its answer, and how many did: what was taken back is no failure.
    failed_at: datetime | None = None
    failed: int = 0


class Conduct:
    """Watches what is sent to every broker of a world."""

    def __init__(
        self, seed: Seed, now: Callable[[], datetime], brokers: Mapping[int, SimulatedBroker], durable: SimulatedDurable
    ) -> None:
        self._seed = seed
        self._now = now
        self._brokers = brokers
        self._durable = durable
        #: Every price told, and when.
        self._prices: list[tuple[datetime, int]] = [(START - timedelta(hours=1), STOP + 1000)]
        self._sent: defaultdict[tuple[RunId, Leg], _Attempts] = defaultdict(_Attempts)
        #: By account: since when its token is known to be dead, and how many entries were sent since.
        self._dead_since: dict[int, datetime] = {}
        self._under_dead: Counter[int] = Counter()
        #: How often the price of an order was asked to be changed, by account and the broker's name for it.
        self._changes: Counter[tuple[int, str]] = Counter()
        #: By account and leg: when the broker asked for a pause last, and until when.
        self._limited: dict[tuple[int, Leg], tuple[datetime, datetime]] = {}
        #: When an owner said that a run's position is his.
        self._left_at: dict[RunId, datetime] = {}
        self._fed_at = START
        #: Since when this host's clock is doubted, and until when.
        self._doubted = (START, START)
        #: By account: when each of the last orders in a row ended that nobody answered.
        self._silent: dict[int, list[datetime]] = {account: [] for account in brokers}
        #: Since when a run is left to a human.
        self._frozen: dict[str, datetime] = {}
        #: How many exits of a run went out since one of them filled anything.
        self._fruitless: Counter[RunId] = Counter()
        self._taken_back: set[str] = set()

    def look(self, runs: Iterable[Told]) -> None:
        """The live runs as they tell themselves, once a second."""
        now = self._now()
        self._frozen = {run.name: self._frozen.get(run.name, now) for run in runs if self._is_frozen(run)}
        for account, broker in self._brokers.items():
            self._count(account, broker)
            if not broker.token_dead:
                self._dead_since.pop(account, None)

    def _is_frozen(self, told: Told) -> bool:
        failure = told.fields.get("failure", "")
        is_aborted = told.fields["status"] == RunStatus.FAILED and failure not in EXIT_TROUBLES
        policy = self._durable.run(RunId.parse(told.name)).strategy.on_abort
        return is_aborted and policy is AbortPolicy.FREEZE and not told.fields.get("stop_requested")

    def _count(self, account: int, broker: SimulatedBroker) -> None:
        """How often a broker was asked lately: it is not asked again and again for what it has just said."""
        since = self._now() - COUNTED_FOR
        for what, times in broker.asked.items():
            times[:] = [at for at in times if at > since]
            if len(times) > MOST_ASKED[what] and self._seed.is_sound and broker.is_honest():
                raise Violation(f"account {account} was asked for its {what} {len(times)} times in {COUNTED_FOR}")

    def doubted(self, since: datetime, until: datetime) -> None:
        """Others disagree on the time."""
        self._doubted = (since, until)

    def fed(self) -> None:
        """The line of the feed was proven."""
        self._fed_at = self._now()

    def told(self, price: int) -> None:
        """A true price reached the listener."""
        self._prices.append((self._now(), price))

    def lost(self) -> None:
        """The live state went: attempts and pauses that were not drained are forgotten, and rightly."""
        self._sent.clear()
        self._limited.clear()
        self._fruitless.clear()

    def logged_in(self, account: int) -> None:
        """What waits after a failure is tried at once under a new login."""
        self._dead_since.pop(account, None)
        for (run_id, _), attempts in self._sent.items():
            if self._durable.run(run_id).strategy.account_id == account:
                attempts.failed_at = None

    def asked(self, run_id: RunId, mode: StopMode) -> None:
        """Its owner keeps what the run holds, or has it sold all the same."""
        if mode is StopMode.LEAVE:
            self._left_at.setdefault(run_id, self._now())
        else:
            self._left_at.pop(run_id, None)
            self._frozen.pop(str(run_id), None)

    def sending(self, account: int) -> Callable[[OrderRequest], None]:
        """What judges each order of ours that reaches `account`."""
        return lambda request: self._judge(account, request)

    def denied(self, order: Order, denied: Denied) -> None:
        """The engine itself refused an attempt."""
        if denied.by is DeniedBy.STOP and min(price for _, price in self._prices) > STOP:
            raise Violation(f"{order.client_order_id} is denied for a price at its stop, and there was none today")

    def answered(self, account: int, request: OrderRequest, reply: Reply) -> None:
        """What came of it."""
        run_id, leg, attempt = _parsed(request)
        attempts = self._sent[run_id, leg]
        # An answer that came late finds its worker without the run, which another has settled.
        is_in_time = self._now() - attempts.reached_at <= ON_ITS_WAY
        if reply.outcome in (Outcome.TIMEOUT, Outcome.SERVER_DOWN):
            self._silent[account].append(self._now())
        else:
            self._silent[account].clear()
        if reply.retry_after is not None:
            until = self._now() + timedelta(seconds=reply.retry_after)
            before = self._limited.get((account, leg), (until, until))[1]
            self._limited[account, leg] = (self._now(), max(until, before))
        elif reply.outcome in (Outcome.REJECTED, Outcome.SERVER_DOWN) and is_in_time:
            attempts.failed_at, attempts.failed = self._now(), min(attempt, attempts.failed + 1)
        if reply.outcome is Outcome.TOKEN_INVALID:
            self._dead_since.setdefault(account, self._now())
        elif not self._brokers[account].token_dead:
            self._dead_since.pop(account, None)
            self._under_dead[account] = 0

    def _judge(self, account: int, request: OrderRequest) -> None:
        run_id, leg, _ = _parsed(request)
        attempts, name = self._sent[run_id, leg], request.client_order_id
        # What a lost live state had granted may be on its way yet.
        if name in attempts.ids and not (self._seed.lose_store or self._seed.roll_back):
            raise Violation(f"{name} was sent twice")
        attempts.ids.add(name)
        attempts.reached_at = self._now()
        run = self._durable.run(run_id)
        terms = (request.symbol, request.product, request.side)
        most = MOST_LATE_UNITS if Kind.BEYOND_GRACE in self._seed.hard else MOST_UNITS
        if terms != (run.strategy.symbol, run.strategy.product, SIDE_OF[leg]) or not 0 < request.quantity <= most:
            raise Violation(f"{name} is none of its strategy's orders: {request}")
        for asked_at, until in self._pauses(account, leg):
            if asked_at + ON_ITS_WAY < attempts.reached_at < until - CLOCKS_APART * bool(self._seed.skew):
                raise Violation(f"{name} was sent though its broker had asked for a pause until {until:%M:%S}")
        if leg is Leg.ENTRY:
            self._judge_entry(account, run, attempts)
        else:
            self._judge_exit(account, run)
        if attempts.failed_at is not None and not self._seed.skew:
            pause = MOST_OF * retry_delay(attempts.failed)
            if self._now() < attempts.failed_at + pause:
                raise Violation(f"{name} was sent {self._now() - attempts.failed_at} after one that failed")

    def canceling(self, account: int, placed: Placed) -> None:
        """One of ours is to be taken back: what rests loses its place in the queue, so that there must be a reason."""
        if self._is_plain(account) and not self._may_cancel(account, placed):
            raise Violation(f"{placed.request.client_order_id} is canceled at {self._now():%M:%S} without a cause")
        if placed.request.client_order_id not in self._taken_back:
            self._taken_back.add(placed.request.client_order_id)
            run_id, leg, _ = _parsed(placed.request)
            if leg is Leg.EXIT:
                # What we take back ourselves is no exit that failed, though its answer may have called it refused.
                self._fruitless[run_id] -= 1
                self._sent[run_id, leg].failed = max(0, self._sent[run_id, leg].failed - 1)

    def _may_cancel(self, account: int, placed: Placed) -> bool:
        run_id, leg, attempt = _parsed(placed.request)
        run, own = self._durable.run(run_id), self._own(account, run_id)
        bought, sold = _filled(own, Side.BUY), _filled(own, Side.SELL)
        left = placed.request.quantity - placed.filled
        is_replaced = attempt < max(
            _parsed(each.request)[2] for each in own if each.request.side is placed.request.side
        )
        # It was given up before it appeared, whether or not the next one was sent.
        is_late = (
            placed.visible_at - (placed.placed_at or placed.visible_at) > self._brokers[account].profile.settles_after
        )
        if is_replaced or is_late or run.stop_requested is not None or self._durable.is_failed(run_id):
            return True
        if leg is Leg.EXIT:
            # Nothing says how low a limit may be, or its broker changes none: only a new order is priced by the broker.
            broker = self._brokers[account]
            # A quote that is refused is a change in vain, too.
            tried = self._changes[account, placed.broker_order_id] + broker.quotes_refused
            is_in_vain = tried >= REPRICES and placed.request.limit_price != broker.lower_band
            return left != bought - sold or not broker.lower_band or is_in_vain
        rests_for = self._now() - (placed.placed_at or placed.visible_at)
        # Its exit may have been lost on its way.
        is_exiting = self._now() >= run.sell_at or any(each.request.side is Side.SELL for each in own)
        is_breached = min(self._prices_since(placed.visible_at - BEFORE_ITS_ANSWER)) <= STOP
        return rests_for >= RESTS_AT_LEAST or is_exiting or is_breached or left > QUANTITY - bought

    def changing(self, account: int, placed: Placed) -> None:
        """One of ours is to be priced anew: while it can still sell, what it is to sell, and not again and again."""
        run_id, leg, _ = _parsed(placed.request)
        self._changes[account, placed.broker_order_id] += 1
        run, now, name = self._durable.run(run_id), self._now(), placed.request.client_order_id
        if leg is Leg.ENTRY:
            raise Violation(f"{name} is an entry, and priced anew")
        over = run.closes_at + EXIT_LATEST + timedelta(seconds=self._seed.skew)
        if self._seed.is_sound and now > over and not self._is_next_day(run):
            raise Violation(f"{name} is priced anew at {now:%H:%M:%S}, its session ended {run.closes_at:%H:%M:%S}")
        own = self._own(account, run_id)
        is_known = max([each.changed_at or each.visible_at for each in own], default=now) < now - TOLD_BY_THE_BOOK
        held = _filled(own, Side.BUY) - _filled(own, Side.SELL)
        if is_known and self._is_plain(account) and placed.request.quantity - placed.filled > held:
            raise Violation(f"{name} is priced anew, and sells more than the {held} that are held")

    def _is_plain(self, account: int) -> bool:
        """Whether whoever changes an order knows what the world does."""
        is_steady = self._seed.is_sound and not BESIDE & self._seed.hard.kinds
        return is_steady and self._brokers[account].is_honest() and not self._seed.skew

    def _own(self, account: int, run_id: RunId) -> list[Placed]:
        return [each for each in self._brokers[account].book if not each.is_foreign and run_id_of(each) == run_id]

    def _pauses(self, account: int, leg: Leg) -> list[tuple[datetime, datetime]]:
        """What the broker asked of an order of `leg`: an exit's pause is one of all the account's orders.

        Where whoever heard it may die, or the live state refuse it, nobody else knows.
        """
        if not self._seed.is_sound or Kind.REDIS_REFUSES in self._seed.hard:
            return []
        legs = (Leg.ENTRY, Leg.EXIT) if leg is Leg.ENTRY else (Leg.EXIT,)
        return [self._limited[account, each] for each in legs if (account, each) in self._limited]

    def _judge_entry(self, account: int, run: Run, attempts: _Attempts) -> None:
        now, skew = self._now(), timedelta(seconds=self._seed.skew)
        if len(attempts.ids) > 1 + RETRIES:
            raise Violation(f"{run.id} sent {len(attempts.ids)} entries")
        if not run.buy_at - skew <= now <= run.buy_at + ENTRY_LATEST + skew:
            raise Violation(f"{run.id} buys at {now:%M:%S}, its time is {run.buy_at:%M:%S}")
        if self._doubted[0] + ON_ITS_WAY < now < self._doubted[1]:
            raise Violation(f"{run.id} buys by a clock that is doubted since {self._doubted[0]:%M:%S}")
        if now > self._fed_at + BLIND_AFTER + ON_ITS_WAY:
            raise Violation(f"{run.id} buys though nobody watches its symbol since {self._fed_at:%M:%S}")
        # While the live state takes nothing, the listener keeps what it heard.
        is_stored = self._seed.is_sound and Kind.REDIS_REFUSES not in self._seed.hard
        if max(self._prices_since(now - ON_ITS_WAY)) <= STOP and is_stored:
            raise Violation(f"{run.id} buys though its stop is reached")
        silent = self._silent[account]
        if is_stored and len(silent) >= OPENS_AFTER and HEARD_WITHIN < now - silent[-1] < PAUSED_FOR:
            raise Violation(f"{run.id} buys though account {account} left {len(silent)} orders unanswered")
        if account in self._dead_since and now > self._dead_since[account] + ON_ITS_WAY:
            self._under_dead[account] += 1
            if self._under_dead[account] > (0 if is_stored else UNDER_WAY):
                raise Violation(f"account {account} buys on under a dead token")

    def _judge_exit(self, account: int, run: Run) -> None:
        now, skew = self._now(), timedelta(seconds=self._seed.skew)
        if now > run.closes_at + EXIT_LATEST + skew and not self._is_next_day(run):
            raise Violation(f"{run.id} sells at {now:%H:%M:%S}, its session ended {run.closes_at:%H:%M:%S}")
        if run.id in self._left_at and now > self._left_at[run.id] + ON_ITS_WAY:
            raise Violation(f"{run.id} sells what its owner keeps")
        if not self._has_cause(account, run, now + skew):
            raise Violation(f"{run.id} sells at {now:%M:%S} without a cause")
        if now > self._frozen.get(str(run.id), now) + ON_ITS_WAY:
            raise Violation(f"{run.id} sells what is left to a human")
        self._judge_knowledge(account, run)
        self._fruitless[run.id] += 1
        if any(each.filled for each in self._own(account, run.id)[-1:] if each.request.side is Side.SELL):
            self._fruitless[run.id] = 1
        is_told = (TELLS_OF_A_POSITION | TELLS_OF_AN_EXIT) & self._durable.alerts_of(run)
        if self._fruitless[run.id] > FRUITLESS and not is_told:
            raise Violation(f"{run.id} sent {self._fruitless[run.id]} exits that filled nothing, and nobody was told")

    def _judge_knowledge(self, account: int, run: Run) -> None:
        """What is sold was bought, or read of the account, a moment ago: somebody else may have sold it since."""
        broker, now = self._brokers[account], self._now()
        if not (self._seed.is_sound and broker.is_honest()) or self._seed.skew:
            return
        if Kind.ALONE in self._seed.hard and {Kind.TOKEN, Kind.BLIND} & self._seed.hard.kinds:
            # Nobody tells of a fill for as long as its account cannot be read.
            return
        known = [each.filled_at for each in self._own(account, run.id) if each.filled_at is not None]
        known += broker.asked.get("positions", [])[-1:]
        squared_off = run.strategy.product is Product.INTRADAY and now >= run.closes_at - SQUARE_OFF
        limit = (SHORT_TRUST if squared_off else LONG_TRUST) + ON_ITS_WAY
        # A fill is as old as what told of it.
        limit += UNTOLD_FOR if TELL_LATE & self._seed.hard.kinds else timedelta(0)
        if now - max(known, default=START) > limit:
            raise Violation(f"{run.id} sells by what was known {now - max(known, default=START)} ago")

    def _is_next_day(self, run: Run) -> bool:
        return self._seed.hard.has_night and self._now().date() > run.closes_at.date()

    def _has_cause(self, account: int, run: Run, now: datetime) -> bool:
        if now >= run.sell_at or run.stop_requested is not None:
            return True
        own = self._own(account, run.id)
        bought = [each for each in own if each.request.side is Side.BUY]
        if sum(each.filled for each in bought) > QUANTITY:
            return True
        if run.strategy.on_abort is AbortPolicy.FLATTEN and self._durable.is_failed(run.id):
            return True
        return min(self._prices_since(self._from(account, run, bought))) <= STOP

    def _from(self, account: int, run: Run, bought: list[Placed]) -> datetime:
        """From when on a breach counts: from the first fill, or, where that cannot be known, the time to buy.

        Of one told late only when its entry was granted is known.
        """
        filled = [each.first_filled_at for each in bought if each.first_filled_at is not None]
        is_known = self._brokers[account].is_honest() and self._seed.is_sound and not UNREAD & self._seed.hard.kinds
        first = min(filled, default=run.buy_at) if is_known else run.buy_at
        if Kind.PAIR in self._seed.hard and bought:
            first = min(first, *[each.placed_at or each.visible_at for each in bought]) - GRANTED_BEFORE
        return first - (CLOCKS_APART if Kind.CLOCKS in self._seed.hard else timedelta(seconds=1))

    def _prices_since(self, at: datetime) -> list[int]:
        """The price that stood at that time, and every later one; where it may be an old one it proves nothing."""
        before = [price for when, price in self._prices if when <= at]
        stood = STOP + 1000 if Kind.ILLIQUID in self._seed.hard else before[-1]
        return [stood, *(price for when, price in self._prices if when > at)]


def _filled(own: list[Placed], side: Side) -> int:
    return sum(each.filled for each in own if each.request.side is side)


def _parsed(request: OrderRequest) -> tuple[RunId, Leg, int]:
    ours = parse_client_order_id(DEPLOYMENT, request.client_order_id)
    if ours is None:
        raise Violation(f"an order without an id of ours: {request.client_order_id}")
    return ours
