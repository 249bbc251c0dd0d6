"""What a fault has at hand while it is put in: the running stack, the orders to strike, the trials it concerns."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from broker_connector.paper.process import PaperControl
from engine.bootstrap import Remote
from engine.chaos.tap import Orders
from engine.chaos.trial import Trial
from engine.dispatch import TASK_OF
from engine.domain.events import Event, EventType
from engine.domain.run import RunId
from engine.ports import StoreClosed
from engine.stack.postgres import EmbeddedPostgres
from engine.stack.valkey import EmbeddedValkey
from engine.trading import TradingStack
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials
from tasks.app import app_at

#: Seconds a run may take to end that a person resolved.
RESOLVED_WITHIN = 15.0
#: A fault being put in: advanced at every look, it ends when the fault is over.
Course = Iterator[None]


@dataclass(slots=True)
class Field:
    """One fault and its surroundings. Times are of `time.monotonic`."""

    stack: TradingStack
    orders: Orders
    remote: Remote
    trials: list[Trial]
    #: The broker's scripted faults that have not met their calls yet, as of this look.
    pending: Callable[[], list[dict[str, Any]]]
    struck_at: float | None = None
    #: What else is worth telling of it.
    remarks: list[str] = field(default_factory=list)
    #: Processes that were killed: the next wave waits until they are ready again.
    killed: list[str] = field(default_factory=list)
    #: What must be undone where the fault never came to its end.
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def redis_server(self) -> EmbeddedValkey:
        """Redis itself."""
        assert self.stack.servers.valkey is not None
        return self.stack.servers.valkey

    @property
    def postgres_server(self) -> EmbeddedPostgres:
        """PostgreSQL itself."""
        assert self.stack.servers.postgres is not None
        return self.stack.servers.postgres

    @property
    def paper(self) -> PaperControl:
        """The paper broker's control interface."""
        return self.stack.paper

    def strike(self) -> None:
        """Say that the fault has happened."""
        self.struck_at = self.now()

    @staticmethod
    def now() -> float:
        """What `mono_...` times are of."""
        return time.monotonic()

    def pid(self, process: str) -> int | None:
        """The id of a process of the stack while it runs."""
        return self.stack.states().get(process, ("", None))[1]

    def publish(self, trial: Trial, kind: EventType, name: str) -> None:
        """Wake a worker for the run of `trial`."""
        self.publish_to(trial.run, kind, name)

    def publish_to(self, run: RunId, kind: EventType, name: str) -> None:
        """Wake a worker for `run`, which may be nobody's."""
        self.remote.publisher.publish(Event(name, kind, run))

    def publish_together(self, trial: Trial, kinds: Iterable[EventType]) -> float:
        """Wake workers for the run of `trial`, once for each kind, in one write; returns how long that took, ms."""
        with app_at(self.stack.settings.redis_url) as app, app.producer_pool.acquire(block=True) as pooled:
            producer: Any = pooled  # whose types know no batch yet
            assert producer.supports_batch_publish
            with producer.batch() as batch:
                for kind in kinds:
                    event = Event(f"chaos:{kind}:{trial.run}", kind, trial.run)
                    app.send_task(TASK_OF[kind], args=(event.as_wire(),), producer=producer, retry=False)
                # Built and routed; what is left is the write.
                began = time.perf_counter()
                batch.flush()
                return (time.perf_counter() - began) * 1e3

    def signal_stop(self, trial: Trial) -> bool:
        """Ask for FORCE_STOP in the run itself; False while the store is closed or the run is not in it."""
        try:
            fields = {"stop_requested": "close"}
            return self.remote.store.signal(trial.run, fields, self.remote.real.now()) in {"ok", "full", "gone"}
        except StoreClosed:
            return False

    def log_out(self, tenant: str) -> None:
        """Kill the account's access token at the broker."""
        values = self.account(tenant).credentials.values
        query = {"api_key": values["api_key"], "access_token": values["access_token"]}
        requests.delete(f"{self.paper.base_url}/session/token", params=query, timeout=10).raise_for_status()

    def log_in(self, tenant: str) -> None:
        """Give the account a new token, at the broker and in the engine, as a login does."""
        account = self.account(tenant)
        values = dict(account.credentials.values)
        values["access_token"] += "+"
        self.paper.add_account(account_id=tenant, **values)
        Accounts(self.stack.sessions).renew(account.id, Credentials(values), datetime.now(UTC))

    def resolve_closed(self, trial: Trial) -> "Course":
        """Say that the position of `trial` was closed elsewhere, as its owner does, and wait until its run ends."""
        name = str(trial.run)
        run = self.remote.store.run(name)
        if run is not None:
            self.remote.store.signal(trial.run, {"closed_elsewhere": str(run.held)}, self.remote.real.now())
            self.publish(trial, EventType.FORCE_STOP, f"chaos:closed:{name}")
        yield from until(lambda: self.remote.store.ended(name) is not None, RESOLVED_WITHIN)
        if self.remote.store.ended(name) is None:
            trial.violations.append(f"not ended {RESOLVED_WITHIN:.0f} s after it was resolved as closed")

    @property
    def tenants(self) -> list[str]:
        """Whose trials they are."""
        return [*dict.fromkeys(trial.tenant for trial in self.trials)]

    def account(self, tenant: str) -> Account:
        """The account of a tenant, as it is stored."""
        account = Accounts(self.stack.sessions).named(tenant, "paper")
        assert account is not None
        return account


def until(condition: Callable[[], bool], within: float = math.inf) -> Course:
    """Wait for `condition`, `within` so many seconds at most."""
    end = time.monotonic() + within
    while not condition() and time.monotonic() < end:
        yield


def pause(seconds: float) -> Course:
    """Wait so long."""
    end = time.monotonic() + seconds
    yield from until(lambda: time.monotonic() >= end)


def send(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended."""
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
