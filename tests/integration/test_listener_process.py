"""A listener's process: after a login its feed comes back with the new token, and a doubtful price is asked."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from bench.feed import Feed
from broker_connector.paper.process import PaperControl, paper_broker
from broker_connector.paper.symbols import listings
from broker_connector.ticker import Mode, Ohlc, TickPacket, encode_full, pack_frame
from engine.ports import Armed
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.durable import DurableState
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials, Encrypted
from tests.celery_nodes import ProcessContainer, command_of
from tests.desk import ACCOUNT, CREDENTIALS, PAPER, PRICE, SCALE, SECRET_KEY, STOP, SYMBOL, Desk, environment, open_desk
from tests.processes import eventually

#: The account `paper_broker` opens; opened again it has another token, and the old one is refused.
OPENED = {"account_id": "PAPER1", "api_key": CREDENTIALS["api_key"]}
NEXT_DAY = {**CREDENTIALS, "access_token": "next-day"}


@pytest.fixture
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def desk(valkey_url: str, paper: PaperControl) -> Iterator[Desk]:
    with open_desk(valkey_url, paper) as opened:
        opened.parts.redis.flushall()
        opened.open()
        yield opened


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A feed of the test's own, in the place of the paper broker's."""
    with Feed() as opened:
        yield opened


@pytest.fixture
def sessions(request: pytest.FixtureRequest, database_url: str, desk: Desk, paper: PaperControl) -> Iterator[Sessions]:
    schema.upgrade(database_url)
    database = open_database(database_url)
    Encrypted.use(SECRET_KEY)
    opened = sessions_of(database)
    ws_url = request.getfixturevalue("feed").url if "feed" in request.fixturenames else paper.ws_url
    Accounts(opened).add(Account("acme", "main", "paper", paper.base_url, ws_url, Credentials(CREDENTIALS)))
    tell_workers(desk, opened)
    yield opened
    database.dispose()


def tell_workers(desk: Desk, sessions: Sessions) -> None:
    """Put the account where workers read it, as the recoverer does."""
    for account in DurableState(sessions).accounts():
        desk.parts.store.write_account(account)


@pytest.fixture
def listener(valkey_url: str, database_url: str, sessions: Sessions, tmp_path: Path) -> Iterator[ProcessContainer]:
    chosen = environment(valkey_url, database_url) | {"ENGINE_PROCESS": "listener", "ENGINE_CALENDAR": "always_open"}
    process = ProcessContainer("listener", command_of("listener"), chosen, tmp_path / "listener.log", "feed_up")
    process.start()
    try:
        assert process.ready()
        yield process
    finally:
        process.teardown()


@pytest.mark.slow
def test_after_a_login_a_feed_that_was_cut_comes_back_and_sees_the_stop_fall(
    listener: ProcessContainer, desk: Desk, sessions: Sessions, paper: PaperControl
) -> None:
    run, now = desk.run(), desk.parts.clock.now().real
    assert desk.parts.store.arm(run, now + timedelta(hours=1), buying=True) is Armed.CREATED
    assert eventually(lambda: "subscribed" in listener.logs())
    paper.add_account(**OPENED, access_token=NEXT_DAY["access_token"])
    paper.disconnect()
    assert eventually(lambda: "feed_down" in listener.logs())
    Accounts(sessions).renew(ACCOUNT, Credentials(NEXT_DAY), datetime.now(UTC))
    tell_workers(desk, sessions)
    assert eventually(lambda: listener.logs().count('"subscribed"') == 2, within=20), listener.logs()
    paper.price(run.strategy.symbol, STOP)
    assert eventually(lambda: desk.live(run).latch is not None), listener.logs()
    assert listener.logs().count("feed_up") == 2


def told(price: str, seconds_ago: int) -> bytes:
    """A frame of the symbol, the close of the day before at the desk's price."""
    (listing,) = listings([SYMBOL.partition(":")[2]])
    units, close = (int(Decimal(each) * SCALE) for each in (price, PRICE))
    packet = TickPacket(
        listing.token,
        Mode.FULL,
        units,
        ohlc=Ohlc(close, close, close, close),
        exchange_time=int(time.time()) - seconds_ago,
    )
    return pack_frame([encode_full(packet)])


@pytest.mark.slow
def test_a_fall_beyond_the_days_band_fires_once_the_broker_tells_of_a_later_trade_there(
    feed: Feed, listener: ProcessContainer, desk: Desk
) -> None:
    run, now = desk.run(), desk.parts.clock.now().real
    assert desk.parts.store.arm(run, now + timedelta(hours=1), buying=True) is Armed.CREATED
    assert eventually(lambda: "subscribed" in listener.logs())
    # What the listener has written the feed may not have read: until then it sends nobody anything.
    assert eventually(lambda: feed.listeners > 0)
    fallen = str(Decimal(PRICE) / 2)
    desk.paper.price(SYMBOL, fallen)
    feed.send(told(PRICE, seconds_ago=6))
    # No other tick follows: without the broker's word nothing would ever confirm it.
    feed.send(told(fallen, seconds_ago=5))
    assert eventually(lambda: desk.live(run).latch is not None), listener.logs()
    assert '"quoted"' in listener.logs()
