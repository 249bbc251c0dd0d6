"""Finds the engine a command speaks to: the one running in the state directory, or the one the environment names."""

import os
from dataclasses import dataclass

from engine import bootstrap
from engine.calendar import Calendar
from engine.config import Settings
from engine.stack.problems import EnvironmentProblem
from engine.stack.servers import check_database, check_redis, normalise
from engine.stack.state import Running, StateDir
from models import schema
from models.database import Sessions

#: What names the servers of an engine.
VARIABLES = ("REDIS_URL", "DATABASE_URL")


@dataclass(frozen=True, slots=True)
class Deployment:
    """An engine's settings and its durable state; `paper_url` where new paper accounts can be opened."""

    settings: Settings
    sessions: Sessions
    paper_url: str | None

    def calendar(self) -> Calendar:
        """The sessions this engine trades in."""
        return bootstrap.calendar(self.settings, self.sessions)

    def remote(self) -> bootstrap.Remote:
        """Its live state and queue; raises EnvironmentProblem."""
        check_redis(self.settings.redis_url)
        return bootstrap.remote(self.settings, _silent)


def find() -> Deployment:
    """The engine at hand; raises EnvironmentProblem where there is none, or it cannot be reached."""
    state = StateDir()
    running = state.read_running()
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if running is not None and _is_meant(running, given):
        settings = _settings_of(running, state)
    elif len(given) == len(VARIABLES):
        running, settings = None, Settings()
    else:
        raise EnvironmentProblem(
            f"no engine is running in {state.path}: start one with `engine up --market synthetic`, "
            "or name the servers of one in REDIS_URL and DATABASE_URL"
        )
    check_database(settings.database_url)
    if schema.current(settings.database_url) is None:
        raise EnvironmentProblem("the database in DATABASE_URL has no tables of an engine: start the engine once")
    return Deployment(settings, bootstrap.database(settings), running.paper_url if running is not None else None)


def _silent(action: str, /, **facts: object) -> None:
    """No log: a message lost here is the sweeper's to repeat."""
    del action, facts


def _is_meant(running: Running, given: dict[str, str]) -> bool:
    """Whether the environment names the running engine's own servers, or none."""
    same_redis = given.get("REDIS_URL", running.redis_url) == running.redis_url
    return same_redis and normalise(given.get("DATABASE_URL", running.database_url)) == normalise(running.database_url)


def _settings_of(running: Running, state: StateDir) -> Settings:
    return Settings.model_validate(
        {
            "REDIS_URL": running.redis_url,
            "DATABASE_URL": running.database_url,
            "calendar": running.calendar,
            "secret_key": state.secret_key().decode(),
        }
    )
