"""The workers' consumer: Celery's, but back soon after its Redis, and behind the gate. Knows nothing of the engine."""

from functools import partial
from typing import Any

from celery.worker.consumer import Consumer

from tasks.intake import gated

#: Seconds between two attempts to reach Redis: the first, what each adds, the most. Celery's own grow to 30, and a
#: breach latched meanwhile would wait for it.
PAUSES = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}


class PromptConsumer(Consumer):
    """Reconnects within about a second, however long Redis was away; takes only messages of this engine."""

    def ensure_connected(self, conn: Any) -> Any:
        """Return `conn` once it is connected."""
        conn.transport_cls = gated(conn.get_transport_cls())
        conn.ensure_connection = partial(conn.ensure_connection, **PAUSES)
        return super().ensure_connected(conn)
