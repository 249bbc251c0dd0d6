"""`engine strategy` on real servers and the real paper broker: what is refused is named and not stored."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from broker_connector.paper.process import PaperControl
from engine import bootstrap
from engine.calendar import ZONES
from engine.cli import main
from engine.clock import RealTime
from engine.config import settings
from engine.domain.account_positions import AccountReading, SeenOrder
from engine.domain.broker import NetPosition
from engine.domain.orders import Order, OrderStatus
from engine.domain.recurrence import Weekday
from engine.domain.run import Run, RunId, RunStatus
from engine.domain.strategy import Strategy
from engine.runtime import keys
from engine.runtime.connect import connect
from engine.runtime.epoch import EpochGuard
from engine.runtime.store import RedisStore
from models import schema
from models.database import Sessions
from models.repositories.accounts import Account, Accounts
from models.repositories.runs import Runs
from models.repositories.strategies import Strategies
from models.secrets import Credentials
from tests.builders import entry
from tests.desk import CREDENTIALS, environment

#: Tomorrow at the exchange: whatever the hour, nothing on it has passed.
TOMORROW = datetime.now(ZONES["NSE"]).date() + timedelta(days=1)
GOOD = {
    "name": "first",
    "tenant": "acme",
    "symbol": "INFY",
    "quantity": 10,
    "buy_time": "10:00",
    "sell_time": "15:00",
    "stop_loss": "1500.00",
    "trading_date": str(TOMORROW),
}


@dataclass
class Told:
    """What one call of the command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Told]


@pytest.fixture
def sessions(
    redis: Redis, valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sessions]:
    """The durable state of an engine the environment names."""
    chosen = environment(valkey_url, database_url) | {"ENGINE_CALENDAR": "always_open"}
    for name, value in (chosen | {"ENGINE_STATE_DIR": str(tmp_path / "state")}).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    schema.upgrade(database_url)
    found = bootstrap.database(settings())
    yield found
    settings.cache_clear()
    found.kw["bind"].dispose()


@pytest.fixture
def account(sessions: Sessions, paper: PaperControl) -> int:
    """The one account, of tenant acme."""
    return Accounts(sessions).add(
        Account("acme", "paper", "paper", paper.base_url, paper.ws_url, Credentials(CREDENTIALS))
    )


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the command as the console script does."""

    def run(*words: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["engine", "strategy", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Told(ended.value.code if isinstance(ended.value.code, int) else 0, told.out, told.err)

    return run


@pytest.fixture
def add(call: Call, tmp_path: Path) -> Call:
    """Adds strategies given as dictionaries."""

    def run(*strategies: dict[str, Any]) -> Told:
        file = tmp_path / "strategies.json"
        file.write_text(json.dumps(strategies))
        return call("add", str(file), "--json")

    return run


@pytest.fixture(scope="session")
def redis_url(valkey_url: str) -> str:
    """One server: which it is makes no difference to the command line."""
    return valkey_url


def test_what_is_added_is_told_and_stored_with_its_defaults(add: Call, account: int, sessions: Sessions) -> None:
    told = add(GOOD, GOOD | {"name": "second", "symbol": "TCS", "stop_loss": "3900"})
    assert told.code == 0
    assert [row["name"] for row in told.json] == ["first", "second"]
    assert told.json[0]["trades_on"] == str(TOMORROW)
    stored = Strategies(sessions).list()
    kinds = {(each.account_id, each.product.value, each.order_type.value) for each in stored}
    assert kinds == {(account, "intraday", "market")}


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"stop_loss": None}, "stop_loss", "must be a price"),
        ({"stop_loss": "1500.02"}, "stop_loss", "tick size 0.05"),
        ({"stop_loss": "-1"}, "stop_loss", "above 0"),
        ({"quantity": 0}, "quantity", "greater than 0"),
        ({"quantity": "10"}, "quantity", "integer"),
        ({"symbol": "NOTHING"}, "symbol", "not an instrument"),
        ({"symbol": "infy"}, "symbol", "capitals"),
        ({"sell_time": "09:59"}, "sell_time", "not after buy_time"),
        ({"buy_time": "25:00"}, "buy_time", "must be a time"),
        ({"trading_date": "2026-13-01"}, "trading_date", ""),
        ({"trading_date": "2021-04-12"}, "buy_time", "has passed"),
        ({"order_type": "limit"}, "order_type", "market"),
        ({"product": "futures"}, "product", "one of"),
        ({"tenant": "nobody"}, "tenant", "no account"),
        ({"account": "other"}, "account", "no account other"),
        ({"limit_price": "1"}, "limit_price", "not a field"),
        ({"name": " "}, "name", "printable"),
        ({"repeat": "weekly"}, "repeat", "daily"),
        ({"until": str(TOMORROW)}, "until", "needs repeat"),
        ({"repeat": "daily", "until": str(TOMORROW - timedelta(days=1))}, "until", "before trading_date"),
    ],
)
def test_a_refusal_names_the_strategy_and_its_field_and_stores_nothing(
    add: Call, account: int, sessions: Sessions, change: dict[str, Any], field: str, text: str
) -> None:
    told = add(GOOD | {"name": "sound"}, GOOD | change)
    assert told.code == 2
    (line,) = [line for line in told.err.splitlines() if line.startswith("  ")]
    assert line.startswith("  strategies[1]")
    assert f" {field}: " in line
    assert text in line
    assert Strategies(sessions).list() == []


def test_every_problem_of_every_strategy_is_told_at_once(add: Call, account: int) -> None:
    told = add(
        GOOD | {"stop_loss": "1500.01"}, GOOD | {"name": "b", "tenant": "nobody"}, GOOD | {"name": "c", "symbol": "X"}
    )
    assert [line.split(": ")[1] for line in told.err.splitlines() if line.startswith("  ")] == [
        "tenant",
        "stop_loss",
        "symbol",
    ]


def test_a_name_is_taken_once_for_a_date(add: Call, account: int, sessions: Sessions) -> None:
    assert add(GOOD).code == 0
    told = add(GOOD, GOOD | {"name": "fresh"})
    assert told.code == 2
    assert "name: acme already has a strategy of this name" in told.err
    assert len(Strategies(sessions).list()) == 1


@pytest.mark.parametrize("words", [("add", "missing.json"), ("stop", "none"), ("show", "none")])
def test_what_is_not_there_is_one_line(call: Call, account: int, words: tuple[str, ...]) -> None:
    told = call(*words)
    assert told.code == 2
    assert len(told.err.splitlines()) == 1


def test_without_an_engine_it_says_how_to_start_one(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_STATE_DIR", str(tmp_path / "state"))
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    told = call("list")
    assert told.code == 2
    assert "engine up --market synthetic" in told.err


def test_a_database_without_an_engine_is_one_line(
    call: Call, valkey_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(valkey_url, database_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENGINE_STATE_DIR", str(tmp_path / "state"))
    told = call("list")
    assert (told.code, len(told.err.splitlines())) == (2, 1)


def test_five_thousand_are_added_in_one_call(add: Call, account: int, sessions: Sessions) -> None:
    began = datetime.now(UTC)
    told = add(*(GOOD | {"name": f"s{number}"} for number in range(5000)))
    assert told.code == 0
    assert len(told.json) == 5000
    assert datetime.now(UTC) - began < timedelta(seconds=10)


def test_list_shows_the_strategies_of_one_tenant_or_all(add: Call, call: Call, account: int) -> None:
    add(GOOD)
    (row,) = call("list", "--tenant", "acme", "--json").json
    assert (row["name"], row["status"], row["position"]) == ("first", "active", "none")
    assert call("list", "--tenant", "nobody", "--json").json == []
    assert "first" in call("list").out


def test_a_strategy_without_a_run_is_kept_from_getting_one(
    add: Call, call: Call, account: int, sessions: Sessions
) -> None:
    add(GOOD)
    told = call("stop", "first")
    assert told.code == 0
    assert "gets none" in told.out
    assert Strategies(sessions).unarmed(TOMORROW) == []
    assert "ended already" in call("stop", "first").out


@pytest.mark.parametrize(("options", "mode"), [((), "close"), (("--leave",), "leave")])
def test_a_stop_is_written_into_the_run_before_it_is_announced(
    add: Call, call: Call, account: int, sessions: Sessions, redis: Redis, options: tuple[str, ...], mode: str
) -> None:
    add(GOOD)
    run = armed(sessions, Strategies(sessions).list()[0])
    told = call("stop", "first", *options)
    assert told.code == 0
    assert "is being stopped" in told.out
    assert redis.hget(keys.runtime(str(run.id)), "stop_requested") == mode
    assert [name for name in redis.keys("safety*") if redis.type(name) == "list"] != []
    (shown,) = call("show", "first", "--json").json[0]["runs"]
    assert (shown["live"], shown["stop_requested"]) == (True, mode)


WEEK = timedelta(days=7)
REPEATING = GOOD | {"repeat": "daily", "until": str(TOMORROW + WEEK)}


def test_one_that_repeats_is_shown_with_its_next_date_and_each_of_its_runs(
    add: Call, call: Call, account: int, sessions: Sessions
) -> None:
    weekday = [*Weekday][(TOMORROW + timedelta(days=2)).weekday()]
    assert add(REPEATING).json[0]["trades_on"] == str(TOMORROW)
    (row,) = call("list", "--json").json
    assert (row["repeat"], row["until"], row["next_date"]) == ("daily", str(TOMORROW + WEEK), str(TOMORROW))
    assert add(GOOD | {"name": "second", "repeat": [weekday]}).json[0]["trades_on"] == str(TOMORROW + timedelta(days=2))
    strategy = Strategies(sessions).list()[0]
    days = [TOMORROW, TOMORROW + timedelta(days=1)]
    runs = [armed(sessions, strategy, day=day) for day in days]
    (shown,) = call("show", "first", "--json").json
    assert [each["run"] for each in shown["runs"]] == [str(run.id) for run in runs]
    assert shown["next_date"] == str(TOMORROW + timedelta(days=2))
    told = call("show", "first").out
    assert all(str(run.id) in told for run in runs)
    assert f"until: {TOMORROW + WEEK}" in told


def test_after_its_last_date_there_is_no_next_one(add: Call, call: Call, account: int, sessions: Sessions) -> None:
    add(REPEATING | {"until": str(TOMORROW)}, GOOD | {"name": "once"})
    assert [row["next_date"] for row in call("list", "--json").json] == [str(TOMORROW)] * 2
    for strategy in Strategies(sessions).list():
        armed(sessions, strategy)
    assert [row["next_date"] for row in call("list", "--json").json] == [None, None]


@pytest.mark.parametrize(
    ("options", "told_of_later_runs", "trades_on"),
    [((), "gets no run any more", False), (("--today",), "its later dates are left as they are", True)],
)
def test_a_stop_ends_the_run_and_the_recurrence_unless_only_today_is_meant(
    add: Call,
    call: Call,
    account: int,
    sessions: Sessions,
    redis: Redis,
    options: tuple[str, ...],
    told_of_later_runs: str,
    trades_on: bool,
) -> None:
    add(REPEATING)
    (strategy,) = Strategies(sessions).list()
    run = armed(sessions, strategy)
    told = call("stop", "first", *options)
    assert told.code == 0
    assert "is being stopped" in told.out
    assert told_of_later_runs in " ".join(told.out.split())
    assert redis.hget(keys.runtime(str(run.id)), "stop_requested") == "close"
    assert Strategies(sessions).unarmed(TOMORROW + timedelta(days=1)) == [strategy] * trades_on
    (row,) = call("list", "--json").json
    assert row["next_date"] == (str(TOMORROW + timedelta(days=1)) if trades_on else None)


def test_between_two_runs_only_a_whole_stop_changes_anything(
    add: Call, call: Call, account: int, sessions: Sessions
) -> None:
    add(REPEATING)
    assert "no run under way" in call("stop", "first", "--today").out
    assert len(Strategies(sessions).unarmed(TOMORROW)) == 1
    assert "gets none" in call("stop", "first").out
    assert Strategies(sessions).unarmed(TOMORROW) == []


@pytest.mark.parametrize(
    ("choice", "field", "written"),
    [("sell", "stop_requested", "close"), ("leave", "stop_requested", "leave"), ("closed", "closed_elsewhere", "10")],
)
def test_a_flagged_run_is_resolved_as_its_user_chooses(
    add: Call, call: Call, account: int, sessions: Sessions, redis: Redis, choice: str, field: str, written: str
) -> None:
    add(GOOD)
    run = armed(sessions, Strategies(sessions).list()[0], BOUGHT, status=RunStatus.FAILED, failure="not_covered")
    offered = call("resolve", "first", "--json").json
    assert [row["choice"] for row in offered] == ["sell", "leave", "closed"]
    assert {(row["run"], row["flagged_for"], row["held"]) for row in offered} == {(str(run.id), "not_covered", 10)}
    assert redis.hget(keys.runtime(str(run.id)), field) is None
    (told,) = call("resolve", "first", "--as", choice, "--json").json
    assert told["what_it_does"] == next(row["what_it_does"] for row in offered if row["choice"] == choice)
    assert redis.hget(keys.runtime(str(run.id)), field) == written
    assert [name for name in redis.keys("safety*") if redis.type(name) == "list"] != []


def test_an_attempt_in_doubt_can_be_stated_absent(
    add: Call, call: Call, account: int, sessions: Sessions, redis: Redis
) -> None:
    add(GOOD)
    doubt = replace(BOUGHT, status=OrderStatus.UNKNOWN, filled_quantity=0)
    run = armed(sessions, Strategies(sessions).list()[0], doubt)
    assert [row["choice"] for row in call("resolve", "first", "--json").json] == ["absent"]
    assert call("resolve", "first", "--as", "absent").code == 0
    assert redis.hget(keys.runtime(str(run.id)), "absent") == doubt.client_order_id


@pytest.mark.parametrize(
    ("stop", "warning"),
    [
        ("1500.00", ""),
        ("1600.00", "the stop 1600.00 is not below the last price 1550.00"),
        ("150.00", "the stop 150.00 is far below the last price 1550.00"),
    ],
)
def test_a_stop_that_makes_no_sense_by_the_last_price_is_told_and_added_all_the_same(
    add: Call, account: int, sessions: Sessions, paper: PaperControl, stop: str, warning: str
) -> None:
    paper.price("NSE:INFY", "1550.00")
    told = add(
        GOOD | {"stop_loss": stop},
    )
    assert (told.code, len(Strategies(sessions).list())) == (0, 1)
    assert warning in told.err
    assert ("warning" in told.err) is (warning != "")


def test_a_broker_that_tells_no_price_keeps_no_strategy_out(
    add: Call, account: int, sessions: Sessions, paper: PaperControl
) -> None:
    paper.fault("unavailable", operation="quote", times=20)
    try:
        assert add(GOOD).code == 0
    finally:
        paper.clear_faults()
    assert len(Strategies(sessions).list()) == 1


@pytest.mark.parametrize("units", [0, -3])
def test_what_the_account_does_not_hold_is_not_sold_but_can_be_stated_closed(
    add: Call, call: Call, account: int, sessions: Sessions, redis: Redis, units: int
) -> None:
    add(GOOD)
    run = armed(sessions, Strategies(sessions).list()[0], BOUGHT, status=RunStatus.FAILED, failure="not_covered")
    account_has(redis, run, units)
    assert [row["choice"] for row in call("resolve", "first", "--json").json] == ["leave", "closed"]
    told = call("resolve", "first", "--as", "sell")
    assert told.code == 2
    assert f"the account holds no {run.strategy.symbol}, so nothing can be sold; `--as closed` ends the run" in told.err
    assert redis.hget(keys.runtime(str(run.id)), "stop_requested") is None


def test_what_the_account_holds_a_part_of_is_sold_as_far_as_that(
    add: Call, call: Call, account: int, sessions: Sessions, redis: Redis
) -> None:
    add(GOOD)
    run = armed(sessions, Strategies(sessions).list()[0], BOUGHT, status=RunStatus.FAILED, failure="not_covered")
    account_has(redis, run, 4)
    (sell,) = [row for row in call("resolve", "first", "--json").json if row["choice"] == "sell"]
    assert sell["what_it_does"].startswith("sells 4 at the market, which is what the account has of the 10")


def test_a_choice_no_worker_carries_out_is_told_as_asked_for_not_as_resolved(
    add: Call, call: Call, account: int, sessions: Sessions
) -> None:
    add(GOOD)
    armed(sessions, Strategies(sessions).list()[0], BOUGHT, status=RunStatus.FAILED, failure="not_covered")
    told = call("resolve", "first", "--as", "sell").out
    assert "Asked for" in told
    assert "Resolved" not in told


def test_what_is_not_flagged_is_not_resolved(add: Call, call: Call, account: int, sessions: Sessions) -> None:
    add(GOOD)
    armed(sessions, Strategies(sessions).list()[0], BOUGHT)
    assert "nothing to resolve" in call("resolve", "first").out
    told = call("resolve", "first", "--as", "sell")
    assert told.code == 2
    assert "sell: nothing it could resolve" in told.err


def test_an_unknown_name_is_answered_with_the_closest(add: Call, call: Call, account: int) -> None:
    add(GOOD, GOOD | {"name": "other"})
    told = call("stop", "frist")
    assert told.code == 2
    assert told.err.split("closest: ")[1].startswith("first")


def test_a_name_of_two_tenants_asks_which(
    add: Call, call: Call, account: int, sessions: Sessions, paper: PaperControl
) -> None:
    Accounts(sessions).add(Account("birch", "paper", "paper", paper.base_url, paper.ws_url, Credentials(CREDENTIALS)))
    add(GOOD, GOOD | {"tenant": "birch"})
    told = call("stop", "first")
    assert told.code == 2
    assert "acme, birch: say which with --tenant" in told.err
    assert call("stop", "first", "--tenant", "birch").code == 0
    assert [each.tenant for each in Strategies(sessions).list(status=RunStatus.ACTIVE)] == ["acme"]


BOUGHT = entry(OrderStatus.FILLED, 10)


def account_has(redis: Redis, run: Run, units: int) -> None:
    """The account's positions are read: so many units, though the run holds ten."""
    epoch = EpochGuard(redis)
    epoch.open(1)
    position = NetPosition(run.strategy.symbol, run.strategy.product, units)
    reading = AccountReading(datetime.now(UTC), (position,), [SeenOrder(BOUGHT.client_order_id, 10, 10, is_over=True)])
    RedisStore(redis, epoch, RealTime().now).cover(run.strategy.account_id, reading)


def armed(sessions: Sessions, strategy: Strategy, *orders: Order, day: date | None = None, **state: Any) -> Run:
    """The run of `strategy` as the recoverer makes it, on its first date or `day`, with `orders` in the live state."""
    day = day or strategy.trading_date or TOMORROW
    buy_at, sell_at = (datetime.combine(day, wall, ZONES["NSE"]) for wall in (time(10), time(15)))
    run = Run(RunId(strategy.id, day), strategy, buy_at, sell_at, sell_at, stop_units=150_000)
    Runs(sessions).create(run)
    with connect(settings().redis_url) as redis:
        epoch = EpochGuard(redis)
        epoch.open(1)
        RedisStore(redis, epoch, RealTime().now).arm(replace(run, orders=orders, **state), buy_at, buying=False)
    return run
