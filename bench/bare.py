"""The floor of a herd's orders: the same three scripts and the same POST, with the same clients, and nothing else.

What the engine sends for one order is taken down once; for the others only the names in it are changed.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis.commands.core import Script

from broker_connector.http import Line
from engine import bootstrap
from engine.domain.events import EventType
from engine.domain.orders import Leg
from engine.domain.run import Run, client_order_id
from tests.desk import Desk, event_of

#: The calls of one order: claim and intend, the POST, and commit.
SCRIPTS_BEFORE_POST = 2


class Bare:
    """A loop over `runs` on so many threads."""

    def __init__(self, desk: Desk, runs: Sequence[Run], threads: int) -> None:
        self._redis: Any = desk.parts.redis
        self._threads = threads
        model = desk.arm(buy_in=0)
        self._scripts, self._line, self._form = _taken_down(desk, model)
        deployment = desk.parts.settings.deployment
        names = str(model.id), client_order_id(deployment, model.id, Leg.ENTRY, 1)
        self._others = [(names, (str(run.id), client_order_id(deployment, run.id, Leg.ENTRY, 1))) for run in runs]
        self._ready = [self._renamed(*each) for each in self._others]
        # Its own order is not counted, and every connection stands before the clock runs.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: (self._redis.ping(), self._line.send("GET", "/user/profile")), range(threads * 4)))
        desk.paper.reset()

    def run(self) -> None:
        """All of them, as fast as it goes."""
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._one, self._ready))

    def _one(self, calls: tuple[list[list[str]], dict[str, str]]) -> None:
        scripts, form = calls
        for number, call in enumerate(scripts):
            if number == SCRIPTS_BEFORE_POST:
                self._line.send("POST", "/orders/regular", form)
            self._redis.evalsha(*call)

    def _renamed(self, old: tuple[str, str], new: tuple[str, str]) -> tuple[list[list[str]], dict[str, str]]:
        def renamed(value: object) -> str:
            text = str(value)
            for before, after in zip(old, new, strict=True):
                text = text.replace(before, after)
            return text

        return [[renamed(word) for word in call] for call in self._scripts], {
            name: renamed(value) for name, value in self._form.items()
        }


def _taken_down(desk: Desk, model: Run) -> tuple[list[list[Any]], Line, dict[str, str]]:
    """The scripts' calls, and the line and form of the POST, of one order the engine sends."""
    scripts: list[list[Any]] = []
    posts: list[tuple[Line, dict[str, str]]] = []
    call_script, send = Script.__call__, Line.send

    def script(self: Script, keys: Any = (), args: Any = (), client: Any = None) -> Any:
        scripts.append([self.sha, len(keys), *keys, *args])
        return call_script(self, keys, args, client)

    def post(self: Line, method: str, path: str, form: Any = None, may_send: Any = None) -> Any:
        posts.append((self, dict(form)))
        return send(self, method, path, form, may_send)

    Script.__call__, Line.send = script, post  # type: ignore[method-assign]
    try:
        outcome = bootstrap.pipeline(desk.parts).process(event_of(model, EventType.BUY).as_wire())
    finally:
        Script.__call__, Line.send = call_script, send  # type: ignore[method-assign]
    assert outcome == "submitted: accepted", outcome
    assert len(scripts) == SCRIPTS_BEFORE_POST + 1
    ((line, form),) = posts
    return scripts, line, form
