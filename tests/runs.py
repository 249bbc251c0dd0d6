"""Hypothesis strategies for runs in any state a store could hold, sensible or not."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import strategies as st

from engine.domain.orders import Leg, Order, OrderStatus
from engine.domain.run import ExitReason, Latch, Run, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode
from tests.builders import BUY_AT, QUANTITY, SELL_AT, order, run, strategy

#: Around the times that matter: buying, its lateness, selling.
MOMENTS = st.builds(
    lambda anchor, offset: anchor + timedelta(milliseconds=offset),
    st.sampled_from((BUY_AT, SELL_AT)),
    st.integers(-60_000, 120_000),
)
MAYBE = st.none() | MOMENTS
WORDS = st.text(max_size=12)
PRICES = st.decimals(Decimal("0.01"), Decimal(10_000), places=2)


@st.composite
def _orders(draw: st.DrawFn, leg: Leg) -> list[Order]:
    attempts = sorted(draw(st.sets(st.integers(1, 6), max_size=3)))
    return [
        order(
            leg,
            draw(st.sampled_from(OrderStatus)),
            draw(st.sampled_from((0, 4, QUANTITY))),
            attempt=attempt,
            send_by=draw(MOMENTS),
            settles_at=draw(MOMENTS),
            broker_order_id=draw(WORDS),
            average_price=draw(PRICES),
            filled_at=draw(MAYBE),
            updated_at=draw(MAYBE),
            reason=draw(WORDS),
            given_up=draw(st.booleans()),
            seen=draw(st.booleans()),
            unsent=draw(st.booleans()),
            settled=draw(st.booleans()),
            agreed_since=draw(MAYBE),
            repriced_at=draw(MAYBE),
            limit_price=draw(st.none() | PRICES),
            limit_shown=draw(st.none() | PRICES),
            reprices=draw(st.integers(0, 9)),
            quantity_shown=draw(st.none() | st.integers(0, 99)),
            beyond=draw(st.integers(0, 9)),
            cancels=draw(st.integers(0, 9)),
            rest_alerted=draw(st.booleans()),
            double_alerted=draw(st.booleans()),
            doubt_alerted=draw(st.booleans()),
            refusal_alerted=draw(st.booleans()),
            disputed_since=draw(MAYBE),
            dispute_alerted=draw(st.booleans()),
            unseen_since=draw(MAYBE),
            session_ends=draw(MAYBE),
            granted_at=draw(MAYBE),
        )
        for attempt in attempts
    ]


LATCHES = st.builds(Latch, st.integers(1, 10_000), MOMENTS, st.text("sl:1", min_size=1), MAYBE)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Any combination of fields and orders; quantities need not make sense together."""
    return run(
        *draw(_orders(Leg.ENTRY)),
        *draw(_orders(Leg.EXIT)),
        spec=strategy(on_abort=draw(st.sampled_from(AbortPolicy)), name=draw(WORDS), stop_loss=draw(PRICES)),
        status=draw(st.sampled_from(RunStatus)),
        exit_reason=draw(st.none() | st.sampled_from(ExitReason)),
        failure=draw(st.sampled_from(("", "why", "exit_keeps_failing", "token_invalid"))),
        latch=draw(st.none() | LATCHES),
        stop_requested=draw(st.none() | st.sampled_from(StopMode)),
        abort_requested=draw(st.sampled_from(("", "unsafe"))),
        entry_retry_at=draw(MAYBE),
        exit_retry_at=draw(MAYBE),
        dirty=draw(st.booleans()),
        unread=draw(st.booleans()),
        book_asked_at=draw(MAYBE),
        book_read_at=draw(MAYBE),
        unread_since=draw(MAYBE),
        unread_alerted=draw(st.booleans()),
        uncovered_since=draw(MAYBE),
        uncovered=draw(st.integers(0, 20)),
        uncovered_told=draw(st.integers(0, 20)),
        session_told=draw(MAYBE),
        unproven_since=draw(MAYBE),
        cover_awaited_since=draw(MAYBE),
        cover_awaited_told=draw(st.booleans()),
    )
