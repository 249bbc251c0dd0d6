"""A whole engine on one machine: servers, paper broker and every process of the Procfile, in order.

Used by `engine up`, `engine demo` and `engine replay`, which differ only in market, clock and what they add.
"""

import os
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from sqlalchemy.exc import SQLAlchemyError

from broker_connector.paper.process import ControlError, PaperControl
from engine.clock import Scale
from engine.config import CalendarKind, MarketClock, Settings
from engine.domain.market import market_of
from engine.runtime import keys
from engine.runtime.connect import connect
from engine.stack import procfile
from engine.stack.problems import EnvironmentProblem
from engine.stack.servers import Servers
from engine.stack.supervisor import Supervisor
from models import schema
from models.database import Sessions, open_database, sessions_of
from models.repositories.accounts import Account, Accounts
from models.secrets import Credentials, Encrypted

#: The one process list.
PROCFILE = Path(__file__).parents[1] / "Procfile"
#: Where the paper broker keeps its book, in the state directory.
PAPER_STATE = "paper.sqlite"
#: How long all processes may take to be ready, seconds.
READY_WITHIN = 60.0
#: Processes that leave no sign of life: they are asked directly, or nothing waits for them.
SILENT = frozenset({"paper", "flower", "api"})
#: Processes that have nothing to be ready for until there is an account.
NEED_ACCOUNT = frozenset({"listener", "listener-2", "orderstream"})

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Market:
    """Which market the paper broker plays, and by what clock and calendar the engine lives."""

    #: The paper broker's command line; None for no paper broker.
    paper_options: str | None
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
        kill_points: Path | None = None,
        metrics_port: int = 0,
        say: Say = lambda _line: None,
    ) -> None:
        """`kill_points`: where every process looks whether it is to be struck, for fault trials only.

        `metrics_port`: where the drainer serves its metrics, unless the environment names another port; 0 for nowhere.
        """
        self._directory = directory
        self._market = market
        self._secret_key = secret_key
        self._kill_points = kill_points
        self._metrics_port = metrics_port
        #: Redis and PostgreSQL; those of our own can be killed.
        self.servers = Servers(directory, redis_url=redis_url, database_url=database_url)
        self._without = frozenset(without) | ({"paper"} if market.paper_options is None else frozenset())
        self._say = say
        self._supervisor: Supervisor | None = None
        self._paper_token = secrets.token_urlsafe(16)
        self._paper_pid: int | None = None
        self._opened: set[str] = set()
        self._port = free_port()
        #: The paper broker's control interface.
        self.paper = PaperControl(f"http://127.0.0.1:{self._port}", self._paper_token)

    @property
    def settings(self) -> Settings:
        """The settings every process of this stack runs under."""
        return Settings.model_validate(
            {
                "REDIS_URL": self.servers.redis_url,
                "DATABASE_URL": self.servers.database_url,
                "secret_key": self._secret_key,
                "market_clock": self._market.clock,
                "calendar": self._market.calendar,
                "kill_points": self._kill_points,
            }
        )

    @property
    def paper_market(self) -> str:
        """The market its paper broker makes."""
        return market_of("paper", self.paper.base_url, self.paper.ws_url)

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
        self.servers.start()
        schema.upgrade(self.servers.database_url)
        Encrypted.use(self._secret_key)
        self.redis = connect(self.servers.redis_url)
        for name in self._names():
            self.redis.delete(keys.process(name))
        self.sessions: Sessions = sessions_of(open_database(self.servers.database_url))
        # The port is a new one at each start, and the processes read where their accounts are.
        Accounts(self.sessions).move("paper", self.paper.base_url, self.paper.ws_url)
        self._say("starting the processes")
        processes = [each for each in procfile.read(PROCFILE) if each.name not in self._without]
        self._supervisor = Supervisor(processes, self._environment(), self.log_dir)
        self._supervisor.start()
        if "paper" not in self._without:
            self._wait("the paper broker", lambda: [] if self._paper_answers() else ["paper"])
            self._open_accounts()

    def stop(self) -> None:
        """End every process and our own servers."""
        if self._supervisor is not None:
            self._supervisor.stop()
        self.servers.stop()
        self.paper.close()

    def revive(self) -> list[str]:
        """Start again what of our own died; tells which servers. What is given to us is not ours to start."""
        revived = self.servers.revive()
        if self._supervisor is not None and not self._supervisor.alive():
            self._supervisor.start()
        if "paper" not in self._without:
            # What is away now is asked again at the next look.
            with suppress(requests.RequestException, ControlError, SQLAlchemyError):
                self._open_accounts()
        return revived

    def states(self) -> dict[str, tuple[str, int | None]]:
        """Each process's state and id."""
        return self._supervisor.states() if self._supervisor else {}

    def wait_ready(self) -> None:
        """Return once every process has shown a sign of life; raises EnvironmentProblem naming those that have not."""
        self._wait("the processes", self.unready)

    def unready(self) -> list[str]:
        """Processes that have shown no sign of life yet, or not for a while."""
        silent = SILENT if Accounts(self.sessions).list() else SILENT | NEED_ACCOUNT
        needed = [name for name in self._names() if name not in self._without | silent]
        return [name for name in needed if not self.redis.exists(keys.process(name.removeprefix("worker-")))]

    def add_account(self, tenant: str) -> None:
        """Open a paper account for `tenant`, if it has none, at the broker and in the engine."""
        accounts = Accounts(self.sessions)
        if accounts.named(tenant, "paper") is None:
            accounts.add(paper_account(tenant, self.paper.base_url, self._market.rates))
        self._open_account(accounts.named(tenant, "paper"))

    def _open_accounts(self) -> None:
        """Open at the paper broker what is stored since the last look, and all it forgot when it ended."""
        pid = self.states().get("paper", ("", None))[1]
        if pid != self._paper_pid:
            self._paper_pid, self._opened = pid, set()
        for account in Accounts(self.sessions).list():
            if account.broker == "paper" and account.tenant not in self._opened:
                self._open_account(account)

    def _open_account(self, account: Account | None) -> None:
        assert account is not None
        # The engine keeps the account's limits; the paper broker then enforces none but its own defaults.
        limits: dict[str, Any] = {"limits": {}} if self._market.rates else {}
        self.paper.add_account(account_id=account.tenant, **account.credentials.values, **limits)
        self._opened.add(account.tenant)

    def announce(self, scale: Scale) -> None:
        """Tell the paper broker and every process how market time runs."""
        fields: dict[Any, Any] = dict(scale.as_fields())
        self.paper.set_clock(fields["real_anchor"], fields["market_anchor"], scale.speed)
        self.redis.hset(keys.MARKET_CLOCK, mapping=fields)

    def _environment(self) -> dict[str, str]:
        chosen = self.settings
        struck = {} if self._kill_points is None else {"ENGINE_KILL_POINTS": str(self._kill_points)}
        return {
            "ENGINE_METRICS_PORT": str(self._metrics_port),
            **os.environ,
            **struck,
            "REDIS_URL": chosen.redis_url,
            "DATABASE_URL": chosen.database_url,
            "ENGINE_SECRET_KEY": self._secret_key,
            "ENGINE_MARKET_CLOCK": chosen.market_clock.value,
            "ENGINE_CALENDAR": chosen.calendar.value,
            # Its book lives as long as the engine's own state: positions are still there after a restart.
            "PAPER_OPTIONS": f"--port {self._port} --state {shlex.quote(str(self._directory / PAPER_STATE))}"
            f" {self._market.paper_options or ''}",
            "PAPER_CONTROL_TOKEN": self._paper_token,
        }

    def _names(self) -> list[str]:
        return [each.name for each in procfile.read(PROCFILE)]

    def _paper_answers(self) -> bool:
        try:
            return bool(self.paper.health()["ready"])
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


def paper_account(tenant: str, base_url: str, rates: Mapping[str, int] | None = None) -> Account:
    """A new account of `tenant` at the paper broker at `base_url`, with credentials of its own."""
    return Account(
        tenant=tenant,
        name="paper",
        broker="paper",
        base_url=base_url,
        ws_url=base_url.replace("http", "ws", 1) + "/ws",
        credentials=Credentials({"api_key": f"key-{tenant}", "access_token": secrets.token_urlsafe(16)}),
        rates=rates or {},
    )


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
