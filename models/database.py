"""Opens the PostgreSQL database and makes its sessions. Knows no table."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session, sessionmaker

from models.addresses import first_to_answer
from models.waiting import CONNECT_TIMEOUT, Limited, keep_limits

#: What repositories are built on.
Sessions = sessionmaker[Session]

#: What every connection is made with: of one whose other end is gone TCP notices it within half a minute, whether
#: something was sent and is not acknowledged (milliseconds) or an answer is waited for (seconds).
LINE: Mapping[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "execution-engine",
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
#: How long the server lets a statement run, wait for a lock, and a transaction do nothing: many times what the largest
#: batch of the drainer takes. What is ended so counts as a database that refuses.
LIMITS: Mapping[str, str] = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "5min",
}
#: Where whoever runs the server has set a limit of their own, it stays.
_LIMIT = "SELECT set_config(%s, %s, false) WHERE current_setting(%s) = '0'"
#: What it is by then, seconds.
_LIMITED_TO = "SELECT extract(epoch FROM current_setting('statement_timeout')::interval)"


def normalise(database_url: str) -> URL:
    """`database_url` with our driver named: SQLAlchemy reads a bare postgresql:// as psycopg 3."""
    url = make_url(database_url)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg2")
    return url


def open_database(database_url: str, pool_size: int = 5) -> Engine:
    """The database at `database_url`; connects on first use. Statement parameters never reach logs or errors."""
    keep_limits()
    database = create_engine(
        normalise(database_url),
        pool_size=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={**LINE, "connection_factory": first_to_answer(Limited)},
    )
    event.listen(database, "connect", _limit)
    return database


def _limit(connection: Any, _record: object) -> None:
    """Set the limits of a new connection, the server's and ours. By statements: not every pooler passes options on."""
    with connection.cursor() as cursor:
        for name, limit in LIMITS.items():
            cursor.execute(_LIMIT, (name, limit, name))
        cursor.execute(_LIMITED_TO)
        connection.follow(float(cursor.fetchone()[0]))
    connection.commit()


def sessions_of(database: Engine) -> Sessions:
    """A session factory over `database`; what it loads stays readable after the commit."""
    return sessionmaker(database, expire_on_commit=False)
