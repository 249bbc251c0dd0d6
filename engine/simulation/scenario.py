"""What a seed chooses before its world begins: how many runs, and which faults how often."""

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from engine.domain.run import Run, RunId
from engine.domain.strategy import Strategy
from engine.simulation.broker import Chances

#: How often a fault a seed may have is in it.
HAS_FAULT = 0.5
START = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)
DEPLOYMENT, SYMBOL, STOP, QUANTITY = "SM", "NSE:SIM", 9_000, 10
#: Market time from the start to each run's buy, sell, and to the end of the faults.
BUY_AFTER, SELL_AFTER, FAULTS_END = timedelta(seconds=2), timedelta(seconds=40), timedelta(seconds=60)
#: Market time from the start to the session's end.
CLOSES_AFTER = timedelta(seconds=150)
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

    def account_of(self, number: int) -> int:
        """Whose account run `number` trades on."""
        return 1 if number <= self.crowd else number

    @property
    def loses_nothing(self) -> bool:
        """Whether this world only delays, repeats and reorders."""
        return self.keeps_state and not (self.lose_message or self.lose_push)

    @property
    def keeps_state(self) -> bool:
        """Whether the live state and the processes outlive this world."""
        return not (self.crash or self.lose_store or self.roll_back or self.jump)

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
        chances=Chances(chance(0.4), chance(0.4), chance(0.5), chance(0.3), chance(0.5), chance(0.3), chance(0.2)),
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


def run_of(number: int, account: int) -> Run:
    """The run of strategy `number` on `account`, as it is before it is armed."""
    strategy = Strategy(
        number, f"s{number}", f"t{account}", account, SYMBOL, QUANTITY, time(9, 30), time(15, 0), Decimal(90)
    )
    times = (START + BUY_AFTER, START + SELL_AFTER, START + CLOSES_AFTER)
    return Run(RunId(number, date(2026, 1, 5)), strategy, *times, STOP)
