"""`engine alerts` on a real database: what is unseen is listed, what is seen is not, an unknown one is refused."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from engine.cli import alerts, deployment
from engine.config import Settings
from engine.stack.problems import EnvironmentProblem
from models import schema
from models.database import open_database, sessions_of
from models.repositories.history import Alerts


@pytest.fixture
def stored(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alerts]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    sessions = sessions_of(database)
    engine = deployment.Deployment(Settings(), sessions, None)
    monkeypatch.setattr(alerts, "find", lambda: engine)
    yield Alerts(sessions)
    database.dispose()


def listed(capsys: pytest.CaptureFixture[str], *, everything: bool = False) -> list[int]:
    capsys.readouterr()
    assert alerts.run(None, None, everything=everything, as_json=True) == 0
    return [row["id"] for row in json.loads(capsys.readouterr().out)]


def test_an_alert_is_listed_until_somebody_has_seen_it(stored: Alerts, capsys: pytest.CaptureFixture[str]) -> None:
    number = stored.add(datetime.now(UTC), "critical", "safety_abort", "look here", tenant="t", run="1-20260105-1")
    assert listed(capsys) == [number]
    assert alerts.run(None, number, everything=False, as_json=False) == 0
    assert listed(capsys) == []
    assert listed(capsys, everything=True) == [number]


def test_marking_an_alert_that_is_not_there_says_so(stored: Alerts) -> None:
    with pytest.raises(EnvironmentProblem, match="alert 99 does not exist"):
        alerts.run(None, 99, everything=False, as_json=False)


def test_a_brokers_message_cannot_speak_to_the_terminal(stored: Alerts, capsys: pytest.CaptureFixture[str]) -> None:
    stored.add(datetime.now(UTC), "critical", "code", "said [/bold] \x1b[2J", tenant="t", run="1-20260105-1")
    assert alerts.run(None, None, everything=False, as_json=False) == 0
    assert r"said [/bold] \x1b[2J" in capsys.readouterr().out
