"""The `Store` port's contract: on any sequence of calls the Redis in memory answers and holds what a server does."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from engine.domain.health import OPENS_AFTER, Change, Heard
from engine.domain.orders import Leg
from engine.ports import Slot
from engine.runtime import store as scripts
from tests.livestate import open_live_state
from tests.storepair import CHANGES, NUMBERS, STRANGER, Pair, run_id

ANY_SERVER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
#: Sequences of the suite everybody runs, and of the long one.
FEW, MANY = 40, 500
#: Fields a run may hold before a flood of evidence is answered with a hint, as in signal.lua.
MOST_FIELDS = 400
#: Longer than any sequence takes, so that only a step ends a lease: ms, and the pause of a parked event, us.
LONG_LEASE_MS, LONG_PARKED_US = 60_000, 60_000_000

Step = tuple[str, dict[str, Any]]


@pytest.fixture
def pair(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(scripts, "LEASE_MS", LONG_LEASE_MS)
    monkeypatch.setattr(scripts, "PARKED_US", LONG_PARKED_US)
    live = open_live_state(redis, redis_url)
    yield Pair(live)
    live.client.close()


def step(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


RUNS = st.sampled_from(NUMBERS)
TOKENS = st.sampled_from("ab")
#: Who acts, the newest holder of a run first.
HOLDERS = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4))
DUES = st.sampled_from((-10, 10, 20, 30))
FLAGS = st.booleans()
SIGNALS = st.sampled_from(
    ({"dirty": "1"}, {"stop_requested": "close"}, {"abort_requested": "unsafe"}, {"entry_retry_at": "5"}, {})
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "rate_second": st.integers(0, 3),
        "rate_day": st.integers(0, 4),
        "reserve_second": st.integers(0, 2),
        "entry_slots": st.integers(0, 2),
        "exit_slots": st.integers(0, 2),
        "update_slots": st.integers(0, 2),
    },
)
#: Prices around the stops, times around the fills: a frame holds a few.
FRAMES = st.lists(
    st.tuples(st.sampled_from((0, 1)), st.sampled_from((9300, 9400, 9500, 9700)), st.sampled_from((None, 0, 5, 10))),
    max_size=3,
)
ARM = step("arm", number=RUNS, due=DUES, buying=FLAGS, latched=st.sampled_from((False, False, True)))
CLAIM = step("claim", number=RUNS | st.just(STRANGER), token=TOKENS, slot=st.sampled_from(Slot))
INTEND = step("intend", holder=HOLDERS, leg=st.sampled_from(Leg), attempt=st.sampled_from((1, 2)), due=DUES)
COMMIT = step(
    "commit", holder=HOLDERS, step=st.sampled_from((1, 2)), change=st.sampled_from(sorted(CHANGES)),
    due=st.none() | DUES, release=FLAGS, first_fill=st.sampled_from((None, None, 0, 7, 12)),
    finished=st.sampled_from((False, False, False, True)),
)  # fmt: skip
HELD = st.dictionaries(st.sampled_from((0, 1)), st.integers(-3, 20))
RARE = st.one_of(
    step("dead_letter", reason=st.text(max_size=5), payload=st.text(max_size=5)),
    step("account", number=st.sampled_from((1, 2, 3))),
    step("extend", holder=HOLDERS, seconds=st.sampled_from((3, 90))),
    step("lease_runs_out", number=RUNS),
    step("note", number=RUNS | st.just(STRANGER), token=TOKENS),
    step("cover", account=st.sampled_from((1, 2)), held=HELD, second=st.sampled_from((0, 5))),
    step("prolong", number=RUNS, hours=st.sampled_from((6, 30)), due=DUES),
    step("alert", code=st.text(max_size=5)),
    step("outage", lost=FLAGS),
)
STEPS = st.one_of(
    ARM, ARM, CLAIM, CLAIM, CLAIM, INTEND, INTEND, COMMIT, COMMIT, RARE,
    step("again"),
    step("signal", number=RUNS, fields=SIGNALS, due=DUES),
    step("tell", number=RUNS, filled=st.integers(1, 3), due=DUES),
    step("on_tick", ticks=FRAMES),
    step("sweep", limit=st.integers(1, 5)),
    step("fall_due", number=RUNS, seconds=st.sampled_from((1, 2, 3))),
    step(
        "heard", account=st.sampled_from((1, 2)), version=st.sampled_from(("v0", "v0", "v1")),
        what=st.sampled_from((Heard.SILENT, Heard.SILENT, Heard.SILENT, *Heard)), leg=st.sampled_from(Leg),
        pause=st.sampled_from((None, 60)),
    ),
    step("write_account", number=st.sampled_from((1, 2)), limits=LIMITS),
)  # fmt: skip


def agree(pair: Pair, sequence: list[Step]) -> None:
    """Play `sequence` on both sides, compared after each step."""
    both = Pair(pair.live)
    for name, arguments in sequence:
        getattr(both, name)(**arguments)
        both.check()


@settings(ANY_SERVER, max_examples=FEW)
@given(sequence=st.lists(STEPS, max_size=40))
def test_the_memory_and_a_server_agree_on_any_sequence(pair: Pair, sequence: list[Step]) -> None:
    agree(pair, sequence)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(ANY_SERVER, max_examples=MANY)
@given(sequence=st.lists(STEPS, max_size=80))
def test_the_memory_and_a_server_agree_on_many_long_sequences(pair: Pair, sequence: list[Step]) -> None:
    agree(pair, sequence)


def test_a_limit_that_was_lifted_holds_no_longer(pair: Pair) -> None:
    pair.write_account(1, {"entry_slots": 0})
    pair.claim(1, "a", Slot.ENTRY)
    pair.write_account(1, {})
    pair.account(1)
    pair.claim(1, "a", Slot.ENTRY)
    pair.check()
    assert len(pair.live.records("event")) == 1


def test_a_breaker_opens_on_both_sides_for_entries_alone_and_an_answer_closes_it(pair: Pair) -> None:
    told = [pair.heard(1, "v0", Heard.SILENT, Leg.ENTRY, None)[1] for _ in range(OPENS_AFTER + 1)]
    assert told == [[]] * (OPENS_AFTER - 1) + [[Change.OPENED], []]
    for number, leg in ((1, Leg.ENTRY), (2, Leg.EXIT)):
        pair.claim(number, "a", Slot.NONE)
        pair.intend(0, leg, 1, 10)
    pair.check()
    assert len(pair.live.records("submitted")) == 1
    assert pair.heard(1, "v0", Heard.ANSWERED, Leg.EXIT, None)[1] == [Change.CLOSED]
    pair.intend(1, Leg.ENTRY, 1, 10)
    assert len(pair.live.records("submitted")) == 2


def test_a_refused_token_denies_entries_until_the_account_has_another(pair: Pair) -> None:
    assert pair.heard(1, "v0", Heard.TOKEN_DEAD, Leg.EXIT, None)[1] == [Change.TOKEN_DIED]
    pair.claim(1, "a", Slot.NONE)
    pair.intend(0, Leg.ENTRY, 1, 10)
    assert not pair.live.records("submitted")
    pair.write_account(1, {"rate_day": 9})
    pair.intend(0, Leg.ENTRY, 1, 10)
    assert len(pair.live.records("submitted")) == 1
    assert pair.heard(1, "v0", Heard.TOKEN_DEAD, Leg.EXIT, None)[1] == []


def test_breaches_of_one_tick_come_by_their_stops(pair: Pair) -> None:
    (breaches, _) = pair.on_tick([(0, 9300, 5)])
    assert [breach.run_id.strategy_id for breach in breaches] == [3, 1, 2]
    pair.check()


def test_an_order_locks_a_run_that_was_glanced_at_and_only_as_it_was(pair: Pair) -> None:
    pair.on_tick([(0, 9300, 5)])
    pair.signal(1, {}, 10)
    for holder in (0, 1, 2):
        pair.intend(holder, Leg.EXIT, 1, 10)
        pair.check()
    assert [each["run"] for each in pair.live.records("submitted")] == [str(run_id(2)), str(run_id(3))]


def test_only_evidence_is_refused_by_a_run_that_is_full(pair: Pair) -> None:
    # A grant leaves its own fields behind, which count as well.
    pair.claim(1, "a", Slot.NONE)
    pair.intend(0, Leg.ENTRY, 1, 10)
    answers = {pair.tell(1, filled, 10)[0] for filled in range(MOST_FIELDS + 5)}
    assert answers == {"ok", "full"}
    assert pair.signal(1, {"stop_requested": "close", "abort_requested": "unsafe"}, 10)[0] == "ok"
    pair.check()
