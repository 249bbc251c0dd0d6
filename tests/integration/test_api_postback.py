"""The HTTP interface's process, on real servers: a postback makes the run ask, and nobody else's word does."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.api.app import LARGEST
from engine.domain.events import EventType
from engine.domain.run import Run
from engine.trading import free_port
from models import schema
from models.database import open_database, sessions_of
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials, Encrypted
from tests.celery_nodes import ProcessContainer
from tests.desk import CREDENTIALS, PAPER, SECRET_KEY, Desk, environment, event_of, open_desk
from tests.processes import eventually

API_SECRET = "an-api-secret"


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture(scope="module")
def hook(
    valkey_url: str, module_database_url: str, paper: PaperControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the account's postbacks at a running process."""
    schema.upgrade(module_database_url)
    database, port = open_database(module_database_url), free_port()
    Encrypted.use(SECRET_KEY)
    secrets = Credentials(CREDENTIALS | {"api_secret": API_SECRET})
    Accounts(sessions_of(database)).add(Account("acme", "main", "paper", paper.base_url, paper.ws_url, secrets))
    database.dispose()
    chosen = environment(valkey_url, module_database_url) | {"ENGINE_API_PORT": str(port)}
    log = tmp_path_factory.mktemp("api") / "api.log"
    process = ProcessContainer("api", ("engine", "process", "api"), chosen, log, "api_ready")
    process.start()
    try:
        assert process.ready()
        assert eventually(lambda: _answers(f"http://127.0.0.1:{port}/healthz"))
        yield f"http://127.0.0.1:{port}/postback/acme/main"
    finally:
        process.teardown()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def bought(valkey_url: str, paper: PaperControl) -> Iterator[tuple[Desk, Run]]:
    """A run whose order has filled, of which nobody was told."""
    with open_desk(valkey_url, paper) as desk:
        desk.parts.redis.flushall()
        desk.open()
        run = desk.arm()
        bootstrap.pipeline(desk.parts).process(event_of(run, EventType.BUY).as_wire())
        assert eventually(lambda: desk.sent("buy")[-1]["status"] == "filled")
        assert desk.live(run).held == 0
        yield desk, run


def told(desk: Desk, **changed: Any) -> dict[str, Any]:
    """What the broker posts of the last order."""
    row = desk.sent("buy")[-1]
    order = {
        "order_id": row["order_id"], "order_timestamp": "2026-01-05 09:30:00", "status": "COMPLETE",
        "exchange": "NSE", "tradingsymbol": row["symbol"].partition(":")[2], "transaction_type": "BUY",
        "quantity": row["quantity"], "filled_quantity": row["filled_quantity"],
        "average_price": float(row["average_price"]), "tag": row["tag"],
    } | changed  # fmt: skip
    text = f"{order['order_id']}{order['order_timestamp']}{API_SECRET}"
    return {"checksum": hashlib.sha256(text.encode()).hexdigest()} | order


def test_a_postback_makes_its_run_ask_the_book(hook: str, bought: tuple[Desk, Run]) -> None:
    desk, run = bought
    assert requests.post(hook, json=told(desk), timeout=5).json() == {"status": "taken"}
    assert eventually(lambda: desk.live(run).dirty)
    # What it says is not believed: the wake-up asks.
    assert desk.live(run).held == 0
    assert eventually(lambda: desk.parts.redis.llen("maintenance:3") > 0)
    bootstrap.pipeline(desk.parts).process(event_of(run, EventType.ORDER_UPDATE).as_wire())
    assert desk.live(run).held == run.strategy.quantity


@pytest.mark.parametrize(
    ("path", "changed", "status", "says"),
    [
        ("", {"checksum": "0" * 64}, 403, "checksum"),
        ("/../nobody", {}, 403, "checksum"),
        ("", {"filled_quantity": "many"}, 400, "order"),
        ("", {"order_id": None}, 400, "postback"),
    ],
)
def test_what_is_not_proven_or_cannot_be_read_changes_nothing(
    hook: str, bought: tuple[Desk, Run], path: str, changed: dict[str, Any], status: int, says: str
) -> None:
    desk, run = bought
    before = desk.live(run)
    url = hook if not path else hook.rsplit("/", 1)[0] + "/nobody"
    answer = requests.post(url, json=told(desk, **changed), timeout=5)
    assert (answer.status_code, says in answer.json()["error"]) == (status, True)
    assert desk.live(run) == before


def test_a_body_without_end_is_not_read(hook: str) -> None:
    assert requests.post(hook, data=json.dumps({"x": "y" * LARGEST}), timeout=5).status_code == 413
