"""A database that has several addresses: each is tried by itself, one after the other, as libpq would.

By itself libpq goes on to the next address only where it waits by its own clock, and here it is waited for by ours.
"""

import os
import socket
from collections.abc import Callable

import psycopg2
from psycopg2 import extensions

from models.waiting import Limited

#: What names an address, and the environment's word for it where the connection's own settings have none.
_NAMED_BY = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT"}
#: What a host begins with that is a Unix socket.
_SOCKET = ("/", "@")


def first_to_answer(kind: type[Limited]) -> Callable[[str], Limited]:
    """What makes a connection of `kind`, to the first address of its settings that takes one.

    Raises psycopg2.OperationalError with what became of each. One that refuses the login does not end it.
    """

    def connect(settings: str) -> Limited:
        refusals = []
        for each in addresses(settings):
            try:
                return kind(each)
            except psycopg2.OperationalError as error:
                refusals.append(str(error).strip())
        raise psycopg2.OperationalError("\n".join(refusals))

    return connect


def addresses(settings: str) -> list[str]:
    """libpq's `settings` once for each address they name, in their order; as they are where that is one."""
    parsed = extensions.parse_dsn(settings)
    columns = [(parsed.get(name) or os.environ.get(variable, "")).split(",") for name, variable in _NAMED_BY.items()]
    most = max(map(len, columns))
    if any(len(column) not in (1, most) for column in columns):
        # libpq says what is wrong with them.
        return [settings]
    hosts, known, ports = (column * most if len(column) == 1 else column for column in columns)
    found = [
        extensions.make_dsn(settings, host=host or None, hostaddr=address or None, port=port or None)
        for host, given, port in zip(hosts, known, ports, strict=True)
        for address in ([given] if given else _resolved(host))
    ]
    return found if len(found) > 1 else [settings]


def _resolved(host: str) -> list[str]:
    """The addresses of a name, none where that is a Unix socket or libpq is to say that nobody knows it."""
    if not host or host.startswith(_SOCKET):
        return [""]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return [""]
    return [str(address[0]) for *_, address in found]
