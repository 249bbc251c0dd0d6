"""`engine alerts`: what a human must see, newest first, and the mark that somebody saw it."""

from dataclasses import asdict
from datetime import UTC, datetime

from engine.cli import DONE
from engine.cli.deployment import find
from engine.cli.output import console, print_rows
from engine.stack.problems import EnvironmentProblem
from models.repositories.history import Alerts

COLUMNS = ("id", "at", "severity", "code", "tenant", "run", "message")


def run(tenant: str | None, acked: int | None, *, everything: bool, as_json: bool) -> int:
    """List unseen alerts, or all of them; or mark one as seen."""
    alerts = Alerts(find().sessions)
    if acked is not None:
        if not alerts.ack(acked, datetime.now(UTC)):
            raise EnvironmentProblem(
                f"alert {acked} does not exist or was seen before: `engine alerts` lists those left"
            )
        console.print(f"alert {acked} marked as seen", highlight=False)
        return DONE
    rows = [asdict(alert) for alert in alerts.list(tenant, unacked=not everything)]
    print_rows("Alerts", rows, COLUMNS, as_json=as_json)
    return DONE
