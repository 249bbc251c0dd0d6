"""Connections to Redis as the engine wants them: short timeouts, no silent retries of scripts."""

from redis.backoff import NoBackoff
from redis.client import Redis
from redis.retry import Retry

#: How long one command may take before its connection is given up, seconds.
SOCKET_TIMEOUT = 5.0
#: One a thread, and far beyond the threads of any worker: the client's own 100 would refuse the 101st its script.
MAX_CONNECTIONS = 4096


def connect(url: str, *, text: bool = True, repeats: int = 0) -> "Redis":
    """A client of the server at `url`, its replies text or else bytes.

    `repeats`: how often a command that failed is sent again, by who may: the store repeats a script itself.
    """
    return Redis.from_url(
        url,
        decode_responses=text,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=1.0,
        socket_keepalive=True,
        health_check_interval=5,
        max_connections=MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), repeats),
    )
