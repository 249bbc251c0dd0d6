"""What holds of every decision about every run, however strange the run."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.action import Ignore, Policy, Submit, Wait
from engine.domain.decision import decide, next_action, outlook
from engine.domain.events import EventType
from engine.domain.moment import Moment
from engine.domain.orders import Leg
from engine.domain.run import Position, Run
from tests.runs import MOMENTS, runs

POLICY = Policy()
NOWS = st.builds(Moment, MOMENTS, MOMENTS, st.sampled_from((1.0, 60.0)))
EVENTS = st.sampled_from(EventType)


@given(runs(), EVENTS, NOWS)
def test_every_event_has_a_decision_and_every_wait_an_end_to_come(run: Run, event: EventType, now: Moment) -> None:
    decision = decide(run, event, now, POLICY)
    if isinstance(decision, Wait):
        assert decision.until > now.real
    if isinstance(decision, Ignore):
        assert decision.reason


@given(runs(), EVENTS, NOWS)
def test_an_order_is_sent_only_where_its_leg_is_free(run: Run, event: EventType, now: Moment) -> None:
    decision = decide(run, event, now, POLICY)
    if isinstance(decision, Submit):
        assert run.live(decision.leg) is None
        if decision.leg is Leg.EXIT:
            assert 0 < decision.quantity <= run.held
            # What was bought too much is sold for no reason of the position's.
            surplus = run.held - run.strategy.quantity
            assert decision.exit_reason is not None or decision.quantity == surplus
            assert not run.is_frozen
        else:
            assert run.position is Position.NONE
            assert decision.quantity == run.strategy.quantity
            assert run.attempts(Leg.ENTRY) < POLICY.entry_attempts
            assert now.late(run.buy_at) <= POLICY.max_lateness


@given(runs(), NOWS)
def test_what_a_run_asks_for_is_an_action_and_due_at_once(run: Run, now: Moment) -> None:
    urgent = next_action(run, now, POLICY)
    attention = outlook(run, now, POLICY)[1]
    if urgent is None:
        assert attention is None or attention > now.real
    else:
        assert type(urgent[1]) not in {Ignore, Wait}
        assert decide(run, urgent[0], now, POLICY) == urgent[1]
        assert attention == now.real


@given(MOMENTS, MOMENTS, st.floats(0.1, 1000), st.timedeltas(timedelta(0), timedelta(hours=9)))
def test_a_market_moment_is_late_by_what_has_passed_since_its_real_instant(
    market: datetime, real: datetime, speed: float, ahead: timedelta
) -> None:
    now = Moment(market, real, speed)
    assert abs(now.when(market + ahead) - real - ahead / speed) <= timedelta(microseconds=1)
    assert abs(now.late(market - ahead) - ahead / speed) <= timedelta(microseconds=1)
