"""The recoverer's process while Redis is away: that is told by way of PostgreSQL."""

from pathlib import Path

import pytest

from models import schema
from models.database import open_database, sessions_of
from models.repositories import Alerts
from tests.celery_nodes import ProcessContainer, command_of
from tests.desk import environment
from tests.processes import eventually

#: Nobody listens there.
NOWHERE = "redis://127.0.0.1:9/0"


@pytest.mark.slow
def test_the_operator_is_told_that_redis_is_away(database_url: str, tmp_path: Path) -> None:
    schema.upgrade(database_url)
    alerts = Alerts(sessions_of(open_database(database_url)))
    chosen = environment(NOWHERE, database_url) | {"ENGINE_CALENDAR": "always_open", "ENGINE_PROCESS": "recoverer"}
    command = (*command_of("listener")[:-1], "recoverer")
    recoverer = ProcessContainer("recoverer", command, chosen, tmp_path / "recoverer.log", "waits")
    try:
        recoverer.start()
        told = ("", "store_away", "critical")
        assert eventually(
            lambda: told in {(each.tenant, each.code, each.severity) for each in alerts.list()}, within=30
        ), recoverer.logs()
    finally:
        recoverer.teardown()
