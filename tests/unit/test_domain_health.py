"""An account's health: entries pause while the broker is silent or refuses its token; exits never do."""

import pytest

from engine.domain.broker import Outcome, RejectCause, Reply
from engine.domain.budget import limits_of
from engine.domain.health import OPENS_AFTER, PAUSE_US, Change, DeniedBy, Health, Heard, alert_of, heard_of, line_of
from engine.domain.orders import Leg

NOW = 1_000_000_000_250_000


def silent(times: int) -> Health:
    health = Health()
    for _ in range(times):
        health, _ = health.heard(Heard.SILENT, Leg.ENTRY, "v1", NOW)
    return health


@pytest.mark.parametrize("leg", Leg)
def test_the_breaker_opens_at_the_last_of_its_failures_and_never_for_an_exit(leg: Leg) -> None:
    assert silent(OPENS_AFTER - 1).denies(leg, "v1", None, NOW) is None
    assert silent(OPENS_AFTER - 1).heard(Heard.SILENT, leg, "v1", NOW)[1] == (Change.OPENED,)
    assert silent(OPENS_AFTER).heard(Heard.SILENT, leg, "v1", NOW)[1] == ()
    denied = silent(OPENS_AFTER + 3).denies(leg, "v1", None, NOW + 1)
    assert denied == (None if leg is Leg.EXIT else (DeniedBy.BREAKER, PAUSE_US - 1))


def test_one_entry_a_pause_may_probe() -> None:
    later = NOW + PAUSE_US
    health = silent(OPENS_AFTER)
    assert health.denies(Leg.ENTRY, "v1", None, later) is None
    assert health.granted(Leg.ENTRY, later).denies(Leg.ENTRY, "v1", None, later) == (DeniedBy.BREAKER, PAUSE_US)
    assert health.granted(Leg.EXIT, later) == health


@pytest.mark.parametrize("what", [Heard.ANSWERED, Heard.LIMITED, Heard.TOKEN_DEAD])
def test_any_answer_closes_it_and_a_read_does_not(what: Heard) -> None:
    closed, changes = silent(OPENS_AFTER).heard(what, Leg.EXIT, "v1", NOW)
    assert not closed.is_open
    assert changes[0] is Change.CLOSED
    assert silent(OPENS_AFTER).heard(Heard.TOKEN_LIVES, Leg.EXIT, "v1", NOW) == (silent(OPENS_AFTER), ())


@pytest.mark.parametrize(("refused", "entry", "exit_"), [(Leg.ENTRY, True, False), (Leg.EXIT, True, True)])
def test_a_pause_the_broker_asked_for_holds_its_class(refused: Leg, entry: bool, exit_: bool) -> None:
    health, _ = Health().heard(Heard.LIMITED, refused, "v1", NOW, 2_000_000)
    for leg, held in ((Leg.ENTRY, entry), (Leg.EXIT, exit_)):
        assert health.denies(leg, "v1", None, NOW) == ((DeniedBy.BROKER, 2_000_000) if held else None)
        assert health.denies(leg, "v1", None, NOW + 2_000_000) is None
    assert health.heard(Heard.ANSWERED, Leg.EXIT, "v1", NOW + 2_000_000)[0] == Health()


def test_without_a_retry_after_the_next_calendar_second_is_waited_for() -> None:
    health, _ = Health().heard(Heard.LIMITED, Leg.EXIT, "v1", NOW)
    assert health.denies(Leg.EXIT, "v1", None, NOW) == (DeniedBy.BROKER, 750_000)


def test_a_refused_token_stops_entries_until_there_is_another_and_is_told_once() -> None:
    dead, changes = Health().heard(Heard.TOKEN_DEAD, Leg.EXIT, "v1", NOW)
    assert changes == (Change.TOKEN_DIED,)
    assert dead.heard(Heard.TOKEN_DEAD, Leg.EXIT, "v1", NOW) == (dead, ())
    assert dead.denies(Leg.ENTRY, "v1", None, NOW) == (DeniedBy.TOKEN, 0)
    assert dead.denies(Leg.EXIT, "v1", None, NOW) is None
    assert dead.denies(Leg.ENTRY, "v2", None, NOW) is None
    assert dead.heard(Heard.TOKEN_LIVES, Leg.EXIT, "v1", NOW) == (Health(), (Change.TOKEN_LIVES,))


def test_a_token_is_dead_from_its_hour() -> None:
    assert Health().denies(Leg.ENTRY, "v1", NOW, NOW - 1) is None
    assert Health().denies(Leg.ENTRY, "v1", NOW, NOW) == (DeniedBy.TOKEN, 0)
    assert Health().denies(Leg.EXIT, "v1", NOW, NOW) is None


@pytest.mark.parametrize("outcome", Outcome)
def test_every_reply_tells_something(outcome: Outcome) -> None:
    expected = {
        Outcome.TIMEOUT: Heard.SILENT,
        Outcome.SERVER_DOWN: Heard.SILENT,
        Outcome.TOKEN_INVALID: Heard.TOKEN_DEAD,
    }
    assert heard_of(Reply(outcome)) is expected.get(outcome, Heard.ANSWERED)
    assert heard_of(Reply(Outcome.REJECTED, cause=RejectCause.RATE_LIMITED)) is Heard.LIMITED


@pytest.mark.parametrize("change", Change)
def test_every_change_names_its_account(change: Change) -> None:
    assert "acme/main" in alert_of(change, "acme", "main").message


@pytest.mark.parametrize(
    ("health", "told"),
    [
        (Health(), "good"),
        (silent(OPENS_AFTER), "entries pause: no answer"),
        (Health(limited_exit=NOW + 1), "pause asked for"),
        (Health(limited_exit=NOW), "good"),
        (Health(dead_version="v1"), "token refused"),
        (Health(dead_version="v0"), "good"),
    ],
)
def test_a_line_has_a_word_for_people(health: Health, told: str) -> None:
    assert line_of(health, "v1", NOW) == told


@pytest.mark.parametrize(("rate", "reserve"), [(10, 2), (400, 80), (4, 1), (2, 1), (1, 0), (0, 0)])
def test_a_share_of_every_window_is_kept_for_exits(rate: int, reserve: int) -> None:
    assert limits_of({"second": rate}) == {"rate_second": rate, "reserve_second": reserve}
