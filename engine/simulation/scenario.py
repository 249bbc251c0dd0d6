"""What a seed chooses before its world begins: how many runs, and which faults how often."""

import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from engine.domain.run import Run, RunId
from engine.domain.strategy import Strategy
from engine.simulation.broker import Chances
from engine.simulation.hardships import Hardships, Kind, hardships_of

#: How often a fault a seed may have is in it, and how often a hard world has none of them.
HAS_FAULT, SOUND = 0.5, 0.67
#: How many kinds of hardship the worlds that are played in turn have, at most; the last may have any of them.
TURNS = (0, 1, 2, 2, 3, len(Kind))
START = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)
DEPLOYMENT, SYMBOL, STOP, QUANTITY = "SM", "NSE:SIM", 9_000, 10
#: Market time from the start to each run's buy, sell, and to the end of the faults.
BUY_AFTER, SELL_AFTER, FAULTS_END = timedelta(seconds=2), timedelta(seconds=40), timedelta(seconds=60)
#: How far apart runs of one account buy, seconds.
BUYS_APART = 4
#: Market time from the start to the session's end.
CLOSES_AFTER = timedelta(seconds=150)
#: How often a broker refuses, or an exchange ends an order, at most.
SOMETIMES_OR_MOSTLY = (0.35, 0.35, 0.95)
#: How often the exchange cancels an order, where it does.
CANCELS = 0.3
#: How many events of a kind an account may have under way.
SLOTS = 2
#: The session's end where a night follows, when nothing can be sold before it, and when the next day begins.
CLOSES_TONIGHT, CIRCUIT_AT = timedelta(seconds=50), START + timedelta(seconds=25)
MORNING = datetime(2026, 1, 6, 3, 50, tzinfo=UTC)
#: How long after the faults every run has to be flat and ended, or alerted.
SETTLED_AFTER = timedelta(seconds=150)


@dataclass(frozen=True, slots=True)
class Seed:
    """What one seed chose before it began. Chances a thing goes wrong where nothing else is said."""

    number: int
    runs: int
    chances: Chances = field(default_factory=Chances)
    #: Of the accounts, each run having its own, how many have a broker that fails.
    ill_accounts: int = 3
    #: How many of the runs, the first, share account 1; the others have one each.
    crowd: int = 1
    crash: float = 0.0
    lose_message: float = 0.0
    repeat_message: float = 0.0
    lose_push: float = 0.0
    repeat_reply: float = 0.0
    #: How often, in a hundred seconds, the live state is lost whole, or goes back by up to a second.
    lose_store: float = 0.0
    roll_back: float = 0.0
    #: How often, in a hundred seconds, every machine stands still for long.
    jump: float = 0.0
    #: How often a user stops a run, a tick.
    user_stops: float = 0.02
    #: How far clocks are apart, seconds.
    skew: float = 0.0
    #: What else is hard about this world.
    hard: Hardships = field(default_factory=Hardships)

    def account_of(self, number: int) -> int:
        """Whose account run `number` trades on."""
        return 1 if number <= self.crowd else number

    @property
    def loses_nothing(self) -> bool:
        """Whether this world only delays, repeats and reorders."""
        return self.keeps_state and not (self.lose_message or self.lose_push)

    @property
    def is_steady(self) -> bool:
        """Whether no process of ours stands still for seconds."""
        return self.keeps_state if not self.hard.kinds else self.is_sound

    @property
    def is_sound(self) -> bool:
        """Whether our own parts never fail: only the world around them is hard."""
        return not (self.crash or self.lose_store or self.roll_back or self.jump or self.lose_message or self.lose_push)

    @property
    def keeps_state(self) -> bool:
        """Whether the live state and the processes outlive this world."""
        return not self.hard.kinds and not (self.crash or self.lose_store or self.roll_back or self.jump)

    def patience(self, account: int) -> timedelta | None:
        """How long a breached stop may wait for its exit at `account`; None where its broker or our state fails.

        None also where messages are lost: the sweeper's pauses grow to half a minute, and its messages are lost, too.
        """
        if not self.keeps_state or self.lose_message or account <= self.ill_accounts:
            return None
        # A push that is lost, a look at the book makes good.
        return timedelta(seconds=8 if self.loses_nothing else 30)


def seed_of(number: int) -> Seed:
    """The choices of seed `number`: some worlds are calm, some fail in one way, some in all."""
    rng = random.Random(number)  # noqa: S311 - a simulation's dice

    def chance(most: float) -> float:
        return most * rng.random() if rng.random() < HAS_FAULT else 0.0

    return Seed(
        number=number,
        runs=rng.randint(1, 3),
        chances=Chances(
            chance(rng.choice(SOMETIMES_OR_MOSTLY)),
            chance(rng.choice(SOMETIMES_OR_MOSTLY)),
            chance(0.5),
            chance(0.3),
            chance(0.5),
            chance(rng.choice(SOMETIMES_OR_MOSTLY)),
            chance(0.2),
        ),
        ill_accounts=rng.randint(0, 3),
        crash=chance(0.08),
        lose_message=chance(0.5),
        repeat_message=chance(0.3),
        lose_push=chance(0.6),
        repeat_reply=chance(0.3),
        lose_store=chance(4.0),
        roll_back=chance(4.0),
        jump=chance(2.0),
        skew=chance(0.3),
    )


def hard_seed(number: int, kinds: Collection[Kind], *, all_of_them: bool = False) -> Seed:
    """A world of these hardships; of two in three the brokers and our own parts are sound otherwise.

    `all_of_them`: each is in it; else each by half, but a single one for certain.
    """
    rng = random.Random(number ^ 0x50BE)  # noqa: S311 - a simulation's dice
    seed, hard = seed_of(number), hardships_of(number, kinds, all_of_them=all_of_them)
    if rng.random() < SOUND:
        cancels = CANCELS if {Kind.WINDOWS, Kind.PARTLY} & hard.kinds else 0.0
        chances, stops = Chances(cancel_order=cancels), rng.choice((0.0, seed.user_stops))
        seed = Seed(number, seed.runs, chances, ill_accounts=seed.runs if cancels else 0, user_stops=stops)
    shares = Kind.SHARED in hard
    return replace(seed, hard=hard, runs=3 if shares else seed.runs, crowd=rng.choice((2, 3)) if shares else 1)


def any_seed(number: int) -> Seed:
    """One world of every sort in turn: without hardships, with one, two or three of them, and with many."""
    count, kinds = TURNS[number % len(TURNS)], sorted(Kind)
    if count == 0:
        return seed_of(number)
    if count > len(kinds):
        return hard_seed(number, kinds)
    chosen = random.Random(number ^ 0x7012).sample(kinds, count)  # noqa: S311 - a simulation's dice
    return hard_seed(number, chosen, all_of_them=True)


def _later(number: int, hard: Hardships) -> int:
    """How much later than the first a run buys, seconds: where several share an account, one after another."""
    return BUYS_APART * (number - 1) if Kind.SHARED in hard else 0


def strategy_of(number: int, account: int, hard: Hardships) -> Strategy:
    """The strategy of run `number`; its times are India's, as the world's start is 9:30 there."""
    return Strategy(
        number, f"s{number}", f"t{account}", account, SYMBOL, QUANTITY, time(9, 30, 2 + _later(number, hard)),
        time(9, 30, 40), Decimal(90), hard.product, on_abort=hard.on_abort, trading_date=START.date(),
    )  # fmt: skip


def run_of(number: int, account: int, hard: Hardships) -> Run:
    """The run of strategy `number` on `account`, as it is before it is armed."""
    sell_after, closes_after = SELL_AFTER, CLOSES_AFTER
    if Kind.STAYS_LOW in hard or Kind.CIRCUIT in hard:
        sell_after, closes_after = timedelta(hours=1), timedelta(hours=2)
    if hard.has_night:
        closes_after = CLOSES_TONIGHT
    times = (START + BUY_AFTER + timedelta(seconds=_later(number, hard)), START + sell_after, START + closes_after)
    return Run(RunId(number, START.date()), strategy_of(number, account, hard), *times, STOP)
