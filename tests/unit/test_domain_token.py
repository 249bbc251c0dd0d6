"""How long a token lives, and what a human is told of its end."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_connector.registry import BROKERS
from engine.domain.broker import BrokerProfile
from engine.domain.token import AHEAD, word_on

KITE = BROKERS["kite"].profile
ENDS = datetime(2026, 1, 6, 0, 30, tzinfo=UTC)
S = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("issued", "ends"),
    [
        (datetime(2026, 1, 5, 3, tzinfo=UTC), ENDS),
        (datetime(2026, 1, 5, 20, tzinfo=UTC), ENDS),
        (ENDS - S, ENDS),
        (ENDS, ENDS + timedelta(days=1)),
    ],
)
def test_a_token_of_kite_ends_at_six_in_the_morning_in_india(issued: datetime, ends: datetime) -> None:
    assert KITE.token_ends(issued) == ends


@given(st.timedeltas(timedelta(0), timedelta(days=3000)), st.times())
def test_a_token_lives_for_a_day_at_most_and_ends_at_its_brokers_time(since: timedelta, dies: time) -> None:
    issued = ENDS + since
    ends = BrokerProfile("any", False, 0, 20, token_dies=dies.replace(tzinfo=UTC)).token_ends(issued)
    assert ends is not None
    assert timedelta(0) < ends - issued <= timedelta(days=1)
    assert ends.timetz() == dies.replace(tzinfo=UTC)


def test_a_token_nobody_knows_the_age_of_has_no_end_and_the_paper_brokers_has_none() -> None:
    assert KITE.token_ends(None) is None
    assert BROKERS["paper"].profile.token_ends(ENDS) is None


#: In the evening, and while the account holds.
LATER, NOW = timedelta(hours=9), timedelta(0)


@pytest.mark.parametrize(
    ("now", "needed_in", "told"),
    [
        (ENDS - AHEAD - S, NOW, None),
        (ENDS - AHEAD, LATER, ("warning", "token_ends")),
        (ENDS - S, NOW, ("warning", "token_ends")),
        (ENDS, LATER, ("warning", "token_ended")),
        (ENDS, AHEAD + S, ("warning", "token_ended")),
        (ENDS, AHEAD, ("critical", "token_missing")),
        (ENDS + AHEAD, -LATER, ("critical", "token_missing")),
    ],
)
def test_somebody_is_told_ahead_at_its_end_and_before_it_is_missed(
    now: datetime, needed_in: timedelta, told: tuple[str, str] | None
) -> None:
    alert = word_on(ENDS, needed_in, now, "acme", "main")
    assert (None if alert is None else (alert.severity, alert.code)) == told
    assert alert is None or "`engine account login acme main`" in alert.message
