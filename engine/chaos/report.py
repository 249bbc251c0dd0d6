"""What a campaign came to: a row for each fault, and the evidence of each violation. Decides nothing."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.chaos.fault import Fault
from engine.chaos.judge import by_run
from engine.chaos.trial import Trial

#: Of a JSON line, with or without blanks.
_TIMESTAMP = re.compile(r'"timestamp": *"([^"]*)"')
#: Log lines of a run that are told, the newest.
TOLD = 80
COLUMNS = ("fault", "trials", "not_struck", "without_position", "violations", "worst_recovery_s", "bound_s")


@dataclass(frozen=True, slots=True)
class Violation:
    """A trial that broke an invariant or its bound, with the broker's rows and our log lines of its run."""

    trial: Trial
    ledger: Sequence[Mapping[str, Any]]
    log: Sequence[str]

    def as_row(self) -> dict[str, object]:
        """For JSON."""
        trial = self.trial
        return {
            "fault": trial.fault,
            "style": trial.style,
            "run": str(trial.run),
            "tenant": trial.tenant,
            "violations": trial.violations,
            "ledger": list(self.ledger),
            "log": list(self.log),
        }


def rows(faults: Iterable[Fault], trials: Sequence[Trial], bystander_bound: float) -> list[dict[str, object]]:
    """The final table: what was tried in the order of the fault table, then the bystanders."""
    bounds = {fault.name: fault.bound for fault in faults}
    by_name: dict[str, list[Trial]] = {name: [] for name in bounds}
    for trial in trials:
        by_name.setdefault(trial.fault, []).append(trial)
    return [_row(name, of, bounds.get(name, bystander_bound)) for name, of in by_name.items() if of]


def _row(name: str, trials: Sequence[Trial], bound: float) -> dict[str, object]:
    struck = [trial for trial in trials if trial.struck]
    worst = max((trial.recovery for trial in struck if trial.recovery is not None), default=None)
    return {
        "fault": name,
        "trials": len(struck),
        "not_struck": len(trials) - len(struck),
        "without_position": sum(trial.finding.bought == 0 for trial in struck),
        "violations": sum(bool(trial.violations) for trial in trials),
        "worst_recovery_s": None if worst is None else round(worst, 1),
        "bound_s": bound,
    }


def violations(
    trials: Iterable[Trial], ledger: Sequence[Mapping[str, Any]], deployment: str, logs: Path
) -> list[Violation]:
    """Every trial with a violation, with its evidence; to be asked for while the logs are there."""
    found = by_run(ledger, deployment)
    return [
        Violation(trial, found.get(trial.run, []), _lines(logs, trial, found.get(trial.run, [])))
        for trial in trials
        if trial.violations
    ]


def _lines(logs: Path, trial: Trial, ledger: Sequence[Mapping[str, Any]]) -> list[str]:
    """The newest log lines that name the run or one of its orders."""
    words = {str(trial.run), *(row["tag"] for row in ledger)}
    found = [
        (_time(line), f"{path.stem}: {line}")
        for path in sorted(logs.glob("*.log*"))
        for line in _read(path)
        if any(word in line for word in words)
    ]
    return [line for _, line in sorted(found)][-TOLD:]


def _read(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (line.rstrip("\n") for line in file)


def _time(line: str) -> str:
    """What sorts a JSON line by its time; a line of another kind comes first."""
    found = _TIMESTAMP.search(line)
    return found[1] if found else ""
