"""Whatever order an order's news arrives in, and however often, the engine believes the same in the end."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.orders import Evidence, Order, OrderStatus, absorb
from tests.builders import BUY_AT, QUANTITY, entry, evidence

S = OrderStatus
AT = BUY_AT + timedelta(seconds=1)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Order, list[Evidence]]:
    """An order just sent, and everything an honest broker said of it, oldest first."""
    order = entry(draw(st.sampled_from((S.SENDING, S.UNKNOWN, S.ACCEPTED))))
    fills = sorted(draw(st.sets(st.integers(1, QUANTITY - 1), max_size=4)))
    last = fills[-1] if fills else 0
    told = [evidence(order, S.ACCEPTED)]
    told += [evidence(order, S.PARTIALLY_FILLED, filled, filled_at=BUY_AT + filled * timedelta(1)) for filled in fills]
    end = draw(
        st.sampled_from((None, S.CANCEL_PENDING, S.CANCELED, S.EXPIRED, S.FILLED, *(() if last else (S.REJECTED,))))
    )
    if end is not None:
        filled = QUANTITY if end is S.FILLED else last
        when = BUY_AT + filled * timedelta(1) if filled else None
        told.append(evidence(order, end, filled, filled_at=when, reason="the end"))
    return order, told


def _after(order: Order, told: list[Evidence]) -> Order:
    for item in told:
        order = absorb(order, item, AT)
    return order


@given(histories(), st.data())
def test_evidence_in_any_order_and_repeated_leads_to_the_same_order(
    history: tuple[Order, list[Evidence]], data: st.DataObject
) -> None:
    order, told = history
    repeated = told + data.draw(st.lists(st.sampled_from(told), max_size=5))
    shuffled = data.draw(st.permutations(repeated))
    assert _after(order, shuffled) == _after(order, told)


@given(histories(), st.data())
def test_what_filled_never_shrinks(history: tuple[Order, list[Evidence]], data: st.DataObject) -> None:
    order, told = history
    for item in data.draw(st.permutations(told)):
        after = absorb(order, item, AT)
        assert after.filled_quantity >= order.filled_quantity
        order = after


@given(histories())
def test_a_repeat_tells_nothing_new(history: tuple[Order, list[Evidence]]) -> None:
    order, told = history
    after = _after(order, told)
    for item in told:
        if item.status is not S.CANCEL_PENDING:
            later = absorb(after, item, AT + timedelta(seconds=9))
            assert replace(later, updated_at=after.updated_at) == after
