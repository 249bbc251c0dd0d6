"""A lock only one process of the deployment holds, lost with its connection. Knows nothing of what it guards."""

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError


class AdvisoryLock:
    """PostgreSQL's session-level advisory lock number `number`."""

    def __init__(self, database: Engine, number: int) -> None:
        self._database = database
        self._number = number
        self._connection: Connection | None = None

    def hold(self) -> bool:
        """Whether the lock is ours: still, or from now on. Raises SQLAlchemyError where PostgreSQL is away."""
        if self._connection is not None:
            try:
                # The lock lives exactly as long as this connection.
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self.release()
                raise
            return True
        connection = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            taken = connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), {"number": self._number})
        except SQLAlchemyError:
            connection.close()
            raise
        if not taken:
            connection.close()
            return False
        self._connection = connection
        return True

    def release(self) -> None:
        """Let go of it, with its connection."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
