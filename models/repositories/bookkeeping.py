"""The engine's own bookkeeping: its epoch, and the operator's word on the calendar."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from engine.calendar import Override
from models.database import Sessions
from models.history_tables import CalendarOverrideRow, ConfirmedYearRow, EngineEpochRow


@dataclass(frozen=True, slots=True)
class EngineEpoch:
    """The epoch's number and the run id of the Redis it belongs to."""

    n: int
    redis_run_id: str


class Epoch:
    """The one epoch of the deployment, as PostgreSQL remembers it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def read(self) -> EngineEpoch | None:
        """The current epoch, None before the first."""
        with self._sessions() as session:
            row = session.get(EngineEpochRow, 1)
            return EngineEpoch(row.n, row.redis_run_id) if row else None

    def advance(self, redis_run_id: str) -> EngineEpoch:
        """Begin the next epoch, on the Redis of that run id. From here on an older drainer is fenced out."""
        statement = insert(EngineEpochRow).values(id=1, n=1, redis_run_id=redis_run_id)
        statement = statement.on_conflict_do_update(
            index_elements=["id"], set_={"n": EngineEpochRow.n + 1, "redis_run_id": redis_run_id}
        )
        with self._sessions.begin() as session:
            n = session.scalars(statement.returning(EngineEpochRow.n)).one()
        return EngineEpoch(n, redis_run_id)


class CalendarTable:
    """Overrides and confirmed years, for `engine.calendar.Calendar`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def overrides(self) -> list[Override]:
        """Every override."""
        with self._sessions() as session:
            rows = session.scalars(select(CalendarOverrideRow).order_by(CalendarOverrideRow.day))
            return [Override(r.exchange, r.day, r.kind, r.opens, r.closes, r.note) for r in rows]

    def override(self, override: Override) -> None:
        """Store `override`, in the place of one of the same date."""
        values = {
            "kind": override.kind,
            "opens": override.opens,
            "closes": override.closes,
            "note": override.note,
        }
        statement = insert(CalendarOverrideRow).values(exchange=override.exchange, day=override.date, **values)
        with self._sessions.begin() as session:
            session.execute(statement.on_conflict_do_update(index_elements=["exchange", "date"], set_=values))

    def remove(self, exchange: str, day: date) -> bool:
        """Forget the override of that date; whether there was one."""
        where = (CalendarOverrideRow.exchange == exchange, CalendarOverrideRow.day == day)
        statement = delete(CalendarOverrideRow).where(*where).returning(CalendarOverrideRow.day)
        with self._sessions.begin() as session:
            return session.scalar(statement) is not None

    def confirmed_years(self) -> frozenset[tuple[str, int]]:
        """(exchange, year) of every year an operator has confirmed."""
        with self._sessions() as session:
            rows = session.execute(select(ConfirmedYearRow.exchange, ConfirmedYearRow.year))
            return frozenset((exchange, year) for exchange, year in rows)

    def confirm_year(self, exchange: str, year: int, by: str) -> None:
        """Record that `by` has compared the holidays of `year` with the exchange's circular."""
        values = {"exchange": exchange, "year": year, "confirmed_by": by}
        with self._sessions.begin() as session:
            session.execute(insert(ConfirmedYearRow).values(values).on_conflict_do_nothing())
