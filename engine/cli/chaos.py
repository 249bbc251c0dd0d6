"""`engine chaos`: fault trials on the running stack, shown as they go, and told in one table."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet

from engine.chaos.campaign import Campaign, market, short_table
from engine.chaos.fault import Fault
from engine.chaos.faults import TABLE
from engine.chaos.report import COLUMNS, Violation, rows, violations
from engine.chaos.wave import BYSTANDER_BOUND
from engine.cli import DONE, FAILED, INTERRUPTED
from engine.cli.output import console, errors, print_json, print_rows, status_line
from engine.stack.problems import EnvironmentProblem
from engine.trading import TradingStack


def run(trials: int, seed: int, only: str | None, *, short: bool, as_json: bool) -> int:
    """Play the trials; 1 where one broke an invariant or missed its bound, with the evidence."""
    chosen = [fault for fault in (short_table() if short else TABLE) if only is None or only in fault.name]
    if not chosen:
        raise EnvironmentProblem(f"no fault has {only!r} in its name")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="engine-chaos-") as directory:
        campaign, broken = _play(Path(directory), chosen, None if short else trials, seed)
    table = rows(chosen, campaign.trials, BYSTANDER_BOUND)
    summary: dict[str, object] = {
        "seed": seed,
        "trials": len(campaign.judged),
        "not_struck": [row["fault"] for row in table if not row["trials"]],
        "violations": len(broken),
        "remarks": campaign.remarks,
        "took_seconds": round(time.monotonic() - began, 1),
    }
    if as_json:
        print_json(summary | {"faults": table, "evidence": [each.as_row() for each in broken]})
    else:
        _tell(summary, table, broken)
    if broken:
        return FAILED
    return INTERRUPTED if campaign.is_interrupted else DONE


def _play(
    directory: Path, chosen: Sequence[Fault], trials: int | None, seed: int
) -> tuple[Campaign, Sequence[Violation]]:
    say, done = status_line()
    kill_points = directory / "points"
    kill_points.mkdir()
    try:
        with TradingStack(
            directory, market(seed), Fernet.generate_key().decode(), kill_points=kill_points, say=say
        ) as stack:
            campaign = Campaign(stack, kill_points, seed, say)
            campaign.run(chosen, trials)
            ledger = stack.paper.ledger()
            return campaign, violations(campaign.trials, ledger, stack.settings.deployment, stack.log_dir)
    finally:
        done()


def _tell(summary: dict[str, object], table: Sequence[dict[str, object]], broken: Sequence[Violation]) -> None:
    for each in broken:
        trial = each.trial
        errors.print(f"\n{trial.fault} ({trial.style}), run {trial.run} of {trial.tenant}:", style="red", markup=False)
        for line in (*trial.violations, *map(str, each.ledger), *each.log):
            errors.print(f"  {line}", markup=False)
    print_rows(f"Fault trials of seed {summary['seed']}", table, COLUMNS, as_json=False)
    for remark in campaign_remarks(summary):
        console.print(remark, highlight=False, markup=False)
    console.print(
        f"{summary['trials']} trials in {summary['took_seconds']} s: {summary['violations']} violations",
        style="red" if broken else "green",
        highlight=False,
    )


def campaign_remarks(summary: dict[str, object]) -> list[str]:
    """What is to be said beside the table."""
    remarks, unstruck = summary["remarks"], summary["not_struck"]
    assert isinstance(remarks, list)
    assert isinstance(unstruck, list)
    return [*remarks, *(f"never struck, and so not tried: {name}" for name in unstruck)]
