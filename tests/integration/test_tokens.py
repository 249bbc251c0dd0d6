"""The end of a login on a real server: told once by whoever looks, entries refused from then on, exits not."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from engine.tokens import TokenWatch
from tests.builders import BUY_AT, S, at
from tests.fakes import RecordingLog
from tests.livestate import ACCOUNT, LiveState

ENDS = BUY_AT - timedelta(hours=3)
SOON, AFTER, MISSED = (at(each) for each in (ENDS - 600 * S, ENDS + S, BUY_AT - 1800 * S))
DYING = replace(ACCOUNT, token_ends=ENDS)


def codes(live: LiveState) -> list[str]:
    return [alert["code"] for body in live.records() for alert in body.get("alerts", [])]


def test_its_end_is_told_once_ahead_and_once_when_it_has_come_whoever_looks(live: LiveState) -> None:
    live.arm()
    for now in (SOON, SOON, AFTER, AFTER, MISSED, MISSED):
        # A process that has just started knows nothing of the one before.
        TokenWatch(live.store, RecordingLog()).look([DYING], now)
    assert codes(live) == ["token_ends", "token_ended", "token_missing"]


def test_the_next_login_has_an_end_of_its_own_to_be_told(live: LiveState) -> None:
    live.arm()
    watch = TokenWatch(live.store, RecordingLog())
    watch.look([DYING], MISSED)
    watch.look([replace(DYING, token_ends=ENDS + timedelta(days=1))], at(MISSED.real, days=1))
    assert codes(live) == ["token_missing", "token_missing"]


@pytest.mark.parametrize("ends", [None, ENDS])
def test_nobody_is_told_of_an_account_without_a_run_or_without_an_end(live: LiveState, ends: datetime | None) -> None:
    if ends is None:
        live.arm()
    TokenWatch(live.store, RecordingLog()).look([replace(ACCOUNT, token_ends=ends)], AFTER)
    assert codes(live) == []
