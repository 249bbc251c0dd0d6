"""Brings a database to the schema of these models, and says where it stands. The only door to the migrations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from models import history_tables, tables
from models.addresses import first_to_answer
from models.base import Base
from models.database import LINE, normalise
from models.waiting import Limited, Migrating, keep_limits

#: Every module whose import adds tables to the metadata.
TABLE_MODULES = (tables, history_tables)

#: Two processes that start at once migrate one after the other.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('execution-engine schema'))")


def upgrade(database_url: str) -> None:
    """Bring the database to the newest revision; does nothing where it is there already."""
    if current(database_url) == newest():
        return
    _move(database_url, command.upgrade, "head")


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to `revision`, for an older release; the engine must be down."""
    _move(database_url, command.downgrade, revision)


def current(database_url: str) -> str | None:
    """The database's revision, None where it was never migrated."""
    with _database(database_url).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def differences(database_url: str) -> list[Any]:
    """What the models have and the database lacks, and the reverse, as alembic tells it; [] where they agree."""
    with _database(database_url).connect() as connection:
        return compare(connection)


def compare(connection: Connection) -> list[Any]:
    """`differences` over an open connection."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return [*compare_metadata(context, Base.metadata)]


def _move(database_url: str, move: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    with _database(database_url, Migrating).begin() as connection:
        connection.execute(_LOCK)
        config.attributes["connection"] = connection
        move(config, revision)


def _database(database_url: str, kind: type[Limited] = Limited) -> Engine:
    """Without limits of the server's: a migration takes as long as its tables are large."""
    keep_limits()
    line = {**LINE, "connection_factory": first_to_answer(kind)}
    return create_engine(normalise(database_url), poolclass=NullPool, connect_args=line)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
