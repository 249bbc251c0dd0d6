"""What must hold however bad the world is: no short of our making, no breach left alone, nobody left untold."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.domain.broker import OrderRequest
from engine.domain.feed import FeedPolicy
from engine.domain.orders import TERMINAL, Leg, Side
from engine.domain.run import EXIT_TROUBLES, Run, RunId, RunStatus
from engine.domain.strategy import StopMode
from engine.simulation.broker import Placed, SimulatedBroker
from engine.simulation.durable import SimulatedDurable
from engine.simulation.hardships import Kind
from engine.simulation.invariants import Violation, run_id_of
from engine.simulation.scenario import MORNING, SLOTS, START, SYMBOL, Seed
from engine.simulation.shorts import Shorts

#: How long after a true reading of the account the engine may act on what it knew before.
UNKNOWN_FOR = timedelta(seconds=5)
#: The same where positions may lag or be empty: what others sold is taken for certain once it was read twice.
READ_TWICE_WITHIN = timedelta(seconds=30)
#: How long a breached position that can be sold may be without an exit at the broker, or an alert.
EXIT_WITHIN = timedelta(seconds=2)
#: What everybody else at work adds to that, each: a world has one core, and each step of an exit waits for theirs.
WAITS_FOR_EACH = timedelta(milliseconds=250)
#: How long an exit may wait for one of its account's slots, where more runs want one than there are.
WAITS_FOR_A_SLOT = timedelta(seconds=2)
#: How long after an account can be read again it is asked.
ASKED_AGAIN = timedelta(seconds=4)
#: For how long a price that fell far is doubted first; one that is far off beside it begins a doubt of its own.
DOUBTED_FOR = FeedPolicy().confirm_within
DOUBTED_BESIDE = 3 * DOUBTED_FOR
#: What reading an account may take where its answers are slow.
SLOWLY_READ = timedelta(seconds=10)
#: For how long an account must have been readable before what it holds and has promised is settled.
SETTLED_WITHIN = timedelta(seconds=10)
#: How long a push of a fill may take; how long it takes to ask where none comes, and to look at what was given up.
PUSHED_WITHIN, ASKED_WITHIN, WATCHED_WITHIN = timedelta(seconds=4), timedelta(seconds=8), timedelta(seconds=45)
#: Kinds in which an exit may be in doubt, and then no other may stand in its place.
IN_DOUBT = frozenset({
    Kind.BEYOND_GRACE, Kind.REFUSED_RESTS, Kind.VANISHED, Kind.TOKEN, Kind.BLIND, Kind.SILENT
})  # fmt: skip
#: How long the next exit may wait after one that the exchange ended.
PAUSES = timedelta(seconds=35)
#: Alerts that tell why a position is not being sold, and how long before it could be they may have told it.
TELLS_OF_A_POSITION = frozenset({
    "exit_keeps_failing", "token_invalid", "authorisation_needed", "book_unreadable", "account_unreadable",
    "account_down", "token_missing", "given_up_appeared", "double_order", "oversold", "closed_and_sold",
    "exit_denied", "exit_in_doubt", "exit_refused", "exit_uncovered",
})  # fmt: skip
TOLD_BEFORE = timedelta(seconds=60)
#: How long it may be unknown that somebody else sold what runs hold: two readings of the account, a look at each run.
NOTICED_WITHIN = timedelta(seconds=15)
#: Where fills come in parts: an exit that ends meanwhile may have sold what is missing, and what it sold is told late.
NOTICED_BESIDE_PARTS = timedelta(seconds=25)
#: Kinds in which nobody looks, or what is read is not what is there.
UNNOTICED = frozenset({
    Kind.ALONE, Kind.BEHIND, Kind.BEYOND_GRACE, Kind.BLIND, Kind.DELIVERY, Kind.LYING_POSITIONS, Kind.REDIS_REFUSES,
    Kind.REFUSED_RESTS, Kind.ROWS, Kind.SLOW, Kind.TOKEN, Kind.VANISHED,
})  # fmt: skip
#: How long positions are taken to lag behind what we sold; what others buy just then is not believed before.
LAG_AT_MOST = timedelta(seconds=15)
#: At the lower circuit: seconds that count, and the most of them an exit may be out of the queue.
AT_CIRCUIT, MOST_BARE = 30, 0.3
#: Kinds in which an attempt of ours may stand beside the one that took its place: what it fills is alerted.
DOUBLES = frozenset({Kind.BEYOND_GRACE})


@dataclass(frozen=True, slots=True)
class LastPrice:
    """The price as the listener was told it."""

    #: Since when it is at or below every stop; None where it is not, or where it is not told.
    low_since: datetime | None
    #: When it was traded: one of before a run held anything says nothing to that.
    traded_at: datetime


class Oversight:
    """Watches every account of a world."""

    def __init__(self, seed: Seed, brokers: Mapping[int, SimulatedBroker], durable: SimulatedDurable) -> None:
        self._seed = seed
        self._brokers = brokers
        self._durable = durable
        #: By account: what others sold lately, and when.
        self._sold: dict[int, list[tuple[datetime, int]]] = {account: [] for account in brokers}
        #: By account: when others bought last.
        self._bought: dict[int, datetime] = {}
        #: By account: when it was told as it is.
        self._read_at: dict[int, set[datetime]] = {account: set() for account in brokers}
        #: Since when a run is held below its stop, sellable, and neither being sold nor told of.
        #: Since when a run is without an exit that could have one, and how long that may take at most.
        self._naked: dict[RunId, tuple[datetime, timedelta]] = {}
        self._morning: datetime | None = None
        #: By account: since when it can be read.
        self._readable_since = dict.fromkeys(brokers, START)
        self._shorts = Shorts(seed, brokers, durable)
        #: By account: since when others have sold what its runs hold.
        self._lacking: dict[int, datetime] = {}
        #: Runs of which their owner said that they are closed.
        self._closed: set[RunId] = set()
        #: Accounts of runs of which a human said that an attempt was never placed, whether it was or not.
        self._misled: set[int] = set()
        #: Seconds of a run below its stop at the circuit, and those without an exit in the queue.
        self._at_circuit: Counter[RunId] = Counter()
        self._bare_since: dict[RunId, datetime] = {}
        self._bare: Counter[RunId] = Counter()

    def sold_by_hand(self, account: int, quantity: int, now: datetime) -> None:
        """Somebody else sold; for a while nobody can blame us for not knowing."""
        self._sold[account].append((now, quantity))

    def bought_by_hand(self, account: int, now: datetime) -> None:
        """Somebody else bought, which for a while looks like positions that lag behind what we sold."""
        self._bought[account] = now

    def said_absent(self, account: int) -> None:
        """A human's word is believed where the book cannot be read; what follows of a wrong one is his."""
        self._misled.add(account)

    def said_closed(self, run_id: RunId) -> None:
        """What the run still holds is its owner's, who said that it is not there."""
        self._closed.add(run_id)

    def night_passed(self, now: datetime) -> None:
        """Nothing could be sold meanwhile: what is held below its stop is watched anew."""
        self._morning = now
        self._naked.clear()
        self._shorts.night_passed()

    def waits(self) -> bool:
        """Whether somebody has yet to be told of an account that is short."""
        return self._shorts.waits(self._sold)

    def placing(self, account: int, now: Callable[[], datetime]) -> Callable[[OrderRequest], None]:
        """What judges each order of ours the moment it reaches the broker of `account`."""

        def judge(request: OrderRequest) -> None:
            if request.side is not Side.SELL or DOUBLES & self._seed.hard.kinds or account in self._misled:
                return
            broker = self._brokers[account]
            covered = broker.net(request.symbol, request.product) - broker.promised(request.symbol, request.product)
            unknown = self._unknown(account, now())
            if request.quantity > covered + unknown:
                raise Violation(
                    f"{request.client_order_id} sells {request.quantity}, account {account} has {covered} left: a short"
                )

        return judge

    def _unknown(self, account: int, now: datetime) -> int:
        """What others sold that we may not know of: in a world where our own parts fail, all of it."""
        sold = self._sold[account]
        if not self._seed.is_sound or not self._brokers[account].is_honest():
            return sum(quantity for _, quantity in sold)
        unknown_for = READ_TWICE_WITHIN if Kind.LYING_POSITIONS in self._seed.hard else UNKNOWN_FOR
        unknown_for += SLOWLY_READ if Kind.SLOW in self._seed.hard else timedelta(0)
        read_at = [at for at in self._read_at[account] if at <= now - unknown_for]
        return sum(quantity for at, quantity in sold if not any(at < read for read in read_at))

    def check(self, now: datetime, price: LastPrice, *, is_well: bool, crowd: int) -> None:
        """Once a second: every position below its stop is being sold, or somebody was told.

        `is_well`: whether our own parts can work at all; `crowd`: how many are at work.
        """
        for account, broker in self._brokers.items():
            if not (broker.can_be_read() and is_well):
                self._readable_since[account] = now
            if broker.told_at is not None and is_well:
                self._read_at[account].add(broker.told_at)
            # What was told while nothing could be kept is not known.
            broker.told_at = None
        low_since = price.low_since and max(price.low_since, self._morning or price.low_since)
        doubted_for = DOUBTED_BESIDE if Kind.BAD_TICKS in self._seed.hard else DOUBTED_FOR
        is_low = low_since is not None and now - low_since >= doubted_for
        exit_within = self._exit_within(crowd)
        self._shorts.check(now, self._sold, self._readable_since)
        self._check_lacking(now, is_well=is_well)
        for run in self._durable.runs():
            broker = self._brokers[run.strategy.account_id]
            own = [each for each in broker.book if not each.is_foreign and run_id_of(each) == run.id]
            bought = [each.first_filled_at for each in own if each.request.side is Side.BUY and each.first_filled_at]
            concerns = Kind.ILLIQUID not in self._seed.hard or price.traded_at > min(bought, default=now)
            can_sell = is_low and is_well and concerns and self._can_sell(run, own, broker, now)
            is_selling = any(each.request.side is Side.SELL and each.status not in TERMINAL for each in own)
            bought_at = self._bought.get(run.strategy.account_id)
            is_known = bought_at is None or now > bought_at + LAG_AT_MOST + SETTLED_WITHIN / 2
            hides = IN_DOUBT | {Kind.WINDOWS, Kind.LIMITED, Kind.REDIS_REFUSES}
            is_free = is_known and not hides & self._seed.hard.kinds
            if can_sell and broker.at_lower_circuit and is_free and Kind.CIRCUIT in self._seed.hard:
                self._check_queue(run, now, exit_within, is_selling=is_selling)
            if not can_sell or is_selling:
                self._naked.pop(run.id, None)
                continue
            began, within = self._naked.get(run.id, (now, exit_within))
            # Those who were at work when it began have held it up, though they have gone since.
            self._naked[run.id] = began, max(within, exit_within)
            since = max(began, self._could_sell_at(run, own))
            told = TELLS_OF_A_POSITION & self._durable.alerts_of(run, since - TOLD_BEFORE)
            if now - since > self._naked[run.id][1] and not told:
                raise Violation(f"{run.id} holds {_held(own)} below its stop since {since:%M:%S}, and nothing sells it")

    def _exit_within(self, crowd: int) -> timedelta:
        """How long an exit may take in this world while so many are at work."""
        within = EXIT_WITHIN + crowd * WAITS_FOR_EACH
        # One that goes by a reading of its own waits for the book, and then for the positions.
        within += SLOWLY_READ if Kind.SLOW in self._seed.hard else timedelta(0)
        return within + (WAITS_FOR_A_SLOT if self._seed.crowd > SLOTS else timedelta(0))

    def _could_sell_at(self, run: Run, own: Sequence[Placed]) -> datetime:
        """From when on nothing that is known of its account keeps an exit of `run` from being sent."""
        account = run.strategy.account_id
        readable_since, exit_asked_at = self._readable_since[account], self._brokers[account].exit_asked_at
        # Its end is settled first; of a longer pause somebody is told. Of yesterday's it may be learned this morning.
        ended = [each.changed_at or each.visible_at for each in own if each.request.side is Side.SELL]
        waits = [max(at, self._morning or at) + SETTLED_WITHIN for at in ended]
        waits.append(readable_since + ASKED_AGAIN)
        if account in self._bought:
            # That counts from the first reading which shows it, to the first one after that.
            waits.append(self._bought[account] + LAG_AT_MOST + ASKED_AGAIN)
            # What was taken of runs comes back by readings of some seconds, which lag behind no sale of ours.
            waits += [at + LAG_AT_MOST + UNKNOWN_FOR + ASKED_AGAIN for at in self._sold_by_runs(account)]
        if (IN_DOUBT | {Kind.LIMITED}) & self._seed.hard.kinds and exit_asked_at is not None:
            # What may still sell is promised: no other exit, nor one of another run, may go out beside it.
            waits.append(exit_asked_at + PAUSES)
            # Doubt is settled by readings, which begin when the account can be read.
            waits.append(readable_since + SETTLED_WITHIN)
        return max(waits)

    def _sold_by_runs(self, account: int) -> list[datetime]:
        """When exits of an account's runs filled last, each."""
        ours = [each for each in self._brokers[account].book if not each.is_foreign and each.request.side is Side.SELL]
        return [each.filled_at for each in ours if each.filled_at is not None]

    def check_evening(self, closed_at: datetime) -> None:
        """Whoever holds something when its session is over has been told so this evening."""
        if not self._seed.is_sound:
            return
        for run in self._durable.runs():
            broker = self._brokers[run.strategy.account_id]
            is_left = run.has_failed and run.failure not in EXIT_TROUBLES
            is_his = is_left or run.id in self._closed or run.status is RunStatus.STOPPED
            is_known = broker.is_honest() and broker.can_be_read()
            if run.held > 0 and is_known and not is_his and not self._durable.alerts_of(run, closed_at):
                raise Violation(f"{run.id} holds {run.held} over the night, and nobody was told this evening")

    def _check_queue(self, run: Run, now: datetime, exit_within: timedelta, *, is_selling: bool) -> None:
        """At the lower circuit an exit is worth its place in the queue; one that was ended may be sent anew in time."""
        self._at_circuit[run.id] += 1
        if is_selling:
            self._bare_since.pop(run.id, None)
        self._bare[run.id] += not is_selling and now - self._bare_since.setdefault(run.id, now) > exit_within
        total, bare = self._at_circuit[run.id], self._bare[run.id]
        if total >= AT_CIRCUIT and bare > MOST_BARE * total:
            raise Violation(f"{run.id} had no exit in the queue for {bare} of {total} s at the lower circuit")

    def _check_lacking(self, now: datetime, *, is_well: bool) -> None:
        """Somebody is told that others sold what runs hold, though no exit is due."""
        for account, broker in self._brokers.items():
            runs = [run for run in self._durable.runs() if run.strategy.account_id == account]
            ours = [each for each in broker.book if not each.is_foreign]
            is_open = all(run.status is RunStatus.ACTIVE and now < run.closes_at for run in runs)
            lacking = _held(ours) - broker.net(SYMBOL, self._seed.hard.product)
            if (
                lacking <= 0
                or not (is_well and is_open)
                or UNNOTICED & self._seed.hard.kinds
                or not self._sold[account]
            ):
                self._lacking.pop(account, None)
                continue
            since = self._lacking.setdefault(account, now)
            since = can_be_known_since(broker, since)
            is_told = any("not_covered" in self._durable.alerts_of(run) for run in runs)
            noticed_within = NOTICED_BESIDE_PARTS if Kind.THIN in self._seed.hard else NOTICED_WITHIN
            if now - since > noticed_within and not is_told:
                raise Violation(f"account {account} lacks {lacking} of what its runs hold, and nobody was told")

    def _can_sell(self, run: Run, own: Sequence[Placed], broker: SimulatedBroker, now: datetime) -> bool:
        """Whether the run holds something by the account's own word, which it could sell."""
        is_his = run.id in self._closed or run.stop_requested is StopMode.LEAVE
        if is_his or "position_left" in self._durable.alerts_of(run) or _held(own) <= 0 or self._is_new(own, now):
            return False
        if DOUBLES & self._seed.hard.kinds and any(each.is_past for each in own):
            # What appears so late that the day is over is in no book that anybody reads.
            return False
        product = run.strategy.product
        resting = [each for each in own if each.request.side is Side.SELL and each.status not in TERMINAL]
        others = broker.promised(SYMBOL, product) - sum(each.request.quantity - each.filled for each in resting)
        if broker.net(SYMBOL, product) <= others or run.is_frozen:
            return False
        return broker.can_be_read() and broker.is_honest() and (now < run.closes_at or now > MORNING)

    def _is_new(self, own: Iterable[Placed], now: datetime) -> bool:
        """Whether its fills are so new that nobody need know of them."""
        filled = [each.filled_at for each in own if each.filled_at is not None and each.request.side is Side.BUY]
        within = PUSHED_WITHIN
        if Kind.ALONE in self._seed.hard:
            within = WATCHED_WITHIN if DOUBLES & self._seed.hard.kinds else ASKED_WITHIN
        # What was told behind its status is pushed no more: it is asked for.
        asked = [each.behind_until + ASKED_WITHIN for each in own if each.behind_until is not None]
        return max(filled, default=now) > now - within or max(asked, default=now) > now

    def check_end(self) -> None:
        """Every run that did not do what was asked of it has an alert of its own, or of its account's."""
        for run in self._durable.runs():
            if not self._did_as_asked(run) and not self._durable.alerts_of(run):
                held = f"holds {run.held}" if run.held else "holds nothing"
                raise Violation(f"nobody was told of {run.id}: {run.status} {run.failure}, {held}")
        # A day that is over is told of by the durable state itself, of which this world has a stand-in.
        for strategy in () if self._seed.hard.has_night else self._durable.untraded():
            if not self._durable.alerts_to(strategy.tenant):
                raise Violation(f"nobody was told that strategy {strategy.id} got no run")

    def _did_as_asked(self, run: Run) -> bool:
        """Whether it bought, and sold all of it; a stop, by price or by its owner, may come before all is bought."""
        if run.held != 0 or run.status in (RunStatus.FAILED, RunStatus.MISSED):
            return False
        if run.latch is not None or run.stop_requested is not None:
            return True
        bought = run.filled(Leg.ENTRY)
        last = run.last_order(Leg.ENTRY)
        # Its sale was due before the entry was known to have ended.
        is_overtaken = last is not None and (last.updated_at or run.buy_at) >= run.sell_at
        is_cut = 0 < bought < run.strategy.quantity and (is_overtaken or Kind.PARTLY not in self._seed.hard)
        return is_cut or bought == run.strategy.quantity


def can_be_known_since(broker: SimulatedBroker, since: datetime) -> datetime:
    """From when on positions tell what has been missing `since`: what we bought just before they may lack as long."""
    ours = [each for each in broker.book if not each.is_foreign and each.request.side is Side.BUY]
    bought = [each.filled_at for each in ours if each.filled_at is not None]
    return max(since, max(bought, default=since - LAG_AT_MOST) + LAG_AT_MOST)


def _held(own: Iterable[Placed]) -> int:
    return sum(each.filled if each.request.side is Side.BUY else -each.filled for each in own)
