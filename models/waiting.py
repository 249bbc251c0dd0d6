"""How long an answer of PostgreSQL is waited for: by our own clock.

A server that is stopped ends no statement, and its kernel answers for it on the line.
"""

import select
import time

import psycopg2
from psycopg2 import extensions

#: Seconds to wait for a connection before an address of the database counts as down.
CONNECT_TIMEOUT = 5
#: Seconds an answer may be later than the server's own limit, which is to end a statement first.
GRACE = 10.0
#: Seconds a migration may take.
MIGRATION = 3600.0


class Limited(extensions.connection):
    """A connection whose statements are waited for so many seconds; None: for ever. Connecting has its own limit."""

    limit: float | None = GRACE

    def follow(self, server_limit: float) -> None:
        """Wait as long as the server lets a statement run, and a little longer; 0: it has no limit."""
        self.limit = server_limit + GRACE if server_limit else None


class Migrating(Limited):
    """One that changes tables."""

    limit: float | None = MIGRATION


def keep_limits() -> None:
    """Have every connection of this process waited for so; of one that is not `Limited` the connecting alone."""
    extensions.set_wait_callback(_wait)


def _wait(connection: extensions.connection) -> None:
    """Wait for the answer. Raises psycopg2.OperationalError where it is late; the driver then closes the connection."""
    is_connecting = connection.status == extensions.STATUS_SETUP
    limit = CONNECT_TIMEOUT if is_connecting else getattr(connection, "limit", None)
    began = time.monotonic()
    while (state := connection.poll()) != extensions.POLL_OK:
        # A new one each time: while it connects, the socket may become another.
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        left = None if limit is None else max(0.0, began + limit - time.monotonic()) * 1000
        # What lies there is read, however late we ask.
        if not poller.poll(left):
            raise psycopg2.OperationalError(f"PostgreSQL did not answer within {limit:.0f} s")
