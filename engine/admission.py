"""Admits strategies: checks drafts against accounts, their brokers' instruments and the calendar, then stores them all.

Every problem of every draft is told at once, and nothing is stored where there is one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from broker_connector.registry import Credentials, connect
from engine.calendar import Calendar
from engine.domain.broker import BrokerUnreachable, Instrument, TokenInvalid
from engine.domain.strategy import Strategy, UnconfirmedYear
from engine.instruments import MOST_SILENT
from engine.stop_prices import doubts
from engine.strategies import Draft, StrategyFileError, check, first_date
from models.database import Sessions
from models.repositories.accounts import Account, Accounts
from models.repositories.strategies import Strategies, account_problems
from models.tables import AccountState

#: Tenant -> account name -> account.
_AccountsOf = Mapping[str, Mapping[str, Account]]


class InstrumentsUnknown(Exception):
    """Raised when a broker does not say what can be traded there; nothing was stored."""

    def __init__(self, broker: str, base_url: str, tenant: str, reason: str) -> None:
        super().__init__(f"cannot read the instruments of {broker} at {base_url} as {tenant} ({reason}): try again")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A stored strategy and the date it trades next."""

    strategy: Strategy
    trades_on: date
    #: What is doubtful about it by the prices of now, "" where nothing is.
    warning: str = ""


class Admission:
    """One look at drafts, at market time `now`."""

    def __init__(self, sessions: Sessions, calendar: Calendar, now: datetime) -> None:
        self._sessions = sessions
        self._calendar = calendar
        self._now = now
        self._stored: Sequence[Account] = Accounts(sessions).list()

    def admit(
        self, drafts: Sequence[Draft], source: str, new_account: Callable[[str], Account] | None = None
    ) -> list[Admitted]:
        """Store all of `drafts`, or none and raise StrategyFileError, Refused or InstrumentsUnknown.

        `new_account` makes the account of a tenant that has none, where such accounts can be opened freely.
        """
        known = {account.tenant for account in self._stored}
        tenants = sorted({draft.tenant for draft in drafts} - known) if new_account is not None else []
        fresh = [new_account(tenant) for tenant in tenants] if new_account is not None else []
        accounts = _by_tenant([*self._stored, *fresh])
        wrong = [*account_problems(drafts, accounts), *Strategies(self._sessions).taken(drafts)]
        wrong += self._market_problems(drafts, accounts)
        if wrong:
            raise StrategyFileError(source, wrong)
        for account in fresh:
            Accounts(self._sessions).add(account)
        stored = Strategies(self._sessions).add(drafts)
        # Once all is stored: a broker that is slow to tell its prices holds nothing up, and half of nothing is done.
        warnings = doubts(stored, {account.id: account for account in Accounts(self._sessions).list()})
        return [
            Admitted(each, self._first_date(draft), warnings.get(each.id, ""))
            for draft, each in zip(drafts, stored, strict=True)
        ]

    def _market_problems(self, drafts: Iterable[Draft], accounts: _AccountsOf) -> Iterator[str]:
        """What the market forbids, asked once for each broker and exchange."""
        groups: defaultdict[tuple[str, str, str], list[Draft]] = defaultdict(list)
        for draft in drafts:
            account = _account_of(draft, accounts)
            if account is not None:
                groups[account.broker, account.base_url, draft.exchange].append(draft)
        for (broker, base_url, exchange), group in groups.items():
            try:
                day = self._calendar.next_session(exchange, self._now).date
            except UnconfirmedYear as error:
                yield from (f"{draft.where}: trading_date: {error}" for draft in group)
                continue
            instruments = self._instruments(broker, base_url, exchange)
            yield from check(group, instruments, self._calendar, day)
            yield from self._passed(group, day)

    def _instruments(self, broker: str, base_url: str, exchange: str) -> Mapping[str, Instrument]:
        """What the broker lists, read with any account there whose login lives: each of them lists the same."""
        there = [each for each in self._stored if each.broker == broker and each.base_url == base_url]
        # Those known to be dead last; a reading that lists nothing is none.
        there.sort(key=lambda each: (each.state is not AccountState.READY, each.id))
        refused = ("", "there is no account")
        silent = 0
        for account in there:
            try:
                if found := _read(account, exchange):
                    return found
                refused = account.tenant, f"nothing is listed at {exchange}"
            except (BrokerUnreachable, TokenInvalid) as error:
                refused = account.tenant, str(error)
                silent += isinstance(error, BrokerUnreachable)
            if silent == MOST_SILENT:
                break
        raise InstrumentsUnknown(broker, base_url, *refused)

    def _passed(self, drafts: Iterable[Draft], next_day: date) -> Iterator[str]:
        """Drafts that could only be missed."""
        for draft in drafts:
            day = first_date(draft, self._calendar, next_day)
            if day is not None and self._calendar.to_utc(draft.exchange, day, draft.buy_time) <= self._now:
                hint = "" if draft.trading_date else "; name a later trading_date"
                yield f"{draft.where}: buy_time: {draft.buy_time} on {day} has passed{hint}"

    def _first_date(self, draft: Draft) -> date:
        day = first_date(draft, self._calendar, self._calendar.next_session(draft.exchange, self._now).date)
        assert day is not None, "a draft without one is refused"
        return day


def _read(account: Account, exchange: str) -> Mapping[str, Instrument]:
    secrets = account.credentials.values
    connector = connect(account.broker, account.base_url, Credentials(secrets["api_key"], secrets["access_token"]))
    try:
        return {instrument.symbol: instrument for instrument in connector.instruments(exchange)}
    finally:
        connector.close()


def _by_tenant(accounts: Iterable[Account]) -> _AccountsOf:
    found: defaultdict[str, dict[str, Account]] = defaultdict(dict)
    for account in accounts:
        found[account.tenant][account.name] = account
    return found


def _account_of(draft: Draft, accounts: _AccountsOf) -> Account | None:
    """The account `draft` means; None where that is in doubt, which `account_problems` tells."""
    own = accounts.get(draft.tenant, {})
    if draft.account:
        return own.get(draft.account)
    return next(iter(own.values())) if len(own) == 1 else None
