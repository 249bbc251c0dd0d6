"""This process as a worker: tasks run where they are called, on a real Valkey and Redis and the real paper broker."""

import logging
from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from broker_connector.paper.process import PaperControl, paper_broker
from engine import bootstrap
from engine.config import settings
from tasks.app import app, app_at
from tests.builders import STOP
from tests.desk import PAPER, Desk, environment, open_desk
from tests.livestate import LiveState
from tests.world import World


@pytest.fixture
def world(live: LiveState) -> World:
    """The whole path from a message to the broker's book, with a broker and a clock in memory."""
    return World(live)


@pytest.fixture
def breached(world: World) -> World:
    """A run that holds and whose stop is breached."""
    world.buy()
    world.clock.advance(60)
    world.breach(STOP)
    return world


@pytest.fixture(scope="module")
def paper() -> Iterator[PaperControl]:
    with paper_broker(*PAPER) as control:
        yield control


@pytest.fixture
def own_logging() -> Iterator[None]:
    """A worker sets logging up for its process: for this one, it is put back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def queue(redis: Redis, redis_url: str) -> Iterator[Celery]:
    """An app on the real queue: what the engine itself publishes stays there to be looked at, nobody consumes it."""
    unattended = app_at(redis_url)
    yield unattended
    unattended.close()


@pytest.fixture
def desk(
    redis: Redis,
    redis_url: str,
    paper: PaperControl,
    queue: Celery,
    own_logging: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    """A desk, and this process as its one worker, which runs tasks where they are called."""
    for name, value in environment(redis_url).items():
        monkeypatch.setenv(name, value)
    # As a worker does: the tasks are found by celeryconfig's imports.
    app.loader.import_default_modules()
    monkeypatch.setattr(bootstrap, "app", queue)
    for name in ("task_always_eager", "task_eager_propagates"):
        monkeypatch.setitem(app.conf, name, True)
    settings.cache_clear()
    with open_desk(redis_url, paper) as opened:
        yield opened
    bootstrap.close_worker()
    settings.cache_clear()
