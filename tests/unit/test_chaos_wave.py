"""When a trial of a wave is over, and what is held against one that is not as its fault's world asks."""

import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.chaos.fault import ANYTHING, Fault, When
from engine.chaos.field import Field
from engine.chaos.judge import Finding
from engine.chaos.refusals import dip_during
from engine.chaos.trial import Style, Trial
from engine.chaos.wave import Placed, Wave
from engine.chaos.world import over_meanwhile
from engine.domain.run import RunId

NOW = datetime(2026, 1, 5, 5, 0, tzinfo=UTC)
FAULT = Fault("a fault", "a fault", lambda _field: iter(()), (When.HOLDING,))
FLAT = Finding(bought=10, sold=10)
HELD = Finding(bought=10)


class Paper:
    """Writes down the prices it is told, and knows no fault."""

    def __init__(self) -> None:
        self.prices: list[tuple[str, str]] = []

    def price(self, symbol: str, price: str) -> None:
        """A tick."""
        self.prices.append((symbol, price))


def wave(fault: Fault, finding: Finding, *, struck: bool = True) -> tuple[Wave, Trial, Paper]:
    """A wave of one trial, whose exit was asked for ten seconds ago."""
    trial = Trial(
        fault.name, Style.STOP_LOSS, "tenant-01", "NSE:INFY", NOW, NOW, Decimal(985), RunId(1, date(2026, 1, 5))
    )
    trial.finding, trial.to_hear, trial.calm = finding, fault.told, Decimal(1000)
    trial.mono_exit = time.monotonic() - 10.0
    paper = Paper()
    stack = SimpleNamespace(paper=paper)
    remote = SimpleNamespace(real=SimpleNamespace(now=lambda: NOW + timedelta(seconds=10)))
    field = Field(cast("Any", stack), cast("Any", None), cast("Any", remote), [trial], list)
    field.struck_at = time.monotonic() - 20.0 if struck else None
    placed = Placed(fault, When.HOLDING, field, over_at=time.monotonic() - 20.0)
    return Wave([placed], NOW, NOW), trial, paper


@pytest.mark.parametrize(("is_told", "is_over"), [(False, False), (True, True)])
def test_a_flat_trial_is_over_when_its_owner_was_told(is_told: bool, is_over: bool) -> None:
    played, trial, _ = wave(replace(FAULT, told=frozenset({"not_covered"})), FLAT)
    trial.is_told = is_told
    assert played._may_be_over(trial) is is_over


@pytest.mark.parametrize(("settles", "is_over"), [(5.0, True), (30.0, False)])
def test_what_must_not_happen_has_time_to(settles: float, is_over: bool) -> None:
    played, trial, _ = wave(replace(FAULT, settles=settles), FLAT)
    assert played._may_be_over(trial) is is_over


def test_a_fault_that_did_not_strike_asks_nothing() -> None:
    played, trial, _ = wave(replace(FAULT, told=ANYTHING, settles=30.0), FLAT, struck=False)
    assert played._may_be_over(trial)


def test_nobody_told_is_a_violation() -> None:
    played, trial, _ = wave(replace(FAULT, told=frozenset({"blind", "not_covered"})), FLAT)
    played._conclude(trial)
    assert [each.partition(": ")[2] for each in trial.violations][1:] == ["none of blind, not_covered"]


def test_a_purchase_where_nothing_may_be_bought_is_a_violation() -> None:
    played, trial, _ = wave(replace(FAULT, buys=False), FLAT)
    trial.mono_done = trial.mono_exit
    played._conclude(trial)
    assert trial.violations == ["bought 10 where nothing may be bought"]


@pytest.mark.parametrize(("dips", "presses"), [(False, True), (True, False)])
def test_only_a_course_that_makes_the_breach_itself_is_left_to_it(dips: bool, presses: bool) -> None:
    played, trial, paper = wave(replace(FAULT, dips=dips), HELD)
    played._ask_for_exits()
    assert (paper.prices == [(trial.symbol, str(trial.breach))]) is presses


def test_a_dip_reaches_the_stop_and_recovers_while_the_other_fault_lasts() -> None:
    played, trial, paper = wave(FAULT, HELD)
    lasting: list[str] = []

    def first(_field: Field) -> Any:
        while len(paper.prices) < 2:
            lasting.append("on")
            yield

    for _ in dip_during(first)(played.placed[0].field):
        time.sleep(0.05)
    assert paper.prices == [(trial.symbol, str(trial.breach)), (trial.symbol, "1000")]
    assert lasting
    assert trial.exit_at == NOW + timedelta(seconds=10)


def test_a_trial_that_waits_for_the_end_of_a_fault_it_must_not_wait_for_is_a_violation() -> None:
    _, trial, _ = wave(FAULT, HELD)
    for _ in over_meanwhile([trial], 0.01):
        pass
    assert trial.violations == ["not over within 0 s while the fault lasted"]
    trial.violations.clear()
    trial.mono_done = time.monotonic()
    assert list(over_meanwhile([trial], 60.0)) == []
    assert trial.violations == []
