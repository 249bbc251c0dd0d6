"""What is tried one after the other where a database has several addresses."""

import socket
from typing import Any

import pytest
from psycopg2.extensions import parse_dsn

from models.addresses import addresses

NAMES = {"one.test": ["10.0.0.1"], "two.test": ["10.0.0.2", "fd00::2"]}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names there are, and no settings of the environment's."""

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
        return [(None, None, 0, "", (address, 0)) for address in NAMES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT"):
        monkeypatch.delenv(variable, raising=False)


def tried(settings: str) -> list[tuple[str | None, ...]]:
    """Host, address and port of each."""
    parsed = [parse_dsn(each) for each in addresses(settings)]
    assert all(each["dbname"] == "d" for each in parsed)
    return [tuple(each.get(name) for name in ("host", "hostaddr", "port")) for each in parsed]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("host=one.test,/run/pg port=1,2", [("one.test", "10.0.0.1", "1"), ("/run/pg", None, "2")]),
        ("host=two.test port=3", [("two.test", "10.0.0.2", "3"), ("two.test", "fd00::2", "3")]),
        ("hostaddr=10.1.1.1,10.1.1.2", [(None, "10.1.1.1", None), (None, "10.1.1.2", None)]),
        ("host=a,b hostaddr=10.1.1.1,10.1.1.2", [("a", "10.1.1.1", None), ("b", "10.1.1.2", None)]),
        ("host=unknown.test,one.test", [("unknown.test", None, None), ("one.test", "10.0.0.1", None)]),
    ],
    ids=["hosts", "a name", "addresses", "addresses of hosts", "an unknown name"],
)
def test_each_address_is_tried_under_its_own_name(settings: str, expected: list[tuple[str | None, ...]]) -> None:
    assert tried(f"dbname=d {settings}") == expected


@pytest.mark.parametrize("settings", ["dbname=d", "dbname=d host=one.test", "dbname=d host=a,b,c port=1,2"])
def test_what_names_one_address_or_is_wrong_is_left_to_libpq(settings: str) -> None:
    assert addresses(settings) == [settings]


def test_hosts_of_the_environment_count_where_the_settings_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "/run/one,/run/two")
    assert tried("dbname=d") == [("/run/one", None, None), ("/run/two", None, None)]
    assert tried("dbname=d host=/run/three") == [("/run/three", None, None)]
