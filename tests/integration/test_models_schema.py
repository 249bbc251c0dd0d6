"""The migrations on a real PostgreSQL: complete, repeatable, and what the models say."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from models import schema
from models.base import Base
from models.database import normalise, open_database


def test_the_migrations_build_what_the_models_describe(database_url: str) -> None:
    assert schema.current(database_url) is None
    assert schema.differences(database_url) != []
    schema.upgrade(database_url)
    assert schema.current(database_url) == schema.newest()
    assert schema.differences(database_url) == []


def test_a_second_upgrade_changes_nothing_and_keeps_the_rows(database_url: str) -> None:
    schema.upgrade(database_url)
    database = open_database(database_url)
    with database.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('tenant-1')"))
    schema.upgrade(database_url)
    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tenants")) == 1
    database.dispose()


def test_without_recurrence_nothing_that_repeated_is_taken_for_one_that_has_yet_to_trade(database_url: str) -> None:
    schema.upgrade(database_url)
    database = open_database(database_url)
    with database.begin() as connection:
        connection.execute(text("INSERT INTO tenants (id, name) VALUES (1, 'tenant-1')"))
        connection.execute(
            text(
                "INSERT INTO accounts (id, tenant_id, name, broker, base_url, ws_url, credentials, rates, state)"
                " VALUES (1, 1, 'main', 'paper', '', '', '', '{}', 'ready')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO strategies (id, tenant_id, account_id, name, symbol, quantity, buy_time, sell_time,"
                " stop_loss, product, order_type, on_abort, status, repeat)"
                " SELECT n, 1, 1, n, 'NSE:INFY', 1, '10:00', '15:00', 1, 'intraday', 'market', 'protect', 'active',"
                " CASE n WHEN 1 THEN 'daily' END FROM generate_series(1, 2) n"
            )
        )
    statuses = text("SELECT status FROM strategies ORDER BY id")
    schema.downgrade(database_url, "0002")
    with database.connect() as connection:
        assert [*connection.scalars(statuses)] == ["stopped", "active"]
    schema.upgrade(database_url)
    assert schema.differences(database_url) == []
    with database.connect() as connection:
        assert [*connection.scalars(text("SELECT repeat FROM strategies"))] == [None, None]
    database.dispose()


def test_processes_that_start_together_can_all_upgrade(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(schema.upgrade, database_url) for _ in range(4)]:
            done.result()
    assert schema.differences(database_url) == []


def test_a_database_that_lacks_a_column_is_noticed(database_url: str) -> None:
    schema.upgrade(database_url)
    database = open_database(database_url)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE runs DROP COLUMN failure"))
    database.dispose()
    (difference,) = schema.differences(database_url)
    assert difference[0] == "add_column"


def test_checks_refuse_what_the_comparison_cannot_see(database_url: str) -> None:
    schema.upgrade(database_url)
    database = open_database(database_url)
    for statement in (
        "INSERT INTO engine_epoch (id, n, redis_run_id) VALUES (2, 1, '')",
        "INSERT INTO drain_cursor (id, epoch, stream_id) VALUES (2, 1, '')",
        "INSERT INTO calendar_overrides (exchange, date, kind, note) VALUES ('NSE', '2026-01-05', 'special', '')",
        "INSERT INTO calendar_overrides (exchange, date, kind, note) VALUES ('NSE', '2026-01-05', 'half', '')",
    ):
        with pytest.raises(IntegrityError, match="violates check constraint"), database.begin() as connection:
            connection.execute(text(statement))
    with database.connect() as connection:
        migrated = {*connection.scalars(text("SELECT conname FROM pg_constraint WHERE contype = 'c'"))}
    database.dispose()
    named = {str(c.name) for table in Base.metadata.tables.values() for c in table.constraints if c.name}
    assert {name for name in named if name.startswith("ck_")} <= migrated


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_a_database_url_means_our_driver(scheme: str) -> None:
    assert normalise(f"{scheme}://user@host/name").drivername == "postgresql+psycopg2"
