"""Ids of runs and orders over their whole range, and quantities no evidence can make nonsense of."""

import re
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.orders import TERMINAL, Leg, OrderStatus
from engine.domain.run import Position, RunId, client_order_id, parse_client_order_id
from tests.builders import BUY_AT, DEPLOYMENT, entry, evidence, exit_, run

LEGS = st.sampled_from(Leg)
RUN_IDS = st.builds(
    RunId, st.integers(0, 36**7 - 1), st.dates(date(2000, 1, 1), date(2127, 1, 1)), st.integers(0, 36**2 - 1)
)
NAMES = st.tuples(st.from_regex(r"[A-Z0-9]{2}", fullmatch=True), RUN_IDS, LEGS, st.integers(0, 36**3 - 1))
#: Text that looks like one of our ids but for what may stand in its places.
ALMOST_OURS = st.from_regex(r"EE[-+_ .A-Za-z0-9\u0660-\u0669]{12}[EX][-+_ A-Z0-9]{3}", fullmatch=True)


@given(st.builds(RunId, st.integers(0, 10**11 - 1), st.dates(date(1000, 1, 1)), st.integers(0, 9999)))
def test_a_run_id_survives_the_way_to_text_and_back(run_id: RunId) -> None:
    assert RunId.parse(str(run_id)) == run_id


@given(NAMES)
def test_a_client_order_id_is_eighteen_plain_characters_and_tells_its_parts(
    name: tuple[str, RunId, Leg, int],
) -> None:
    text = client_order_id(*name)
    assert re.fullmatch(r"[A-Z0-9]{18}", text)
    assert parse_client_order_id(name[0], text) == name[1:]


@given(NAMES, NAMES)
def test_two_attempts_share_an_id_only_if_they_are_one(
    one: tuple[str, RunId, Leg, int], other: tuple[str, RunId, Leg, int]
) -> None:
    assert (client_order_id(*one) == client_order_id(*other)) == (one == other)


@given(st.text(max_size=20) | ALMOST_OURS)
def test_a_tag_is_ours_only_if_we_would_write_it_the_same(tag: str) -> None:
    parsed = parse_client_order_id(DEPLOYMENT, tag)
    assert parsed is None or client_order_id(DEPLOYMENT, *parsed) == tag


@given(
    bought=st.integers(0, 10),
    sold=st.integers(0, 10),
    entry_status=st.sampled_from(OrderStatus),
    exit_status=st.sampled_from(OrderStatus),
)
def test_what_is_held_follows_fills_whatever_the_statuses_say(
    bought: int, sold: int, entry_status: OrderStatus, exit_status: OrderStatus
) -> None:
    sold = min(sold, bought)
    held = run(entry(entry_status, bought), exit_(exit_status, sold))
    assert held.held == bought - sold >= 0
    assert (held.position is Position.NONE) == (bought == 0)
    assert (held.position is Position.BOUGHT) == (bought > sold)
    may_trade = {entry_status, exit_status} - TERMINAL
    assert not (held.is_terminal and (may_trade or held.held))


@given(st.lists(st.tuples(LEGS, st.sampled_from(OrderStatus), st.integers(0, 5)), max_size=12))
def test_consistent_evidence_never_shows_less_than_nothing_held(told: list[tuple[Leg, OrderStatus, int]]) -> None:
    state = run(entry(OrderStatus.ACCEPTED), exit_(OrderStatus.ACCEPTED))
    for leg, status, filled in told:
        # Consistent: an exit never fills more than the entry has proven so far.
        most = filled if leg is Leg.ENTRY else min(filled, state.filled(Leg.ENTRY))
        before = state
        order = next(o for o in state.orders if o.leg is leg)
        state = state.absorb(evidence(order, status, most), BUY_AT + timedelta(seconds=1))
        assert state.held >= 0
        assert all(state.filled(each) >= before.filled(each) for each in Leg)
