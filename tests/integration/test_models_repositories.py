"""The repositories on a real PostgreSQL: domain values in, the same domain values out."""

import logging
import threading
import time as clock
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, StatementError

from broker_connector.kite import KITE_PROFILE
from engine.brokers import credentials_of
from engine.calendar import Calendar, Override, OverrideKind
from engine.domain.orders import Leg, OrderType, Product
from engine.domain.recurrence import Recurrence
from engine.domain.run import Run, RunId, RunStatus, client_order_id
from engine.domain.strategy import AbortPolicy
from engine.strategies import Draft
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.durable import DurableState
from models.repositories import (
    Account,
    Accounts,
    Alerts,
    CalendarTable,
    EngineEpoch,
    Epoch,
    Refused,
    Runs,
    Strategies,
    Tenants,
)
from models.repositories.accounts import AccountExists
from models.secrets import Credentials, Encrypted, SecretsUnavailable
from models.tables import AccountState

DAY = date(2026, 1, 5)
MON_WED = Recurrence.named("mon,wed", date(2026, 1, 13))
SECRET = "not-to-be-seen"
ACCOUNT = Account(
    tenant="tenant-1",
    name="main",
    broker="kite",
    base_url="http://127.0.0.1:1",
    ws_url="ws://127.0.0.1:1",
    credentials=Credentials({"api_key": "key", "access_token": SECRET}),
    rates={"second": 10},
)
DRAFT = Draft(
    name="INFY-0",
    tenant="tenant-1",
    account="",
    symbol="NSE:INFY",
    quantity=10,
    buy_time=time(9, 40),
    sell_time=time(14, 30),
    stop_loss=Decimal("1412.35"),
    where="strategies[0] (INFY-0)",
)


@pytest.fixture
def sessions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    """Sessions on a migrated, empty database, with a secret key of its own."""
    monkeypatch.setattr(Encrypted, "_cipher", None)
    Encrypted.use(Fernet.generate_key().decode())
    schema.upgrade(database_url)
    database = open_database(database_url)
    yield sessions_of(database)
    database.dispose()


@pytest.fixture
def strategies(sessions: Sessions) -> Strategies:
    """A repository whose tenant-1 has one account."""
    Accounts(sessions).add(ACCOUNT)
    return Strategies(sessions)


def test_a_tenant_is_created_once(sessions: Sessions) -> None:
    tenants = Tenants(sessions)
    assert tenants.ensure("tenant-1") == tenants.ensure("tenant-1")
    tenants.ensure("tenant-0")
    assert tenants.list() == ["tenant-0", "tenant-1"]


def test_an_account_comes_back_as_it_was_stored(sessions: Sessions) -> None:
    accounts = Accounts(sessions)
    stored = replace(ACCOUNT, id=accounts.add(ACCOUNT))
    assert accounts.get(stored.id) == accounts.named("tenant-1", "main") == stored
    assert stored.credentials.values["access_token"] == SECRET
    assert accounts.get(0) is None
    accounts.add(replace(ACCOUNT, tenant="tenant-2"))
    assert [account.tenant for account in accounts.list()] == ["tenant-1", "tenant-2"]
    assert accounts.list("tenant-1") == [stored]
    with pytest.raises(AccountExists, match="tenant-1 already has an account named main"):
        accounts.add(ACCOUNT)


def test_a_broker_that_moved_takes_its_own_accounts_along(sessions: Sessions) -> None:
    accounts = Accounts(sessions)
    ids = [accounts.add(replace(ACCOUNT, name=broker, broker=broker)) for broker in ("paper", "kite")]
    accounts.move("paper", "http://new", "ws://new")
    found = [accounts.get(each) for each in ids]
    assert [(each.base_url, each.ws_url) for each in found if each is not None] == [
        ("http://new", "ws://new"),
        (ACCOUNT.base_url, ACCOUNT.ws_url),
    ]


def test_a_login_makes_an_account_ready_unless_it_is_disabled(sessions: Sessions) -> None:
    accounts = Accounts(sessions)
    account_id = accounts.add(ACCOUNT)
    for before, after in (
        (AccountState.TOKEN_DEAD, AccountState.READY),
        (AccountState.DISABLED, AccountState.DISABLED),
    ):
        accounts.set_state(account_id, before)
        accounts.renew(account_id, Credentials({"access_token": before}), datetime(2026, 1, 5, 3, tzinfo=UTC))
        renewed = accounts.get(account_id)
        assert renewed is not None
        assert (renewed.state, renewed.credentials.values["access_token"]) == (after, before)


def test_credentials_are_plain_neither_in_the_row_nor_in_a_repr_nor_in_a_log(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    accounts = Accounts(sessions)
    account_id = accounts.add(ACCOUNT)
    with pytest.raises(AccountExists) as refused:
        accounts.add(ACCOUNT)
    with sessions() as session:
        row = session.execute(text("SELECT accounts::text FROM accounts")).scalar_one()
    for shown in (row, repr(accounts.get(account_id)), str(accounts.list()), caplog.text, repr(refused.value)):
        assert SECRET not in shown


def test_accounts_are_told_though_one_was_sealed_with_another_key(sessions: Sessions) -> None:
    accounts, key = Accounts(sessions), Fernet.generate_key()
    accounts.add(ACCOUNT)
    Encrypted.use(key.decode())
    accounts.add(replace(ACCOUNT, name="other"))
    told = DurableState(sessions).accounts()
    assert [account.name for account in told] == [ACCOUNT.name, "other"]
    # It is as one that was never logged in.
    assert credentials_of(told[0], lambda sealed: Fernet(key).decrypt(sealed).decode()).access_token == ""
    assert credentials_of(told[1], lambda sealed: Fernet(key).decrypt(sealed).decode()).access_token == SECRET


def test_without_the_key_nothing_is_stored_and_the_error_shows_no_secret(sessions: Sessions) -> None:
    Encrypted._cipher = None
    with pytest.raises(StatementError, match="no secret key is set") as refused:
        Accounts(sessions).add(ACCOUNT)
    assert SECRET not in str(refused.value)


def test_a_rotated_key_still_reads_and_another_key_does_not(sessions: Sessions) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    Encrypted.use(old)
    account_id = Accounts(sessions).add(ACCOUNT)
    Encrypted.use(new, old)
    found = Accounts(sessions).get(account_id)
    assert found is not None
    assert found.credentials == ACCOUNT.credentials
    Encrypted.use(new)
    with pytest.raises(SecretsUnavailable, match="do not fit"):
        Accounts(sessions).get(account_id)


def test_a_strategy_comes_back_as_it_was_drafted(strategies: Strategies) -> None:
    draft = replace(
        DRAFT, product=Product.DELIVERY, order_type=OrderType.MARKET, on_abort=AbortPolicy.FREEZE, trading_date=DAY
    )
    (added,) = strategies.add([draft])
    assert strategies.get(added.id) == added == draft.strategy(added.id, added.account_id)
    assert strategies.list() == strategies.list("tenant-1") == strategies.named("INFY-0") == [added]
    assert strategies.list("tenant-2") == strategies.named("INFY-0", "tenant-2") == []
    assert strategies.statuses() == strategies.statuses("tenant-1") == {added.id: RunStatus.ACTIVE}
    assert strategies.list(status=RunStatus.FAILED) == []
    assert strategies.get(0) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tenant": "nobody"}, "tenant: nobody has no account; add one first"),
        ({"account": "other"}, "account: tenant-1 has no account other, but main"),
        ({"name": "STORED"}, "name: tenant-1 already has a strategy of this name"),
        ({"name": "FRESH"}, "name: is given 2 times to tenant-1"),
    ],
)
def test_one_wrong_draft_refuses_them_all(strategies: Strategies, changes: Mapping[str, Any], problem: str) -> None:
    stored = strategies.add([replace(DRAFT, name="STORED")])
    wrong = replace(DRAFT, where="strategies[1]", **changes)
    with pytest.raises(Refused) as refused:
        strategies.add([replace(DRAFT, name="FRESH"), wrong])
    assert f"strategies[1]: {problem}" in refused.value.problems
    assert strategies.list() == stored


def test_a_tenant_with_two_accounts_must_name_one(sessions: Sessions, strategies: Strategies) -> None:
    second = Accounts(sessions).add(replace(ACCOUNT, name="second"))
    with pytest.raises(Refused, match="account: is missing; tenant-1 has main, second"):
        strategies.add([DRAFT])
    (added,) = strategies.add([replace(DRAFT, account="second")])
    assert added.account_id == second


def test_a_name_is_free_again_on_another_date_and_for_another_tenant(
    sessions: Sessions, strategies: Strategies
) -> None:
    Accounts(sessions).add(replace(ACCOUNT, tenant="tenant-2"))
    drafts = [
        DRAFT,
        replace(DRAFT, trading_date=DAY),
        replace(DRAFT, trading_date=date(2026, 1, 6)),
        replace(DRAFT, tenant="tenant-2"),
    ]
    assert len({strategy.id for strategy in strategies.add(drafts)}) == 4
    with pytest.raises(Refused, match="already has a strategy of this name for 2026-01-05"):
        strategies.add([replace(DRAFT, trading_date=DAY)])


def test_no_strategy_can_be_stored_on_another_tenants_account(sessions: Sessions, strategies: Strategies) -> None:
    (added,) = strategies.add([DRAFT])
    other = Tenants(sessions).ensure("tenant-2")
    move = text("UPDATE strategies SET tenant_id = :other WHERE id = :id")
    with sessions() as session, pytest.raises(IntegrityError, match="fk_strategies_accounts"):
        session.execute(move, {"other": other, "id": added.id})


def test_five_thousand_strategies_are_stored_within_ten_seconds(strategies: Strategies) -> None:
    drafts = [replace(DRAFT, name=f"S-{n}") for n in range(5_000)]
    began = clock.monotonic()
    added = strategies.add(drafts)
    assert clock.monotonic() - began < 10
    assert [strategy.name for strategy in added] == [draft.name for draft in drafts]
    assert strategies.list() == added


def _run(strategy_id: int, strategies: Strategies, day: date = DAY, n: int = 1) -> Run:
    strategy = strategies.get(strategy_id)
    assert strategy is not None
    at = Calendar().to_utc("NSE", day, strategy.buy_time), Calendar().to_utc("NSE", day, strategy.sell_time)
    closes_at = Calendar().to_utc("NSE", day, time(15, 30))
    return Run(RunId(strategy_id, day, n), strategy, *at, closes_at, stop_units=141235)


def test_a_run_is_created_once_and_comes_back_whole(sessions: Sessions, strategies: Strategies) -> None:
    (added,) = strategies.add([DRAFT])
    runs, run = Runs(sessions), _run(added.id, strategies)
    assert runs.create(run) is True
    assert runs.create(replace(run, stop_units=1)) is False
    assert runs.get(run.id) == run
    assert runs.open() == runs.of_date(DAY) == [run]
    assert runs.of_date(date(2026, 1, 6)) == []
    assert runs.orders(run.id) == ()
    assert runs.get(RunId(added.id, DAY, 2)) is None


def test_a_run_keeps_the_times_another_session_gave_it(sessions: Sessions, strategies: Strategies) -> None:
    (added,) = strategies.add([DRAFT])
    runs, run = Runs(sessions), _run(added.id, strategies)
    other = _run(added.id, strategies, n=2)
    runs.create_all([run, other])
    moved = replace(run, sell_at=run.sell_at - timedelta(hours=1), closes_at=run.closes_at - timedelta(hours=1))
    DurableState(sessions).reschedule(moved)
    assert runs.of_date(DAY) == [moved, other]


def test_many_runs_are_created_at_once_and_those_that_exist_are_left_alone(
    sessions: Sessions, strategies: Strategies
) -> None:
    (added,) = strategies.add([DRAFT])
    runs = Runs(sessions)
    three = [_run(added.id, strategies, n=n) for n in range(1, 4)]
    runs.create(three[0])
    assert runs.create_all([]) == 0
    assert runs.create_all([replace(three[0], stop_units=1), *three[1:]]) == 2
    assert runs.of_date(DAY) == three


def test_a_strategy_being_retired_gets_no_run_and_one_that_got_a_run_is_not_retired(
    sessions: Sessions, strategies: Strategies
) -> None:
    (added,) = strategies.add([DRAFT])
    runs, run = Runs(sessions), _run(added.id, strategies)
    created: list[int] = []
    arming = threading.Thread(target=lambda: created.append(runs.create_all([run])))
    with sessions.begin() as retiring:
        # Half way through `retire`: the row is locked and not yet committed.
        retiring.execute(text("UPDATE strategies SET status = 'stopped' WHERE id = :id"), {"id": added.id})
        arming.start()
        arming.join(0.5)
        assert created == [], "arming did not wait for the one who retires"
    arming.join()
    assert (created, runs.of_date(DAY)) == ([0], [])
    (other,) = strategies.add([replace(DRAFT, name="other")])
    assert runs.create(_run(other.id, strategies)) is True
    assert strategies.retire(other.id) is False


def test_unarmed_are_the_active_strategies_of_the_date_without_a_run(
    sessions: Sessions, strategies: Strategies
) -> None:
    dated, other_day, undated, armed, stopped = strategies.add(
        [
            replace(DRAFT, name="dated", trading_date=DAY),
            replace(DRAFT, name="other day", trading_date=date(2026, 1, 6)),
            replace(DRAFT, name="undated"),
            replace(DRAFT, name="armed"),
            replace(DRAFT, name="stopped"),
        ]
    )
    Runs(sessions).create(_run(armed.id, strategies))
    with sessions.begin() as session:
        session.execute(text("UPDATE strategies SET status = 'stopped' WHERE id = :id"), {"id": stopped.id})
    assert strategies.unarmed(DAY) == [dated, undated]
    assert strategies.unarmed(other_day.trading_date or DAY) == [other_day, undated]


def test_a_strategy_that_repeats_is_armed_once_a_day_by_whichever_recoverer(sessions: Sessions) -> None:
    Accounts(sessions).add(ACCOUNT)
    (added,) = Strategies(sessions).add([replace(DRAFT, repeat=MON_WED, trading_date=DAY)])
    assert Strategies(sessions).get(added.id) == added
    armed: list[date] = []
    for day in (DAY + timedelta(days=n) for n in range(-1, 9)):
        for _restart in range(2):
            durable = DurableState(sessions)
            for each in durable.unarmed(day):
                durable.create_runs([_run(each.id, Strategies(sessions), day)])
                armed.append(day)
    assert armed == [date(2026, 1, 5), date(2026, 1, 7), date(2026, 1, 12)]
    runs = Runs(sessions).of_strategies([added.id])
    assert [run.id.trading_date for run in runs] == armed
    assert len({client_order_id("EE", run.id, Leg.ENTRY, 1) for run in runs}) == len(runs)
    # Its last date is over, and so is it.
    assert Strategies(sessions).statuses() == {added.id: RunStatus.ACTIVE}
    DurableState(sessions).unarmed(date(2026, 1, 14))
    assert Strategies(sessions).statuses() == {added.id: RunStatus.STOPPED}


def test_one_that_repeats_is_retired_with_runs_and_then_gets_no_other(
    sessions: Sessions, strategies: Strategies
) -> None:
    (added,) = strategies.add([replace(DRAFT, repeat=Recurrence())])
    assert Runs(sessions).create(_run(added.id, strategies)) is True
    tomorrow = DAY + timedelta(days=1)
    assert strategies.unarmed(tomorrow) == [added]
    assert [strategies.retire(added.id), strategies.retire(added.id)] == [True, False]
    assert strategies.unarmed(tomorrow) == []
    assert Runs(sessions).create(_run(added.id, strategies, tomorrow)) is False


def test_an_alert_is_listed_newest_first_and_acknowledged_once(sessions: Sessions) -> None:
    alerts = Alerts(sessions)
    at = [datetime(2026, 1, 5, 4, minute, tzinfo=UTC) for minute in range(3)]
    first = alerts.add(at[0], "critical", "feed_silent", "no tick for 5 s")
    second = alerts.add(at[1], "warning", "lost_lock", "lease ran out", tenant="tenant-1", run="17-20260105-1")
    assert [alert.id for alert in alerts.list()] == [second, first]
    assert [alert.id for alert in alerts.list("tenant-1")] == [second]
    assert alerts.ack(first, at[2]) is True
    assert alerts.ack(first, at[1]) is False
    assert alerts.ack(0, at[2]) is False
    assert [alert.id for alert in alerts.list(unacked=True)] == [second]
    assert [alert.acked_at for alert in alerts.list(limit=5)] == [None, at[2]]


def test_the_epoch_only_ever_advances(sessions: Sessions) -> None:
    epoch = Epoch(sessions)
    assert epoch.read() is None
    assert epoch.advance("redis-a") == EngineEpoch(1, "redis-a")
    assert epoch.advance("redis-b") == epoch.read() == EngineEpoch(2, "redis-b")


def test_the_operators_calendar_reaches_the_calendar(sessions: Sessions) -> None:
    table = CalendarTable(sessions)
    table.override(Override("NSE", DAY, OverrideKind.CLOSED, note="a first word"))
    special = Override("NSE", DAY, OverrideKind.SPECIAL, time(18, 15), time(19, 15), "Muhurat")
    table.override(special)
    table.confirm_year("NSE", 2027, "an operator")
    table.confirm_year("NSE", 2027, "an operator")
    assert table.overrides() == [special]
    assert table.confirmed_years() == {("NSE", 2027)}
    calendar = Calendar(table.overrides(), table.confirmed_years())
    session = calendar.session("NSE", DAY)
    assert session is not None
    assert session.opens == datetime(2026, 1, 5, 12, 45, tzinfo=UTC)
    assert calendar.session("NSE", date(2027, 1, 26)) is None


def test_an_account_without_rates_has_its_brokers_and_details_of_one_name_for_every_reader(sessions: Sessions) -> None:
    Accounts(sessions).add(ACCOUNT)
    Accounts(sessions).add(replace(ACCOUNT, name="second", rates={}))
    promised = replace(KITE_PROFILE, rates={"minute": 400})
    own, theirs = DurableState(sessions, profile_of=lambda _broker: promised).accounts()
    assert dict(own.limits) == {"rate_second": 10, "reserve_second": 2}
    assert dict(theirs.limits) == {"rate_minute": 400, "reserve_minute": 80}
    assert [each.version for each in DurableState(sessions).accounts()] == [own.version, theirs.version]


def test_a_login_gives_an_account_a_token_that_ends_when_its_broker_says(sessions: Sessions) -> None:
    accounts, durable = Accounts(sessions), DurableState(sessions, profile_of=lambda _broker: KITE_PROFILE)
    account_id = accounts.add(ACCOUNT)
    assert [each.token_ends for each in durable.accounts()] == [None]
    accounts.renew(account_id, Credentials({"access_token": "new"}), datetime(2026, 1, 5, 3, tzinfo=UTC))
    (account,) = durable.accounts()
    assert account.token_ends == datetime(2026, 1, 6, 0, 30, tzinfo=UTC)
    assert [each.token_ends for each in DurableState(sessions).accounts()] == [None]
