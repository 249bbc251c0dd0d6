"""The end of a login on a real server: told once by whoever looks, entries refused from then on, exits not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.tokens import TokenWatch
from tests.fakes import RecordingLog
from tests.livestate import ACCOUNT, LiveState

ENDS = datetime(2026, 1, 6, 0, 30, tzinfo=UTC)
SOON, AFTER = ENDS - timedelta(minutes=10), ENDS + timedelta(seconds=5)
DYING = replace(ACCOUNT, token_ends=ENDS)


def codes(live: LiveState) -> list[str]:
    return [alert["code"] for body in live.records() for alert in body.get("alerts", [])]


def test_its_end_is_told_once_ahead_and_once_when_it_has_come_whoever_looks(live: LiveState) -> None:
    live.arm()
    for now in (SOON, SOON, AFTER, AFTER):
        # A process that has just started knows nothing of the one before.
        TokenWatch(live.store, RecordingLog()).look([DYING], now)
    assert codes(live) == ["token_ends", "token_ended"]


def test_the_next_login_has_an_end_of_its_own_to_be_told(live: LiveState) -> None:
    live.arm()
    watch = TokenWatch(live.store, RecordingLog())
    watch.look([DYING], AFTER)
    watch.look([replace(DYING, token_ends=ENDS + timedelta(days=1))], AFTER + timedelta(days=1))
    assert codes(live) == ["token_ended", "token_ended"]


@pytest.mark.parametrize("ends", [None, ENDS])
def test_nobody_is_told_of_an_account_without_a_run_or_without_an_end(live: LiveState, ends: datetime | None) -> None:
    if ends is None:
        live.arm()
    TokenWatch(live.store, RecordingLog()).look([replace(ACCOUNT, token_ends=ends)], AFTER)
    assert codes(live) == []
