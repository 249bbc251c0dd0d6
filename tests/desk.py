"""A trading desk for tests: the live state opened, one account at a real paper broker, runs armed and told of fills.

What the recoverer, listener and order stream do in their processes is done here by the same adapters, one call each.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time
from decimal import Decimal
from itertools import count
from typing import Any

from cryptography.fernet import Fernet

from broker_connector.paper.process import PaperControl
from engine import bootstrap
from engine.bootstrap import Parts
from engine.config import Settings
from engine.domain.events import Event, EventType
from engine.domain.run import Run, RunId
from engine.domain.strategy import AbortPolicy, Strategy
from engine.domain.ticks import Tick
from engine.orderstream import OrderStream
from engine.ports import AccountState, Armed, Breach
from engine.runtime import keys
from engine.runtime.codec import to_us

SYMBOL = "NSE:INFY"
PRICE, STOP = "1550.00", "1500.00"
SCALE = 100
#: The options of a paper broker a desk trades at.
PAPER = ("--market", "manual", "--always-open", "--unlimited")
SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
CREDENTIALS = {"api_key": "paper-key", "access_token": "paper-token"}
ACCOUNT = 1


def environment(redis_url: str, database_url: str = "") -> dict[str, str]:
    """What the engine's processes and settings read of the environment."""
    names = {"REDIS_URL": redis_url, "ENGINE_SECRET_KEY": SECRET_KEY}
    return names | ({"DATABASE_URL": database_url} if database_url else {})


@dataclass
class Desk:
    """One tenant's desk. Strategies are numbered as they are armed."""

    parts: Parts
    paper: PaperControl
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def open(self) -> None:
        """Open the live state as the recoverer does, and put the account where workers read it."""
        self.parts.epoch.open(1)
        account = account_at(self.paper)
        self.parts.store.write_account(account)
        self.say_feed_lives()
        self.paper.reset()
        self.paper.change_book(partial_probability=0.0, rest_probability=0.0, fill_delay=0.0)
        self.paper.price(SYMBOL, PRICE)

    def say_feed_lives(self) -> None:
        """Say what a listener would, for there is none; a live state that was rebuilt does not know it."""
        self.parts.redis.hset(keys.feed(self.market), SYMBOL, to_us(datetime.now(UTC) + timedelta(days=1)))

    @property
    def market(self) -> str:
        """The market its account trades in."""
        return account_at(self.paper).market

    def run(
        self,
        *,
        buy_in: float = -0.5,
        sell_in: float = 3600.0,
        quantity: int = 10,
        on_abort: AbortPolicy = AbortPolicy.PROTECT,
        **changes: Any,
    ) -> Run:
        """A run whose times are so many seconds from now; not armed."""
        number, now = next(self._numbers), self.parts.clock.now()
        strategy = Strategy(
            number, f"S{number}", "acme", ACCOUNT, SYMBOL, quantity,
            wall_time(9, 30), wall_time(15), Decimal(STOP), on_abort=on_abort,
        )  # fmt: skip
        return Run(
            id=RunId(number, now.market.date()),
            strategy=strategy,
            buy_at=now.market + timedelta(seconds=buy_in),
            sell_at=now.market + timedelta(seconds=sell_in),
            closes_at=now.market + timedelta(hours=6),
            stop_units=int(Decimal(STOP) * SCALE),
            **changes,
        )

    def arm(self, **asked: Any) -> Run:
        """A run as `run` makes it, with its live state created."""
        run = self.run(**asked)
        assert self.parts.store.arm(run, self.parts.clock.now().when(run.buy_at), buying=False) is Armed.CREATED
        return run

    def live(self, run: Run) -> Run:
        """The run as it stands now."""
        found = self.parts.store.run(str(run.id))
        assert found is not None, f"run {run.id} is not live"
        return found

    def ended(self, run: Run) -> tuple[str, str] | None:
        """(status, position) of a run that is over; None while it lives."""
        tombstone: Mapping[str, str] = self.parts.redis.hgetall(keys.tombstone(str(run.id)))  # type: ignore[assignment]
        return (tombstone["status"], tombstone["position"]) if tombstone else None

    def tick(self, price: str) -> list[Breach]:
        """The market moves to `price` and the listener evaluates the tick."""
        self.paper.price(SYMBOL, price)
        tick = Tick(SYMBOL, int(Decimal(price) * SCALE), datetime.now(UTC))
        return list(self.parts.store.on_tick(self.market, [tick], self.parts.real.now(), f"sl:{price}"))

    def hear(self) -> None:
        """The broker's order stream tells what became of every order."""
        updates = OrderStream(
            self.parts.store, self.parts.publisher, self.parts.clock, self.parts.settings.deployment, self.parts.log
        )
        for entry in self.parts.brokers.of(ACCOUNT, "1").orders():
            updates.on_update(entry, ACCOUNT)

    def ask(self, run: Run, **fields: str) -> None:
        """Write into the run what must happen, as whoever asks for it does before a message is sent."""
        assert self.parts.store.signal(run.id, fields, self.parts.real.now()) == "ok"

    def sent(self, side: str = "") -> list[dict[str, Any]]:
        """The broker's own ledger: the orders of a side, or all."""
        return [row for row in self.paper.ledger() if side in {"", row["side"]}]

    def records(self, kind: str = "") -> list[dict[str, Any]]:
        """The bodies of the ledger's records, of one kind or all."""
        entries: Any = self.parts.redis.xrange(keys.LEDGER)
        bodies = [json.loads(fields["body"]) for _, fields in entries]
        return [body for body in bodies if kind in {"", body["kind"]}]

    def outcomes(self, event: Event) -> list[str]:
        """The terminal records of an event: what the ledger says came of it."""
        return [body["outcome"] for body in self.records() if body.get("event_id") == event.id]


def event_of(run: Run, kind: EventType) -> Event:
    """A wake-up of `run` with an id of its own."""
    return Event(f"test:{kind}:{run.id}:{time.monotonic_ns()}", kind, run.id)


def account_at(paper: PaperControl) -> AccountState:
    """The desk's account, its credentials sealed as the database seals them."""
    sealed = Fernet(SECRET_KEY).encrypt(json.dumps(CREDENTIALS).encode()).decode()
    return AccountState(ACCOUNT, "acme", "paper", "paper", paper.base_url, paper.ws_url, sealed, "1")


@contextmanager
def open_desk(redis_url: str, paper: PaperControl, **settings: Any) -> Iterator[Desk]:
    """A desk on an empty Redis, closed after the block."""
    given = {"REDIS_URL": redis_url, "secret_key": SECRET_KEY, **settings}
    desk = Desk(bootstrap.parts("desk", Settings.model_validate(given)), paper)
    desk.open()
    try:
        yield desk
    finally:
        desk.parts.brokers.close()
        desk.parts.redis.close()
