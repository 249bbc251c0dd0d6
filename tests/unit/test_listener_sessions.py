"""A session an operator changes is the one ticks are judged by from then on; what a guard has seen stays."""

from dataclasses import replace
from typing import Any

from engine.domain.feed import FeedPolicy, Refusal, SymbolGuard
from engine.listener import Listener
from tests.builders import OPENS, SESSION, at, tick


def test_a_symbol_is_judged_by_its_session_as_the_calendar_now_has_it() -> None:
    sessions = [SESSION]
    nothing: Any = type("Nothing", (), {"now": lambda _: at(OPENS, seconds=20), "on_tick": lambda *_: []})()

    def guard_for(_symbol: str) -> SymbolGuard:
        return SymbolGuard(FeedPolicy(), sessions[-1])

    listener = Listener(nothing, "market", nothing, guard_for, lambda *_, **__: None)
    listener.on_frame([tick(10_000, 10)], OPENS)
    assert listener.evaluated == 1
    sessions.append(replace(SESSION, closes=OPENS))
    listener.follow()
    listener.on_frame([tick(10_000, 15)], OPENS)
    assert listener.evaluated == 1
    assert listener.refused() == {Refusal.OUT_OF_SESSION: 1}
