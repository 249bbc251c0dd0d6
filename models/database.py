"""Opens the PostgreSQL database and makes its sessions. Knows no table."""

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.orm import Session, sessionmaker

#: What repositories are built on.
Sessions = sessionmaker[Session]

#: Seconds to wait for a connection before the database counts as down.
CONNECT_TIMEOUT = 5


def normalise(database_url: str) -> URL:
    """`database_url` with our driver named: SQLAlchemy reads a bare postgresql:// as psycopg 3."""
    url = make_url(database_url)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg2")
    return url


def open_database(database_url: str, pool_size: int = 5) -> Engine:
    """The database at `database_url`; connects on first use. Statement parameters never reach logs or errors."""
    return create_engine(
        normalise(database_url),
        pool_size=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT, "application_name": "execution-engine"},
    )


def sessions_of(database: Engine) -> Sessions:
    """A session factory over `database`; what it loads stays readable after the commit."""
    return sessionmaker(database, expire_on_commit=False)
