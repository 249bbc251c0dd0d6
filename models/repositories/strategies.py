"""The strategies: stored all or none, read back as domain values. Knows neither files nor runtimes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import takewhile

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from engine.domain.recurrence import DAILY, Recurrence, Weekday
from engine.domain.run import RunStatus
from engine.domain.strategy import Strategy
from engine.strategies import Draft
from models.database import Sessions
from models.tables import AccountRow, RunRow, StrategyRow, TenantRow

#: How far back a date may lie that is told of as missed.
LOOK_BACK = timedelta(days=31)
#: Tenant -> account name -> (tenant id, account id).
_AccountKeys = Mapping[str, Mapping[str, tuple[int, int]]]


class Refused(Exception):
    """Raised when drafts cannot be stored; names every one and stores none."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Strategies:
    """Every tenant's strategies."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, drafts: Sequence[Draft]) -> Sequence[Strategy]:
        """Store all of `drafts` or none of them, in their order; raises Refused."""
        if not drafts:
            return []
        with self._sessions.begin() as session:
            keys = _account_keys(session, {draft.tenant for draft in drafts})
            if problems := [*account_problems(drafts, keys), *_name_problems(session, drafts)]:
                raise Refused(problems)
            accounts = [_account_of(draft, keys) for draft in drafts]
            rows = [_to_row(draft, *account) for draft, account in zip(drafts, accounts, strict=True)]
            statement = insert(StrategyRow).on_conflict_do_nothing()
            ids = session.scalars(statement.returning(StrategyRow.id, sort_by_parameter_order=True), rows).all()
            if len(ids) != len(rows):
                # Somebody stored one of these names after we looked.
                raise Refused([*_name_problems(session, drafts)])
        pairs = zip(drafts, ids, accounts, strict=True)
        return [draft.strategy(strategy_id, account_id) for draft, strategy_id, (_, account_id) in pairs]

    def taken(self, drafts: Sequence[Draft]) -> Sequence[str]:
        """One line for each of `drafts` whose name its tenant has used for that date already."""
        with self._sessions() as session:
            return [*_name_problems(session, drafts)]

    def retire(self, strategy_id: int) -> bool:
        """Stop an active strategy that would get a run, or another one, so that it never does; whether it would."""
        may_get_one = or_(StrategyRow.repeat.is_not(None), ~_has_run())
        waits = (StrategyRow.id == strategy_id, StrategyRow.status == RunStatus.ACTIVE, may_get_one)
        statement = update(StrategyRow).where(*waits).values(status=RunStatus.STOPPED).returning(StrategyRow.id)
        with self._sessions.begin() as session:
            # `Runs.create_all` locks the same row: whichever is second sees what the first has done.
            session.execute(select(StrategyRow.id).where(StrategyRow.id == strategy_id).with_for_update())
            return session.scalar(statement) is not None

    def get(self, strategy_id: int) -> Strategy | None:
        """The strategy of that id."""
        found = self._read(_strategies().where(StrategyRow.id == strategy_id))
        return found[0] if found else None

    def named(self, name: str, tenant: str | None = None) -> Sequence[Strategy]:
        """Those of that name: several where tenants or trading dates share it."""
        statement = _strategies().where(StrategyRow.name == name)
        return self._read(statement if tenant is None else statement.where(TenantRow.name == tenant))

    def list(self, tenant: str | None = None, status: RunStatus | None = None) -> Sequence[Strategy]:
        """All, or those of `tenant`, or those in `status`."""
        statement = _strategies()
        if tenant is not None:
            statement = statement.where(TenantRow.name == tenant)
        if status is not None:
            statement = statement.where(StrategyRow.status == status)
        return self._read(statement)

    def statuses(self, tenant: str | None = None) -> dict[int, RunStatus]:
        """Strategy id -> status, of all or of `tenant`."""
        statement = select(StrategyRow.id, StrategyRow.status)
        if tenant is not None:
            statement = statement.join(TenantRow, TenantRow.id == StrategyRow.tenant_id)
            statement = statement.where(TenantRow.name == tenant)
        with self._sessions() as session:
            return dict(session.execute(statement).all())

    def unarmed(self, trading_date: date) -> Sequence[Strategy]:
        """Those to trade on `trading_date` that have no run for it yet; one that trades once has no run at all."""
        has_had_its_run = _has_run(or_(RunRow.trading_date == trading_date, StrategyRow.repeat.is_(None)))
        has_begun = or_(StrategyRow.trading_date <= trading_date, StrategyRow.trading_date.is_(None))
        # Only spares reading thousands twice a second that are not due: each that is read is asked the domain's rule.
        days = StrategyRow.repeat
        may_name_it = or_(days.is_(None), days == DAILY, days.contains(Weekday.of(trading_date).value))
        waits = (StrategyRow.status == RunStatus.ACTIVE, has_begun, may_name_it, ~has_had_its_run)
        return [each for each in self._read(_strategies().where(*waits)) if each.trades_on(trading_date)]

    def missed(self, day: date) -> Sequence[tuple[Strategy, date, datetime]]:
        """Active strategies with each of their dates before `day` that passed without a run, and when they were added.

        Of one that repeats: the dates since it had its newest run, and since that one was last written.
        """
        newest = select(func.max(RunRow.trading_date)).where(RunRow.strategy_id == StrategyRow.id).scalar_subquery()
        written = select(func.max(RunRow.updated_at)).where(RunRow.strategy_id == StrategyRow.id).scalar_subquery()
        may = or_(StrategyRow.repeat.is_not(None), and_(StrategyRow.trading_date < day, ~_has_run()))
        statement = _strategies().add_columns(newest, written).where(StrategyRow.status == RunStatus.ACTIVE, may)
        found: list[tuple[Strategy, date, datetime]] = []
        with self._sessions() as session:
            for row, tenant, last, at in session.execute(statement.order_by(StrategyRow.id)):
                strategy = to_strategy(row, tenant)
                if row.trading_date is not None and strategy.repeat is None:
                    found.append((strategy, row.trading_date, row.created_at))
                    continue
                since = row.created_at.date() if last is None else max(last, at.date()) + timedelta(days=1)
                dates = takewhile(lambda each: each < day, strategy.dates(max(since, day - LOOK_BACK)))
                found += [(strategy, each, row.created_at) for each in dates]
        return found

    def end_recurrences(self, trading_date: date) -> None:
        """Stop those whose last date was before `trading_date`; what their runs still hold is not touched."""
        is_over = (StrategyRow.status == RunStatus.ACTIVE, StrategyRow.until < trading_date)
        with self._sessions.begin() as session:
            session.execute(update(StrategyRow).where(*is_over).values(status=RunStatus.STOPPED))

    def _read(self, statement: Select[StrategyRow, str]) -> Sequence[Strategy]:
        with self._sessions() as session:
            rows = session.execute(statement.order_by(StrategyRow.id))
            return [to_strategy(row, tenant) for row, tenant in rows]


def to_strategy(row: StrategyRow, tenant: str) -> Strategy:
    """The domain's view of `row`."""
    return Strategy(
        id=row.id,
        name=row.name,
        tenant=tenant,
        account_id=row.account_id,
        symbol=row.symbol,
        quantity=row.quantity,
        buy_time=row.buy_time,
        sell_time=row.sell_time,
        stop_loss=row.stop_loss,
        product=row.product,
        order_type=row.order_type,
        on_abort=row.on_abort,
        trading_date=row.trading_date,
        repeat=Recurrence.named(row.repeat, row.until) if row.repeat else None,
    )


def _to_row(draft: Draft, tenant_id: int, account_id: int) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        "account_id": account_id,
        "name": draft.name,
        "symbol": draft.symbol,
        "quantity": draft.quantity,
        "buy_time": draft.buy_time,
        "sell_time": draft.sell_time,
        "stop_loss": draft.stop_loss,
        "product": draft.product,
        "order_type": draft.order_type,
        "on_abort": draft.on_abort,
        "trading_date": draft.trading_date,
        "repeat": draft.repeat.name if draft.repeat else None,
        "until": draft.repeat.until if draft.repeat else None,
        "status": RunStatus.ACTIVE,
    }


def _has_run(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(RunRow.strategy_id == StrategyRow.id, *conditions)


def _strategies() -> Select[StrategyRow, str]:
    return select(StrategyRow, TenantRow.name).join(TenantRow, TenantRow.id == StrategyRow.tenant_id)


def _account_keys(session: Session, tenants: set[str]) -> _AccountKeys:
    statement = select(TenantRow.name, AccountRow.name, TenantRow.id, AccountRow.id)
    statement = statement.join(AccountRow, AccountRow.tenant_id == TenantRow.id)
    keys: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for tenant, account, *ids in session.execute(statement.where(TenantRow.name.in_(tenants))):
        keys[tenant][account] = (ids[0], ids[1])
    return keys


def _account_of(draft: Draft, keys: _AccountKeys) -> tuple[int, int]:
    accounts = keys[draft.tenant]
    return accounts[draft.account] if draft.account else next(iter(accounts.values()))


def account_problems(drafts: Iterable[Draft], keys: Mapping[str, Mapping[str, object]]) -> Iterable[str]:
    """One line for each of `drafts` that no single account is meant by; `keys` by tenant and account name."""
    for draft in drafts:
        names = keys.get(draft.tenant, {}).keys()
        if not names:
            yield f"{draft.where}: tenant: {draft.tenant} has no account; add one first"
        elif draft.account and draft.account not in names:
            yield f"{draft.where}: account: {draft.tenant} has no account {draft.account}, but {', '.join(names)}"
        elif not draft.account and len(names) > 1:
            yield f"{draft.where}: account: is missing; {draft.tenant} has {', '.join(names)}"


def _name_problems(session: Session, drafts: Iterable[Draft]) -> Iterable[str]:
    wanted = Counter((draft.tenant, draft.name, draft.trading_date) for draft in drafts)
    statement = select(TenantRow.name, StrategyRow.name, StrategyRow.trading_date)
    statement = statement.join(TenantRow, TenantRow.id == StrategyRow.tenant_id).where(
        TenantRow.name.in_({tenant for tenant, _, _ in wanted}),
        StrategyRow.name.in_({name for _, name, _ in wanted}),
    )
    stored = {(tenant, name, day) for tenant, name, day in session.execute(statement)}
    for draft in drafts:
        key = (draft.tenant, draft.name, draft.trading_date)
        day = f" for {draft.trading_date}" if draft.trading_date else ""
        if key in stored:
            yield f"{draft.where}: name: {draft.tenant} already has a strategy of this name{day}"
        elif wanted[key] > 1:
            yield f"{draft.where}: name: is given {wanted[key]} times to {draft.tenant}{day}"
