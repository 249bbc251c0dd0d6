"""Settings: one model, read from the environment once, at composition. Holds no rule and no default of the domain."""

from datetime import timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.domain.action import Policy


class MarketClock(StrEnum):
    """Whose time schedules and ticks are told in."""

    REAL = "real"
    SCALED = "scaled"


class CalendarKind(StrEnum):
    """Which sessions there are."""

    EXCHANGE = "exchange"
    ALWAYS_OPEN = "always_open"


def _names(value: Any) -> Any:
    """The names of a list written with commas."""
    return frozenset(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_names)]


class Settings(BaseSettings):
    """The environment, typed. Every variable begins with ENGINE_ but the two URLs everyone knows."""

    model_config = SettingsConfigDict(env_prefix="ENGINE_", extra="ignore")

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    database_url: str = Field(default="postgresql+psycopg2:///engine", validation_alias="DATABASE_URL")
    #: Two characters that begin every client order id of this deployment.
    deployment: str = Field(default="EE", pattern=r"^[A-Z0-9]{2}$")
    #: Fernet key of the stored credentials.
    secret_key: SecretStr = SecretStr("")
    market_clock: MarketClock = MarketClock.REAL
    calendar: CalendarKind = CalendarKind.EXCHANGE
    log_level: str = "INFO"
    #: CloudWatch log group; empty logs to standard output alone. Needs the `cloudwatch` extra.
    cloudwatch_group: str = ""
    #: Real seconds; see `engine.domain.action.Policy`.
    max_lateness: float = Field(default=30.0, gt=0)
    rest_limit: float = Field(default=30.0, gt=0)
    silence_limit: float = Field(default=5.0, gt=0)
    #: Market minutes before its session's end at which an intraday position is sold: before your broker does it.
    square_off: float = Field(default=12.0, gt=0, le=120)
    #: Exchanges or symbols ("BSE,NSE:XYZ") without a closing auction; every other symbol stops trading before it.
    no_auction: Names = frozenset()
    #: Accounts ("tenant/name,...") that carry their market's price feed before any other does.
    feed_accounts: Names = frozenset()
    #: Where the drainer serves /metrics, see docs/metrics.md; port 0 for nowhere.
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    #: Where the HTTP interface listens; behind a proxy that speaks TLS.
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8790, ge=1, le=65535)
    #: What this process is called in the Procfile; whoever starts it from there says so.
    process: str = ""
    #: Where `engine chaos` leaves its orders to strike a process, see `engine.chaos.tap`; never set elsewhere.
    kill_points: Path | None = None

    def policy(self) -> Policy:
        """The decisions' tunables."""
        return Policy(
            max_lateness=timedelta(seconds=self.max_lateness),
            rest_limit=timedelta(seconds=self.rest_limit),
            silence_limit=timedelta(seconds=self.silence_limit),
            square_off=timedelta(minutes=self.square_off),
        )


@cache
def settings() -> Settings:
    """This process's settings; raises pydantic's ValidationError naming the variable."""
    return Settings()
