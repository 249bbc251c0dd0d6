"""What the engine sends for one event, taken down once, for something that does nothing else to send for other runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker_connector.http import ANSWER_TIMEOUT, Line
from engine import bootstrap
from engine.domain.events import EventType
from engine.domain.orders import Leg
from engine.domain.run import Run, client_order_id
from engine.runtime.scripts import Scripts
from tests.desk import Desk, event_of

#: A script's name, its keys and its arguments.
Call = tuple[str, list[str], list[str]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Claim and intend; the POST's form; commit."""

    before: list[Call]
    form: dict[str, str]
    after: list[Call]

    def renamed(self, names: Sequence[tuple[str, str]]) -> "Recorded":
        """The same with each first name of a pair replaced by the second."""

        def text(value: object) -> str:
            told = str(value)
            for old, new in names:
                told = told.replace(old, new)
            return told

        def calls(of: list[Call]) -> list[Call]:
            return [(name, [*map(text, keys)], [*map(text, arguments)]) for name, keys, arguments in of]

        return Recorded(calls(self.before), {name: text(value) for name, value in self.form.items()}, calls(self.after))


def record(desk: Desk, model: Run, kind: EventType) -> tuple[Recorded, Scripts, Line]:
    """What `desk` sends when it serves `kind` for `model`, and by which clients."""
    calls: list[Call] = []
    posts: list[tuple[int, dict[str, str]]] = []
    clients: list[Any] = []
    call_script, send = Scripts.call, Line.send

    def call(self: Scripts, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        calls.append((name, [*keys], [*map(str, arguments)]))
        clients.append(self)
        return call_script(self, name, keys, arguments)

    def post(self: Line, method: str, path: str, form: Any = None, may_send: Any = None, within: float = 0.0) -> Any:
        posts.append((len(calls), dict(form)))
        clients.append(self)
        return send(self, method, path, form, may_send, within or ANSWER_TIMEOUT)

    Scripts.call, Line.send = call, post  # type: ignore[method-assign]
    try:
        outcome = bootstrap.pipeline(desk.parts).process(event_of(model, kind).as_wire())
    finally:
        Scripts.call, Line.send = call_script, send  # type: ignore[method-assign]
    assert outcome == "submitted: accepted", outcome
    ((sent_after, form),) = posts
    scripts, line = clients[0], clients[sent_after]
    return Recorded(calls[:sent_after], form, calls[sent_after:]), scripts, line


def names_of(desk: Desk, model: Run, other: Run, leg: Leg) -> list[tuple[str, str]]:
    """What of `model`'s calls is another in `other`'s."""
    deployment = desk.parts.settings.deployment
    ids = [client_order_id(deployment, run.id, leg, 1) for run in (model, other)]
    return [(str(model.id), str(other.id)), (ids[0], ids[1])]
