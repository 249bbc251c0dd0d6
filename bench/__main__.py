"""`python -m bench [NAME ...]`: runs these benches, or all, and writes what they found to bench/results/latest.json.

A figure stands beside its floor or its peer, measured in the same run on the same machine.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import budgets, cold, growth, herd, peers, throughput, tick_to_order

BENCHES: dict[str, Callable[[], Any]] = {
    "tick_to_order": tick_to_order.run,
    "herd": herd.run,
    "growth": growth.run,
    "budgets": budgets.run,
    "throughput": throughput.run,
    "cold": cold.run,
    "peers": peers.run,
}
RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(names: Sequence[str]) -> int:
    """Run `names`; returns the exit status."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench named {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    latest = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or BENCHES:
        latest[name] = BENCHES[name]()
    latest["machine"] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(latest, indent=2) + "\n")
    print(f"written to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
