"""What a seed chooses before its world begins: how many runs, and which faults how often."""

import random
from dataclasses import dataclass
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
    """What one seed chose before it began."""

    number: int
    runs: int
    chances: Chances
    crash: float
    lose_message: float
    repeat_message: float
    lose_push: float
    repeat_reply: float
    #: How often, in a hundred seconds, the live state is lost whole.
    lose_store: float


def seed_of(number: int) -> Seed:
    """The choices of seed `number`: some worlds are calm, some fail in one way, some in all."""
    rng = random.Random(number)  # noqa: S311 - a simulation's dice

    def chance(most: float) -> float:
        return most * rng.random() if rng.random() < HAS_FAULT else 0.0

    return Seed(
        number=number,
        runs=rng.randint(1, 3),
        chances=Chances(chance(0.4), chance(0.4), chance(0.5), chance(0.3), chance(0.5), chance(0.3)),
        crash=chance(0.08),
        lose_message=chance(0.5),
        repeat_message=chance(0.3),
        lose_push=chance(0.6),
        repeat_reply=chance(0.3),
        lose_store=chance(4.0),
    )


def run_of(number: int) -> Run:
    """The run of strategy `number`, as it is before it is armed."""
    strategy = Strategy(number, f"s{number}", "tenant", 1, SYMBOL, QUANTITY, time(9, 30), time(15, 0), Decimal(90))
    times = (START + BUY_AFTER, START + SELL_AFTER, START + CLOSES_AFTER)
    return Run(RunId(number, date(2026, 1, 5)), strategy, *times, STOP)
