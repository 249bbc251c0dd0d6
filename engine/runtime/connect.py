"""Connections to Redis as the engine wants them: short timeouts, no silent retries of scripts."""

from redis.backoff import NoBackoff
from redis.client import Redis
from redis.retry import Retry

#: How long one command may take before its connection is given up, seconds.
SOCKET_TIMEOUT = 5.0


def connect(url: str, *, text: bool = True) -> "Redis":
    """A client of the server at `url`, its replies text or else bytes.

    Retries are off: the store repeats a script itself, knowing it may.
    """
    return Redis.from_url(
        url,
        decode_responses=text,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=1.0,
        socket_keepalive=True,
        health_check_interval=5,
        retry=Retry(NoBackoff(), 0),
    )
