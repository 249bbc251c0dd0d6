"""The runs: created when armed, read back whole for recovery and reports. The drain changes them, and a user's stop."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from engine.domain.orders import TERMINAL, Order
from engine.domain.run import CLOSED_ELSEWHERE, Position, Run, RunId, RunStatus
from engine.domain.strategy import StopMode
from models.database import Sessions
from models.records import LatchState
from models.repositories.strategies import to_strategy
from models.tables import OrderRow, RunRow, StrategyRow, TenantRow


class Runs:
    """Every strategy's runs."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def create(self, run: Run) -> bool:
        """Store `run` if it is absent; whether it was."""
        return self.create_all([run]) == 1

    def create_all(self, runs: Sequence[Run]) -> int:
        """Store those of `runs` that are absent and whose strategy is active, in one transaction; how many were."""
        wanted = {run.id.strategy_id for run in runs}
        active = select(StrategyRow.id).where(StrategyRow.id.in_(wanted), StrategyRow.status == RunStatus.ACTIVE)
        statement = insert(RunRow).on_conflict_do_nothing().returning(RunRow.id)
        with self._sessions.begin() as session:
            # Held to the end: a strategy that is being retired gets no run, one that gets a run is not retired.
            alive = set(session.scalars(active.order_by(StrategyRow.id).with_for_update()))
            rows = [_to_row(run) for run in runs if run.id.strategy_id in alive]
            return len(session.scalars(statement, rows).all()) if rows else 0

    def request_stop(self, run: RunId, mode: StopMode) -> None:
        """Keep a user's stop, before the live state is told of it: no loss of that takes it away."""
        with self._sessions.begin() as session:
            session.execute(update(RunRow).where(RunRow.id == str(run)).values(stop_requested=mode))

    def reschedule(self, run: Run) -> None:
        """Keep the times of `run`, which a session that changed has moved."""
        times = {"buy_at": run.buy_at, "sell_at": run.sell_at, "closes_at": run.closes_at}
        with self._sessions.begin() as session:
            session.execute(update(RunRow).where(RunRow.id == str(run.id)).values(**times))

    def get(self, run: RunId) -> Run | None:
        """The run of that id, with its orders."""
        found = self._read(RunRow.id == str(run))
        return found[0] if found else None

    def open(self, *, of: Collection[int] | None = None, before: date | None = None) -> Sequence[Run]:
        """Those that still need the engine: active, or failed while something is held or may still fill.

        All of them, or only of the strategies `of`, or of trading dates before `before`.
        """
        may_fill = exists().where(OrderRow.run == RunRow.id, OrderRow.status.not_in(TERMINAL))
        holds = or_(RunRow.position == Position.BOUGHT, may_fill)
        wanted = or_(RunRow.status == RunStatus.ACTIVE, and_(RunRow.status == RunStatus.FAILED, holds))
        if of is not None:
            wanted = and_(wanted, RunRow.strategy_id.in_(of))
        if before is not None:
            wanted = and_(wanted, RunRow.trading_date < before)
        return self._read(wanted)

    def of_date(self, trading_date: date) -> Sequence[Run]:
        """Those of one trading date, whatever became of them."""
        return self._read(RunRow.trading_date == trading_date)

    def of_strategies(self, ids: Sequence[int]) -> Sequence[Run]:
        """Every run of these strategies, oldest first within each."""
        return self._read(RunRow.strategy_id.in_(ids))

    def orders(self, run: RunId) -> tuple[Order, ...]:
        """The orders of `run`, by leg and attempt."""
        with self._sessions() as session:
            return _orders(session, [str(run)])[str(run)]

    def stages(self, run: RunId) -> dict[str, Mapping[str, float]]:
        """Client order id -> stage -> real milliseconds."""
        with self._sessions() as session:
            rows = session.execute(select(OrderRow.client_order_id, OrderRow.stages).where(OrderRow.run == str(run)))
            return dict(rows.all())

    def _read(self, condition: ColumnElement[bool]) -> Sequence[Run]:
        statement = (
            select(RunRow, StrategyRow, TenantRow.name)
            .join(StrategyRow, StrategyRow.id == RunRow.strategy_id)
            .join(TenantRow, TenantRow.id == StrategyRow.tenant_id)
            .where(condition)
            .order_by(RunRow.strategy_id, RunRow.trading_date, RunRow.n)
        )
        with self._sessions() as session:
            rows = session.execute(statement).all()
            orders = _orders(session, [run.id for run, _, _ in rows])
            return [_to_run(run, strategy, tenant, orders[run.id]) for run, strategy, tenant in rows]


def _to_row(run: Run) -> dict[str, object]:
    return {
        "id": str(run.id),
        "strategy_id": run.id.strategy_id,
        "trading_date": run.id.trading_date,
        "n": run.id.n,
        "buy_at": run.buy_at,
        "sell_at": run.sell_at,
        "closes_at": run.closes_at,
        "stop_units": run.stop_units,
        "status": run.status,
        "position": run.position,
        "exit_reason": run.exit_reason,
        "failure": run.failure,
    }


def _orders(session: Session, runs: Sequence[str]) -> Mapping[str, tuple[Order, ...]]:
    statement = select(OrderRow).where(OrderRow.run.in_(runs))
    found: defaultdict[str, tuple[Order, ...]] = defaultdict(tuple)
    for row in session.scalars(statement.order_by(OrderRow.leg, OrderRow.attempt)):
        found[row.run] += (_to_order(row),)
    return found


def _to_order(row: OrderRow) -> Order:
    return Order(
        client_order_id=row.client_order_id,
        leg=row.leg,
        side=row.side,
        attempt=row.attempt,
        quantity=row.quantity,
        status=row.status,
        send_by=row.send_by,
        settles_at=row.settles_at,
        broker_order_id=row.broker_order_id,
        filled_quantity=row.filled_quantity,
        average_price=row.average_price,
        filled_at=row.filled_at,
        updated_at=row.updated_at,
        reason=row.reason,
        given_up=row.given_up,
        granted_at=row.granted_at,
        session_ends=row.session_ends,
    )


def _to_run(row: RunRow, strategy: StrategyRow, tenant: str, orders: Iterable[Order]) -> Run:
    run = Run(
        id=RunId(row.strategy_id, row.trading_date, row.n),
        strategy=to_strategy(strategy, tenant),
        buy_at=row.buy_at,
        sell_at=row.sell_at,
        closes_at=row.closes_at,
        stop_units=row.stop_units,
        status=row.status,
        exit_reason=row.exit_reason,
        failure=row.failure,
        latch=LatchState.model_validate(row.latch).latch if row.latch else None,
        stop_requested=row.stop_requested,
        orders=tuple(orders),
    )
    # The orders tell of no sale: what was still held was sold by somebody else.
    return replace(run, closed_elsewhere=max(run.held, 0)) if row.failure == CLOSED_ELSEWHERE else run
