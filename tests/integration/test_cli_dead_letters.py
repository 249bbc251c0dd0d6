"""`engine dead-letters` on a real database: newest first, whole as JSON, and harmless on a terminal."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from engine.cli import dead_letters, deployment, output
from engine.config import Settings
from models import drain, schema
from models.database import Sessions, open_database, sessions_of
from models.records import DeadLetter

AT = datetime(2026, 1, 5, 4, 0, tzinfo=UTC)
#: What a terminal would obey: colours, a new line, a title, a markup of the table's own, text written backwards.
EVIL = "\x1b[31mred\r\n\x9d0;title\x07 [/bold] [link=x] \u202ebackwards \\x1b"


@pytest.fixture
def sessions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    opened = sessions_of(database)
    monkeypatch.setattr(dead_letters, "find", lambda: deployment.Deployment(Settings(), opened, None))
    yield opened
    database.dispose()


def store(sessions: Sessions, *payloads: str) -> None:
    letters = [
        DeadLetter(f"5:{number}", AT + timedelta(seconds=number), "queue", "no event", payload)
        for number, payload in enumerate(payloads, start=1)
    ]
    with sessions() as session:
        drain.apply(session, letters, drain.Cursor(5, "1-0"))


def said(capsys: pytest.CaptureFixture[str], limit: int = 50, *, as_json: bool) -> str:
    capsys.readouterr()
    assert dead_letters.run(limit, as_json=as_json) == 0
    return capsys.readouterr().out


def test_dead_letters_are_listed_newest_first_up_to_the_limit(
    sessions: Sessions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(said(capsys, as_json=True)) == []
    store(sessions, "first", "second", "third")
    rows = json.loads(said(capsys, 2, as_json=True))
    assert [(row["key"], row["payload"]) for row in rows] == [("5:3", "third"), ("5:2", "second")]
    assert {(row["source"], row["reason"]) for row in rows} == {("queue", "no event")}
    assert rows[0]["at"].startswith("2026-01-05 04:00:03")


def test_a_payload_cannot_speak_to_the_terminal(
    sessions: Sessions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output.console, "width", 400)
    store(sessions, EVIL)
    table = said(capsys, as_json=False)
    assert [each for each in table if not each.isprintable() and each != "\n"] == []
    assert r"\x1b[31mred\r\n\x9d0;title\x07 [/bold] [link=x] \u202ebackwards \\x1b" in table
    (row,) = json.loads(said(capsys, as_json=True))
    assert row["payload"] == EVIL


def test_a_long_payload_is_cut_in_the_table_and_whole_as_json(
    sessions: Sessions, capsys: pytest.CaptureFixture[str]
) -> None:
    store(sessions, "x" * 3000)
    assert said(capsys, as_json=False).count("x") < dead_letters.SHOWN
    (row,) = json.loads(said(capsys, as_json=True))
    assert row["payload"] == "x" * 3000
