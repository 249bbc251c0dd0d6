"""What recovery needs of PostgreSQL, behind its `Durable` port: epochs, accounts, strategies, open runs."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any

from sqlalchemy import Text, cast, select

from engine.domain.broker import BrokerProfile
from engine.domain.budget import limits_of
from engine.domain.routing import Alert
from engine.domain.run import Run, RunId
from engine.domain.strategy import Strategy
from engine.ports import AccountState, Ended
from models.database import Sessions
from models.drain import Fenced
from models.repositories.bookkeeping import Epoch
from models.repositories.history import Alerts
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies
from models.tables import AccountRow, TenantRow


class DurableState:
    """The `Durable` port."""

    def __init__(
        self,
        sessions: Sessions,
        drain: Callable[[int], None] = lambda _epoch: None,
        profile_of: Callable[[str], BrokerProfile | None] = lambda _broker: None,
    ) -> None:
        """`drain`: store what the ledger still holds, as the drainer of that epoch.

        `profile_of`: what a broker promises; without it an account has its own rates alone, and its token no end.
        """
        self._sessions = sessions
        self._profile_of = profile_of
        self._drain = drain
        self._epochs = Epoch(sessions)
        self._strategies = Strategies(sessions)
        self._runs = Runs(sessions)
        self._alerts = Alerts(sessions)

    def epoch(self) -> tuple[int, str] | None:
        current = self._epochs.read()
        return (current.n, current.redis_run_id) if current else None

    def advance_epoch(self, redis_run_id: str) -> int:
        return self._epochs.advance(redis_run_id).n

    def accounts(self) -> Sequence[AccountState]:
        # The stored ciphertext travels on as it is: nothing here needs to read it.
        sealed = cast(AccountRow.credentials, Text).label("sealed")
        # Column by column: a row as a whole would be opened, and one that was sealed with another key would stop all.
        plain = [column for column in AccountRow.__table__.columns if column.name != "credentials"]
        statement = select(*plain, TenantRow.name.label("tenant"), sealed).join(TenantRow).order_by(AccountRow.id)
        with self._sessions() as session:
            return [_account(row, self._profile_of(row.broker)) for row in session.execute(statement)]

    def unarmed(self, day: date) -> Sequence[Strategy]:
        self._strategies.end_recurrences(day)
        return self._strategies.unarmed(day)

    def missed(self, day: date) -> Sequence[tuple[Strategy, date, datetime]]:
        return self._strategies.missed(day)

    def create_runs(self, runs: Sequence[Run]) -> None:
        self._runs.create_all(runs)

    def drain(self, epoch: int) -> None:
        # Where another recoverer has taken over, whoever asks for the epoch next hears of it.
        with suppress(Fenced):
            self._drain(epoch)

    def reschedule(self, run: Run) -> None:
        self._runs.reschedule(run)

    def ended(self, run_id: RunId) -> Ended | None:
        """What is left of a run that needs the engine no more; None where it does, or never was."""
        run = self._runs.get(run_id)
        if run is None or any(each.id == run_id for each in self._runs.open(of=[run_id.strategy_id])):
            return None
        return Ended(run.strategy.account_id, run.strategy.tenant, run.orders)

    def alert(self, at: datetime, tenant: str, alert: Alert) -> None:
        """Keep an alert that no record carries; tenant "" is the operator."""
        self._alerts.add(at, alert.severity, alert.code, alert.message, tenant=tenant)

    def told_last(self, code: str, or_else: str) -> set[str]:
        """Whom an alert of `code` was kept for since the last of `or_else`; "" is the operator."""
        return self._alerts.told_last(code, or_else)

    def open_runs(self, *, of: Collection[int] | None = None, before: date | None = None) -> Sequence[Run]:
        return self._runs.open(of=of, before=before)


def _account(row: Any, profile: BrokerProfile | None) -> AccountState:
    # Of what the row says alone: whoever reads it, and whatever else they know, names the same details alike.
    details = json.dumps([row.base_url, row.ws_url, row.sealed, row.rates, row.broker], sort_keys=True)
    return AccountState(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        broker=row.broker,
        base_url=row.base_url,
        ws_url=row.ws_url,
        secrets=row.sealed,
        version=hashlib.sha256(details.encode()).hexdigest()[:12],
        limits=limits_of(row.rates or (profile.rates if profile else {})),
        token_ends=profile.token_ends(row.token_issued_at) if profile else None,
    )
