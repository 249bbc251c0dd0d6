"""heard: what a call told of its account counts for the details it was made with."""

import pytest

from engine.domain.health import Change, Heard
from engine.domain.orders import Leg
from engine.runtime import keys
from tests.livestate import ACCOUNT, LiveState

#: Of details the account had before.
OLD = "v0"


def _hear(live: LiveState, what: Heard, version: str = ACCOUNT.version) -> list[Change]:
    return list(live.store.heard(ACCOUNT.id, version, what, Leg.EXIT, None))


def _dead(live: LiveState) -> object:
    return live.redis.hget(keys.health(ACCOUNT.id), "dead_version")


@pytest.mark.parametrize("what", [Heard.TOKEN_DEAD, Heard.TOKEN_LIVES, Heard.ANSWERED])
def test_what_an_old_token_heard_changes_nothing_known_of_the_new_one(live: LiveState, what: Heard) -> None:
    assert _hear(live, what, OLD) == []
    assert _dead(live) is None
    assert _hear(live, Heard.TOKEN_DEAD) == [Change.TOKEN_DIED]
    assert _hear(live, what, OLD) == []
    assert _dead(live) == ACCOUNT.version
