"""In which order a campaign plays the table, and when it has played enough; the waves themselves are stood in for."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.chaos.campaign import AT_ONCE, Campaign
from engine.chaos.fault import Fault, Scope
from engine.chaos.faults import TABLE
from engine.chaos.trial import Style, Trial
from engine.config import Settings
from engine.domain.run import RunId
from engine.trading import TradingStack

NOW = datetime(2026, 1, 5, 5, 0, tzinfo=UTC)


class Played(Campaign):
    """A campaign that only writes its waves down; `blind` faults strike in their second wave, or never."""

    blind: Counter[str]
    waves: list[list[str]]

    def _play(self, faults: Sequence[Fault], wanted: int | None) -> None:
        self.waves.append([fault.name for fault in faults])
        for fault in faults:
            for style in fault.styles:
                made = Trial(fault.name, style, "t", "s", NOW, NOW, Decimal(1), RunId(next(ids), date(2026, 1, 5)))
                made.struck = self.blind[fault.name] == 0
                self.trials.append(made)
            self.blind[fault.name] = max(0, self.blind[fault.name] - 1)


ids = count(1)


def played(tmp_path: Path, seed: int = 0, blind: Counter[str] | None = None) -> Played:
    def nothing(*_: Any) -> None:
        return None

    stack = SimpleNamespace(
        settings=Settings(), add_account=nothing, wait_ready=nothing, paper=SimpleNamespace(ledger=list)
    )
    campaign = Played(cast("TradingStack", stack), tmp_path, seed)
    campaign.waves, campaign.blind = [], blind or Counter()
    return campaign


def test_every_row_is_tried_once_before_any_is_tried_again(tmp_path: Path) -> None:
    campaign = played(tmp_path)
    campaign.run(TABLE, 300)
    assert Counter(name for wave in campaign.waves for name in wave) == Counter(fault.name for fault in TABLE)


def test_a_systems_fault_is_alone_and_accounts_share(tmp_path: Path) -> None:
    campaign = played(tmp_path)
    campaign.run(TABLE, None)
    scope = {fault.name: fault.scope for fault in TABLE}
    shared = [wave for wave in campaign.waves if len(wave) > 1]
    assert {scope[name] for wave in shared for name in wave} == {Scope.ACCOUNT}
    assert max(map(len, shared)) <= AT_ONCE


def test_rows_by_chance_fill_up_to_the_number_asked_for(tmp_path: Path) -> None:
    rows = [fault for fault in TABLE if fault.name.startswith("kill sweeper at store")]
    campaign = played(tmp_path)
    campaign.run(rows, 30)
    assert 30 <= len(campaign.judged) < 30 + 4
    assert set(Counter(name for wave in campaign.waves for name in wave)) == {fault.name for fault in rows}


def test_fewer_trials_than_rows_leave_rows_out(tmp_path: Path) -> None:
    campaign = played(tmp_path)
    campaign.run(TABLE, 10)
    assert 10 <= len(campaign.judged) < 10 + AT_ONCE


@pytest.mark.parametrize(("misses", "judged"), [(1, 4), (9, 0)])
def test_what_never_struck_is_tried_once_more_and_never_counted(tmp_path: Path, misses: int, judged: int) -> None:
    (row,) = (fault for fault in TABLE if fault.name == "kill beat at buckets.take.before")
    campaign = played(tmp_path, blind=Counter({row.name: misses}))
    campaign.run([row], None)
    assert campaign.waves == [[row.name], [row.name]]
    assert (len(campaign.trials), len(campaign.judged)) == (8, judged)


def test_what_can_never_be_struck_does_not_go_on_for_ever(tmp_path: Path) -> None:
    (row,) = (fault for fault in TABLE if fault.name == "kill beat at buckets.take.before")
    campaign = played(tmp_path, blind=Counter({row.name: 1000}))
    campaign.run([row], 50)
    assert len(campaign.waves) == 3


def test_the_same_seed_is_the_same_campaign(tmp_path: Path) -> None:
    def waves(seed: int) -> list[list[str]]:
        campaign = played(tmp_path, seed)
        campaign.run(TABLE, None)
        return campaign.waves

    assert waves(3) == waves(3) != waves(4)


def test_styles_cover_each_phase_of_a_strategy() -> None:
    assert {style for fault in TABLE for style in fault.styles} == set(Style)
