"""Markets: whose prices are whose, which account carries a market's feed, and how many connections it may use.

Pure. A market is one source of real prices, named by all that can make two sources differ: the broker's name and both
of its addresses. A tenant who gives an account other addresses makes a market of their own and prices nobody else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

#: Real time without proof that its line lives after which a symbol is blind, microseconds.
BLIND_AFTER_US = 5_000_000

#: Ticker connections one account may open, as Kite allows. Its order stream takes one, so two listeners of one
#: connection each are what fits; order updates, which every connection carries, are read from the order stream's.
CONNECTIONS, FOR_ORDERS = 3, 1
#: Connections a listener opens for one market. One, so that a listener whose account died finds room at any other.
LINES = 1

#: Seconds an account that failed to carry a feed is left alone: doubling from the first to the longest.
FIRST_REST, LONGEST_REST = 5.0, 60.0
#: Seconds before it is tried all the same where there is no other: the whole network may have been away.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


def market_of(broker: str, base_url: str, ws_url: str) -> str:
    """The market of an account at `broker` with these addresses: readable, and equal only where all three are."""
    told = "\n".join((broker, _plain(base_url), _plain(ws_url)))
    host = urlsplit(_plain(ws_url)).netloc.rpartition("@")[2]
    return f"{broker}@{host}#{sha256(told.encode()).hexdigest()[:12]}"


def _plain(url: str) -> str:
    """An address without what makes no difference: the case of scheme and host, a slash at the end."""
    scheme, mark, rest = url.strip().partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{mark}{host.lower()}{slash}{path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account that could carry a market's feed."""

    account_id: int
    #: Whether an operator named it as a feed account.
    is_named: bool = False
    #: Whether its login is known to be dead: tried last, for that may be wrong.
    is_dead: bool = False


def choose(
    candidates: Sequence[Candidate], others: Collection[int], resting: Collection[int], number: int
) -> int | None:
    """The account for listener `number` (from 0) to carry its feed with; None where no account has a connection left.

    `others`: the account of each other listener. `resting`: accounts that failed just now. Preferred are, in this
    order: a login that lives, an account that did not just fail, one an operator named, one no other listener uses.
    """
    possible: list[tuple[tuple[object, ...], int]] = []
    for place, each in enumerate(candidates):
        users = sum(account == each.account_id for account in others)
        if (users + 1) * LINES <= CONNECTIONS - FOR_ORDERS:
            turn = (place - number) % len(candidates)
            rank = (each.is_dead, each.account_id in resting, not each.is_named, users > 0, turn)
            possible.append((rank, each.account_id))
    return min(possible)[1] if possible else None


def rest_after(failures: int) -> float:
    """Seconds to leave an account alone that failed so many times in a row."""
    return min(FIRST_REST * 2.0 ** max(failures - 1, 0), LONGEST_REST)


def pause_after(failures: int) -> float:
    """Seconds before an account that failed so many times in a row is tried all the same, for want of another."""
    return min(FIRST_PAUSE * 2.0 ** max(failures - 1, 0), LONGEST_PAUSE)


def blind_text(held: Mapping[str, int]) -> str:
    """What is held of which symbol, for an alert."""
    return ", ".join(f"{quantity} of {symbol}" for symbol, quantity in sorted(held.items()))
