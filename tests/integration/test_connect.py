"""Connections to a real server, as many as a large worker has threads."""

from typing import Any

from engine.runtime.connect import connect

#: More than any worker of the Procfile has, or is likely to.
THREADS = 300


def test_every_thread_of_a_large_worker_gets_a_connection(valkey_url: str) -> None:
    client: Any = connect(valkey_url)
    pool = client.connection_pool
    taken = [pool.get_connection() for _ in range(THREADS)]
    try:
        for connection in taken:
            connection.send_command("PING")
        assert {connection.read_response() for connection in taken} == {"PONG"}
    finally:
        for connection in taken:
            pool.release(connection)
        client.close()
