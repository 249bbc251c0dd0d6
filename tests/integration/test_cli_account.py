"""`engine account` on a real database and a paper broker: stored encrypted, refused by field, a login proven first."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from broker_connector.paper.process import PaperControl, paper_broker
from engine.cli import account, deployment, main
from engine.config import Settings
from engine.domain.health import OPENS_AFTER, Heard
from engine.domain.orders import Leg
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.repositories.accounts import Accounts
from models.secrets import Encrypted
from models.tables import AccountState
from tests.desk import PAPER, SECRET_KEY
from tests.livestate import ACCOUNT, LiveState

Call = Callable[..., Any]
#: Where no server listens.
NO_REDIS = "redis://127.0.0.1:1/0"
SECRETS = {"api_key": "paper-key", "api_secret": "paper-secret"}


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def sessions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    Encrypted.use(SECRET_KEY)
    opened = sessions_of(database)
    engine = deployment.Deployment(Settings.model_validate({"REDIS_URL": NO_REDIS}), opened, None)
    monkeypatch.setattr(account, "find", lambda: engine)
    yield opened
    database.dispose()


@pytest.fixture
def call(sessions: Sessions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the command as the console script does, `given` on standard input; its JSON, or what it complains of."""

    def run(*words: str, given: object = "") -> Any:
        told = given if isinstance(given, str) else json.dumps(given)
        monkeypatch.setattr(sys, "argv", ["engine", "account", *words, "--json"])
        monkeypatch.setattr(sys, "stdin", io.StringIO(told))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return json.loads(printed.out) if ended.value.code == 0 else (ended.value.code, printed.err)

    return run


@pytest.fixture
def added(call: Call, paper: PaperControl) -> dict[str, Any]:
    words = ("add", "acme", "main", "--broker", "paper", "--url", paper.base_url, "--ws-url", paper.ws_url)
    (row,) = call(*words, given=SECRETS)
    found: dict[str, Any] = row
    return found


def test_an_account_is_stored_without_a_secret_in_sight(
    added: dict[str, Any], call: Call, sessions: Sessions, paper: PaperControl
) -> None:
    assert added["state"] == "token_dead"
    assert call("list") == [added | {"line": None}]
    assert "paper-" not in json.dumps(added)
    with sessions() as session:
        (stored,) = session.execute(text("SELECT credentials FROM accounts")).scalars()
    assert "paper-secret" not in stored
    kept = Accounts(sessions).named("acme", "main")
    assert kept is not None
    assert kept.credentials.values == SECRETS | {"access_token": ""}
    code, complaint = call(
        "add", "acme", "main", "--broker", "paper", "--url", paper.base_url, "--ws-url", paper.ws_url, given=SECRETS
    )
    assert (code, "already has an account" in complaint) == (2, True)


class Confirms:
    """A broker that takes any token, and says whose it is."""

    def __init__(self, *_: object) -> None:
        pass

    def account_id(self) -> str:
        return "AB1234"

    def close(self) -> None:
        pass


def test_the_secrets_may_be_a_file_and_kite_knows_where_it_answers(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "connect", Confirms)
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps(SECRETS | {"access_token": "today"}))
    (row,) = call("add", "acme", "--secrets", str(file))
    assert (row["name"], row["broker"], row["state"]) == ("main", "kite", "ready")
    assert row["base_url"].startswith("https://")


WRONG: list[tuple[tuple[str, ...], object, str]] = [
    (("--broker", "nobody"), SECRETS, "--broker"),
    (("--broker", "paper"), SECRETS, "--url"),
    (("--url", "ftp://x"), SECRETS, "--url"),
    (("--ws-url", "https://x"), SECRETS, "--ws-url"),
    ((), "not JSON", "JSON object"),
    ((), [], "JSON object"),
    ((), {"api_secret": "s"}, "api_key"),
    ((), SECRETS | {"api_key": 7}, "api_key"),
    ((), SECRETS | {"pin": "hush"}, "'pin'"),
    (("--secrets", "/nowhere/at-all"), "", "/nowhere/at-all"),
]


def test_what_is_wrong_is_named_no_value_is_shown_and_nothing_is_stored(call: Call) -> None:
    for words, given, told in WRONG:
        code, complaint = call("add", "acme", *words, given=given)
        assert (code, told in complaint, "hush" in complaint) == (2, True, False), complaint
    assert call("list") == []


def test_a_login_is_proven_at_the_broker_before_it_is_kept(
    added: dict[str, Any], call: Call, sessions: Sessions
) -> None:
    code, complaint = call("login", "acme", "--access-token", given="wrong")
    assert (code, "nothing was changed" in complaint) == (2, True)
    kept = Accounts(sessions).named("acme", "main")
    assert kept is not None
    assert (kept.state, kept.credentials.values["access_token"]) == (AccountState.TOKEN_DEAD, "")
    (row,) = call("login", "acme", "--access-token", given="paper-token\n")
    assert row == added | {"state": "ready"}


def test_a_request_token_is_exchanged_for_the_days_token(added: dict[str, Any], call: Call, sessions: Sessions) -> None:
    (row,) = call("login", "acme", "main", given="request-1")
    assert row["state"] == "ready"
    kept = Accounts(sessions).named("acme", "main")
    assert kept is not None
    assert kept.credentials.values["access_token"] not in {"", "request-1"}


def test_an_account_that_is_not_there_is_told_with_those_that_are(added: dict[str, Any], call: Call) -> None:
    code, complaint = call("login", "acme", "other", given="t")
    assert (code, "acme/main" in complaint) == (2, True)
    assert call("login", "acme", given=" ")[0] == 2


def test_the_list_tells_how_an_accounts_broker_answers(
    added: dict[str, Any],
    call: Call,
    sessions: Sessions,
    live: LiveState,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = deployment.Deployment(Settings.model_validate({"REDIS_URL": redis_url}), sessions, None)
    monkeypatch.setattr(account, "find", lambda: engine)
    kept = Accounts(sessions).named("acme", "main")
    assert kept is not None
    live.store.write_account(replace(ACCOUNT, id=kept.id))
    assert call("list") == [added | {"line": "good"}]
    for _ in range(OPENS_AFTER):
        live.store.heard(kept.id, ACCOUNT.version, Heard.SILENT, Leg.ENTRY, None)
    assert call("list") == [added | {"line": "entries pause: no answer"}]


@pytest.mark.parametrize(("tenant", "named"), [("acme", "acme/main"), ("birch", "an account of another tenant")])
def test_one_login_is_one_account(
    added: dict[str, Any], call: Call, sessions: Sessions, paper: PaperControl, tenant: str, named: str
) -> None:
    at = ("--broker", "paper", "--url", paper.base_url, "--ws-url", paper.ws_url)
    call("login", "acme", "--access-token", given="paper-token")
    # A login again is no other account.
    assert call("login", "acme", "--access-token", given="paper-token")[0]["state"] == "ready"
    code, complaint = call("add", tenant, "second", *at, given=SECRETS | {"access_token": "paper-token"})
    assert (code, named in complaint, "acme" in complaint) == (2, True, tenant == "acme")
    assert Accounts(sessions).named(tenant, "second") is None
    # One whose token came later is refused as well, and keeps what it had.
    call("add", tenant, "second", *at, given=SECRETS)
    code, complaint = call("login", tenant, "second", "--access-token", given="paper-token")
    assert (code, named in complaint, "nothing was changed" in complaint) == (2, True, True)
    kept = Accounts(sessions).named(tenant, "second")
    assert kept is not None
    assert (kept.state, kept.credentials.values["access_token"]) == (AccountState.TOKEN_DEAD, "")
    with sessions.begin() as session:
        session.execute(text("DELETE FROM accounts WHERE name = 'main'"))
    assert call("login", tenant, "second", "--access-token", given="paper-token")[0]["state"] == "ready"


def test_a_paper_broker_at_another_address_is_another(
    added: dict[str, Any], call: Call, paper: PaperControl, sessions: Sessions
) -> None:
    call("login", "acme", "--access-token", given="paper-token")
    other = paper.base_url.replace("127.0.0.1", "localhost")
    words = ("add", "acme", "second", "--broker", "paper", "--url", other, "--ws-url", paper.ws_url)
    assert call(*words, given=SECRETS | {"access_token": "paper-token"})[0]["state"] == "ready"
    # All of them are one from now on: whose logins they are is asked anew.
    Accounts(sessions).move("paper", paper.base_url, paper.ws_url)
    call("login", "acme", "main", "--access-token", given="paper-token")
    assert call("login", "acme", "second", "--access-token", given="paper-token")[0] == 2


def test_kite_is_one_broker_wherever_it_is_reached(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "connect", Confirms)
    given = SECRETS | {"access_token": "today"}
    assert call("add", "acme", "first", given=given)[0]["state"] == "ready"
    code, complaint = call("add", "acme", "second", "--url", "https://kite.example", given=given)
    assert (code, "acme/first" in complaint) == (2, True)


def test_a_token_its_broker_does_not_confirm_is_not_stored(call: Call, paper: PaperControl, sessions: Sessions) -> None:
    at = ("--broker", "paper", "--url", paper.base_url, "--ws-url", paper.ws_url)
    (row,) = call("add", "acme", *at, given=SECRETS | {"access_token": "wrong"})
    kept = Accounts(sessions).named("acme", "main")
    assert kept is not None
    assert (row["state"], kept.credentials.values["access_token"]) == ("token_dead", "")
