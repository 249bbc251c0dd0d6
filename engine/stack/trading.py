"""A whole engine on one machine: servers, paper broker and every process of the Procfile, in order.

Used by `engine up`, `engine demo` and `engine replay`, which differ only in market, clock and what they add.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from engine.clock import Scale
from engine.config import CalendarKind, MarketClock, Settings
from engine.runtime import keys
from engine.runtime.connect import connect
from engine.stack import procfile
from engine.stack.problems import EnvironmentProblem
from engine.stack.servers import Servers
from engine.stack.supervisor import Supervisor
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.repositories.accounts import Account, Accounts, Tenants
from models.secrets import Credentials, Encrypted

#: The one process list.
PROCFILE = Path(__file__).parents[2] / "Procfile"
#: How long all processes may take to be ready, seconds.
READY_WITHIN = 60.0
#: How long the paper broker may take to answer a control call, seconds.
CONTROL_TIMEOUT = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Market:
    """Which market the paper broker plays, and by what clock and calendar the engine lives."""

    paper_options: str
    clock: MarketClock = MarketClock.REAL
    calendar: CalendarKind = CalendarKind.EXCHANGE
    #: Order limits of each account by window; {} for the broker's own.
    rates: Mapping[str, int] = field(default_factory=dict)


class TradingStack:
    """`with TradingStack(...) as stack:` runs the engine until the block ends. Raises EnvironmentProblem."""

    def __init__(
        self,
        directory: Path,
        market: Market,
        secret_key: str,
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
        without: Iterable[str] = ("flower",),
        say: Say = lambda _line: None,
    ) -> None:
        self._directory = directory
        self._market = market
        self._secret_key = secret_key
        self._servers = Servers(directory, redis_url=redis_url, database_url=database_url)
        self._without = frozenset(without)
        self._say = say
        self._supervisor: Supervisor | None = None
        self._paper_token = secrets.token_urlsafe(16)
        self._port = free_port()

    @property
    def paper_url(self) -> str:
        """The paper broker's address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def settings(self) -> Settings:
        """The settings every process of this stack runs under."""
        return Settings.model_validate(
            {
                "REDIS_URL": self._servers.redis_url,
                "DATABASE_URL": self._servers.database_url,
                "secret_key": self._secret_key,
                "market_clock": self._market.clock,
                "calendar": self._market.calendar,
            }
        )

    @property
    def log_dir(self) -> Path:
        """Where each process writes its log."""
        return self._directory / "logs"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._say("starting the servers")
        self._servers.start()
        schema.upgrade(self._servers.database_url)
        Encrypted.use(self._secret_key)
        self.redis = connect(self._servers.redis_url)
        for name in self._names():
            self.redis.delete(keys.process(name))
        self.sessions: Sessions = sessions_of(open_database(self._servers.database_url))
        self._say("starting the processes")
        processes = [each for each in procfile.read(PROCFILE) if each.name not in self._without]
        self._supervisor = Supervisor(processes, self._environment(), self.log_dir)
        self._supervisor.start()
        self._wait("the paper broker", lambda: [] if self._paper_answers() else ["paper"])

    def stop(self) -> None:
        """End every process and our own servers."""
        if self._supervisor is not None:
            self._supervisor.stop()
        self._servers.stop()

    def revive(self) -> None:
        """Start again what of our own died; what is given to us is not ours to start."""
        for name in self._servers.revive():
            self._say(f"{name} had died and was started again")
        if self._supervisor is not None and not self._supervisor.alive():
            self._supervisor.start()

    def states(self) -> dict[str, tuple[str, int | None]]:
        """Each process's state and id."""
        return self._supervisor.states() if self._supervisor else {}

    def wait_ready(self) -> None:
        """Return once every process has shown a sign of life; raises EnvironmentProblem naming those that have not."""
        self._wait("the processes", self._unready)

    def add_account(self, tenant: str) -> None:
        """Open a paper account for `tenant`, if it has none, at the broker and in the engine."""
        accounts = Accounts(self.sessions)
        known = accounts.named(tenant, "paper")
        if known is None:
            token = secrets.token_urlsafe(16)
            credentials = Credentials({"api_key": f"key-{tenant}", "access_token": token})
            Tenants(self.sessions).ensure(tenant)
            accounts.add(
                Account(
                    tenant=tenant,
                    name="paper",
                    broker="paper",
                    base_url=self.paper_url,
                    ws_url=self.paper_url.replace("http", "ws") + "/ws",
                    credentials=credentials,
                    rates=self._market.rates,
                )
            )
        else:
            credentials = known.credentials
            token = credentials.values["access_token"]
        body = {"account_id": tenant, "api_key": credentials.values["api_key"], "access_token": token}
        # The engine keeps the account's limits; the paper broker then enforces none but its own defaults.
        self.paper("POST", "/paper/accounts", body | ({"limits": {}} if self._market.rates else {}))

    def announce(self, scale: Scale) -> None:
        """Tell the paper broker and every process how market time runs."""
        self.paper("POST", "/paper/clock", scale.as_fields() | {"speed": scale.speed})
        fields: dict[Any, Any] = dict(scale.as_fields())
        self.redis.hset(keys.MARKET_CLOCK, mapping=fields)

    def paper(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """One call to the paper broker's control interface."""
        answer = requests.request(
            method,
            self.paper_url + path,
            data=json.dumps(body) if body is not None else None,
            headers={"X-Paper-Token": self._paper_token},
            timeout=CONTROL_TIMEOUT,
        )
        answer.raise_for_status()
        return answer.json()

    def market_time(self) -> datetime:
        """The market's time as the paper broker has it."""
        return datetime.fromisoformat(self.paper("GET", "/paper/health")["market_time"])

    def _environment(self) -> dict[str, str]:
        chosen = self.settings
        return {
            **os.environ,
            "REDIS_URL": chosen.redis_url,
            "DATABASE_URL": chosen.database_url,
            "ENGINE_SECRET_KEY": self._secret_key,
            "ENGINE_MARKET_CLOCK": chosen.market_clock.value,
            "ENGINE_CALENDAR": chosen.calendar.value,
            "PAPER_OPTIONS": f"--port {self._port} {self._market.paper_options}",
            "PAPER_CONTROL_TOKEN": self._paper_token,
        }

    def _names(self) -> list[str]:
        return [each.name for each in procfile.read(PROCFILE)]

    def _unready(self) -> list[str]:
        needed = [name for name in self._names() if name not in self._without | {"paper"}]
        return [name for name in needed if not self.redis.exists(keys.process(name.removeprefix("worker-")))]

    def _paper_answers(self) -> bool:
        try:
            return bool(self.paper("GET", "/paper/health")["ready"])
        except requests.RequestException:
            return False

    def _wait(self, what: str, missing: Callable[[], list[str]]) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while left := missing():
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"{what} not ready within {READY_WITHIN:.0f} s ({', '.join(left)}): see the logs in {self.log_dir}"
                )
            self._say(f"waiting for {', '.join(left)}")
            time.sleep(0.1)


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
