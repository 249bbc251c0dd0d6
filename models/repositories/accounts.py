"""Tenants and their accounts. The only place where stored credentials become readable; knows no broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Select, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from models.database import Sessions
from models.secrets import Credentials
from models.tables import AccountRow, AccountState, TenantRow


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's account at a broker. `rates`: orders a window ("second", "minute", "day"), {} for the broker's own."""

    tenant: str
    name: str
    broker: str
    base_url: str
    ws_url: str
    credentials: Credentials = field(repr=False)
    rates: Mapping[str, int] = field(default_factory=dict)
    state: AccountState = AccountState.READY
    #: When it was last given an access token, real time; None where nobody knows.
    token_issued_at: datetime | None = None
    #: Whose login it is, as its broker calls them; None until a login told.
    broker_user: str | None = None
    #: 0 until it is stored.
    id: int = 0


class AccountExists(Exception):
    """Raised when a tenant already has an account of that name."""

    def __init__(self, tenant: str, name: str) -> None:
        super().__init__(f"{tenant} already has an account named {name}")


class LoginStored(Exception):
    """Raised when a login belongs to another account already: two would sell the same shares, each for itself."""

    def __init__(self, tenant: str, owner: str, name: str) -> None:
        """`tenant`: who is told; `owner`, `name`: whose account it is, which is none of another tenant's concern."""
        whose = f"{owner}/{name}" if owner == tenant else "an account of another tenant"
        super().__init__(f"this broker login is stored already, as {whose}: one login is one account")


class Tenants:
    """The tenants."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def ensure(self, name: str) -> int:
        """The id of the tenant `name`, created if absent."""
        with self._sessions.begin() as session:
            session.execute(insert(TenantRow).values(name=name).on_conflict_do_nothing())
            return session.scalars(select(TenantRow.id).where(TenantRow.name == name)).one()

    def list(self) -> Sequence[str]:
        """Every tenant's name."""
        with self._sessions() as session:
            return [*session.scalars(select(TenantRow.name).order_by(TenantRow.name))]


class Accounts:
    """The tenants' accounts."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, account: Account) -> int:
        """Store `account` and its tenant, if that is new; answers its id. Raises AccountExists, LoginStored."""
        tenant_id = Tenants(self._sessions).ensure(account.tenant)
        row = AccountRow(
            tenant_id=tenant_id,
            name=account.name,
            broker=account.broker,
            base_url=account.base_url,
            ws_url=account.ws_url,
            credentials=account.credentials,
            rates=dict(account.rates),
            state=account.state,
            token_issued_at=account.token_issued_at,
            broker_user=account.broker_user,
        )
        try:
            with self._sessions.begin() as session:
                session.add(row)
        except IntegrityError:
            self._refuse_login(account)
            raise AccountExists(account.tenant, account.name) from None
        return row.id

    def _refuse_login(self, account: Account) -> None:
        """Raise LoginStored where the login of `account` is another's."""
        if account.broker_user is None:
            return
        same = (AccountRow.broker == account.broker, AccountRow.broker_user == account.broker_user)
        # By their names alone: the other may be sealed with another key.
        statement = select(TenantRow.name, AccountRow.name).join(AccountRow, AccountRow.tenant_id == TenantRow.id)
        with self._sessions() as session:
            for tenant, name in session.execute(statement.where(*same)):
                if (tenant, name) != (account.tenant, account.name):
                    raise LoginStored(account.tenant, tenant, name) from None

    def get(self, account_id: int) -> Account | None:
        """The account of that id."""
        found = self._read(_accounts().where(AccountRow.id == account_id))
        return found[0] if found else None

    def named(self, tenant: str, name: str) -> Account | None:
        """The account `name` of `tenant`."""
        found = self._read(_accounts().where(TenantRow.name == tenant, AccountRow.name == name))
        return found[0] if found else None

    def list(self, tenant: str | None = None) -> Sequence[Account]:
        """Every account, or those of `tenant`."""
        statement = _accounts().order_by(TenantRow.name, AccountRow.name)
        return self._read(statement if tenant is None else statement.where(TenantRow.name == tenant))

    def set_state(self, account_id: int, state: AccountState) -> None:
        """Say whether the account may trade."""
        with self._sessions.begin() as session:
            session.execute(update(AccountRow).where(AccountRow.id == account_id).values(state=state))

    def move(self, broker: str, base_url: str, ws_url: str) -> None:
        """Say where `broker` answers from now on, for every account at it; whose logins they are there is not known."""
        statement = update(AccountRow).where(AccountRow.broker == broker)
        with self._sessions.begin() as session:
            session.execute(statement.values(base_url=base_url, ws_url=ws_url, broker_user=None))

    def renew(self, account_id: int, credentials: Credentials, at: datetime, broker_user: str | None = None) -> None:
        """Give the account new credentials, after a login at `at`; it is ready then unless an operator disabled it.

        `broker_user`: whose login that was, None where nobody told. Raises LoginStored: then nothing is changed.
        """
        try:
            with self._sessions.begin() as session:
                row = session.get_one(AccountRow, account_id)
                row.credentials, row.token_issued_at = credentials, at
                row.broker_user = broker_user or row.broker_user
                if row.state is AccountState.TOKEN_DEAD:
                    row.state = AccountState.READY
        except IntegrityError:
            known = self.get(account_id)
            if known is not None:
                self._refuse_login(replace(known, broker_user=broker_user))
            raise

    def _read(self, statement: Select[AccountRow, str]) -> Sequence[Account]:
        with self._sessions() as session:
            return [_to_account(row, tenant) for row, tenant in session.execute(statement)]


def _accounts() -> Select[AccountRow, str]:
    return select(AccountRow, TenantRow.name).join(TenantRow, TenantRow.id == AccountRow.tenant_id)


def _to_account(row: AccountRow, tenant: str) -> Account:
    return Account(
        tenant=tenant,
        name=row.name,
        broker=row.broker,
        base_url=row.base_url,
        ws_url=row.ws_url,
        credentials=row.credentials,
        rates=row.rates,
        state=row.state,
        token_issued_at=row.token_issued_at,
        broker_user=row.broker_user,
        id=row.id,
    )
