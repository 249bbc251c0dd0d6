"""Which brokers there are: a table from a broker's name to what makes its connector and its feed.

Knows no broker's words; a new broker is a new row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from broker_connector import kite_postback
from broker_connector.base import Connector, Feed, Forged
from broker_connector.feed import KiteFeed
from broker_connector.kite import KITE_PROFILE, KiteConnector
from broker_connector.kite_book import Ours, any_tag
from broker_connector.skipped import Skipped
from engine.domain.broker import BookEntry, BrokerProfile


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves an account to its broker today; never logged."""

    api_key: str = field(repr=False)
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """How an account's rows are read: `ours` tells whether a tag could be of an order of this deployment's."""

    ours: Ours = any_tag
    #: Called with a kind of row that is left out, and how many of it were; not at every one.
    on_skipped: Callable[[str, int], None] | None = None


#: The paper broker stands for Kite, late orders included; its tokens live as long as it.
PAPER_PROFILE: BrokerProfile = replace(KITE_PROFILE, name="paper", token_dies=None)


def _posts_nothing(_body: bytes, _api_secret: str) -> BookEntry:
    """A broker that posts nothing: whatever comes in its name is not its own."""
    raise Forged


@dataclass(frozen=True, slots=True)
class Entry:
    """A broker: what it promises, and how to reach an account at it."""

    profile: BrokerProfile
    connect: Callable[[str, Credentials, Reading], Connector]
    #: From the WebSocket's URL, over so many connections at most: ticks and the account's order updates.
    open_feed: Callable[[str, Credentials, int], Feed]
    #: The day's access token, from base URL, API key, API secret and a request token; raises TokenInvalid,
    #: BrokerUnreachable.
    login: Callable[[str, str, str, str], str]
    #: Where it answers, and its ticker; "" where each account says so itself.
    base_url: str = ""
    ws_url: str = ""
    #: The order a body posted by the broker tells of, proven by the API secret; raises ValueError naming the field,
    #: Forged.
    postback: Callable[[bytes, str], BookEntry] = _posts_nothing


class UnknownBroker(KeyError):
    """Raised when an account names a broker that is not in the table."""


def _speaks_kite(profile: BrokerProfile, base_url: str = "", ws_url: str = "") -> Entry:
    return Entry(
        profile,
        lambda url, who, how: KiteConnector(
            url, who.api_key, who.access_token, profile, ours=how.ours, skipped=Skipped(how.on_skipped)
        ),
        lambda url, who, lines: KiteFeed(url, who.api_key, who.access_token, lines=lines),
        KiteConnector.login,
        base_url,
        ws_url,
        kite_postback.read,
    )


BROKERS: Mapping[str, Entry] = {
    KITE_PROFILE.name: _speaks_kite(KITE_PROFILE, "https://api.kite.trade", "wss://ws.kite.trade"),
    PAPER_PROFILE.name: _speaks_kite(PAPER_PROFILE),
}


def entry_of(name: str) -> Entry:
    """The broker called `name`; raises UnknownBroker."""
    try:
        return BROKERS[name]
    except KeyError:
        raise UnknownBroker(f"no broker {name!r}; known: {', '.join(sorted(BROKERS))}") from None


def connect(name: str, base_url: str, credentials: Credentials, reading: Reading | None = None) -> Connector:
    """A connector to the account `credentials` open at the broker called `name`; raises UnknownBroker."""
    return entry_of(name).connect(base_url, credentials, reading or Reading())


def open_feed(name: str, base_ws_url: str, credentials: Credentials, lines: int = 1) -> Feed:
    """A feed of the broker called `name` over at most `lines` of the connections its account may open.

    Raises UnknownBroker.
    """
    return entry_of(name).open_feed(base_ws_url, credentials, lines)
