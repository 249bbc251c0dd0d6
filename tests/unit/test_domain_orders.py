"""Every pair of an order's transition table, and what evidence does to an order."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product

import pytest

from engine.domain.orders import TERMINAL, TRANSITIONS, IllegalTransition, OrderStatus, OrderTrigger, absorb, outranks
from tests.builders import BUY_AT, entry, evidence

S, T = OrderStatus, OrderTrigger
AT = BUY_AT + timedelta(seconds=1)

#: One row a status, one column a trigger; None is illegal.
COLUMNS = (T.ACCEPT, T.DOUBT, T.REJECT, T.FILL_PART, T.FILL_ALL, T.REQUEST_CANCEL, T.CANCEL, T.EXPIRE)
LIFE: dict[OrderStatus, tuple[OrderStatus | None, ...]] = {
    S.SENDING: (S.ACCEPTED, S.UNKNOWN, S.REJECTED, S.PARTIALLY_FILLED, S.FILLED, None, S.CANCELED, S.EXPIRED),
    S.UNKNOWN: (S.ACCEPTED, S.UNKNOWN, S.REJECTED, S.PARTIALLY_FILLED, S.FILLED, None, S.CANCELED, S.EXPIRED),
    S.ACCEPTED: (
        *(S.ACCEPTED, None, S.REJECTED, S.PARTIALLY_FILLED),
        *(S.FILLED, S.CANCEL_PENDING, S.CANCELED, S.EXPIRED),
    ),
    S.PARTIALLY_FILLED: (
        *(S.PARTIALLY_FILLED, None, S.REJECTED, S.PARTIALLY_FILLED),
        *(S.FILLED, S.CANCEL_PENDING, S.CANCELED, S.EXPIRED),
    ),
    S.CANCEL_PENDING: (
        *(S.CANCEL_PENDING, None, S.REJECTED, S.CANCEL_PENDING),
        *(S.FILLED, S.CANCEL_PENDING, S.CANCELED, S.EXPIRED),
    ),
    # The book outranks what we were told: an order called refused may rest, one called dead may have filled.
    S.REJECTED: (S.ACCEPTED, None, None, S.PARTIALLY_FILLED, S.FILLED, None, None, None),
    S.CANCELED: (None, None, None, None, S.FILLED, None, None, None),
    S.EXPIRED: (None, None, None, None, S.FILLED, None, None, None),
    S.FILLED: (None,) * 8,
}
PAIRS = [(status, trigger, LIFE[status][COLUMNS.index(trigger)]) for status, trigger in product(S, T)]


def test_the_table_here_names_every_status_and_every_trigger() -> None:
    assert set(LIFE) == set(S)
    assert set(COLUMNS) == set(T)
    assert len(PAIRS) == len(S) * len(T)


@pytest.mark.parametrize(("status", "trigger", "end"), PAIRS)
def test_each_pair_moves_the_order_or_is_illegal(
    status: OrderStatus, trigger: OrderTrigger, end: OrderStatus | None
) -> None:
    before = entry(status, reason="earlier")
    if end is None:
        with pytest.raises(IllegalTransition) as caught:
            before.on(trigger, AT)
        assert (caught.value.status, caught.value.trigger) == (status, trigger)
        assert before.client_order_id in str(caught.value)
        assert (status, trigger) not in TRANSITIONS
    else:
        assert before.on(trigger, AT) == replace(before, status=end, updated_at=AT)
        assert before.on(trigger, AT, "why").reason == "why"


def test_only_a_proven_end_is_terminal() -> None:
    assert {S.FILLED, S.REJECTED, S.CANCELED, S.EXPIRED} == TERMINAL


@pytest.mark.parametrize("status", S)
def test_an_order_lives_until_its_end_or_until_it_is_replaced(status: OrderStatus) -> None:
    assert entry(status).is_live == (status not in TERMINAL)
    assert not entry(status, given_up=True).is_live


@pytest.mark.parametrize("status", S)
def test_only_an_order_known_to_stand_at_the_broker_rests(status: OrderStatus) -> None:
    assert entry(status).is_resting == (status in {S.ACCEPTED, S.PARTIALLY_FILLED, S.CANCEL_PENDING})


#: What is known, what is said, and what is believed then; each pair as (status, filled).
RANKED = [
    ((S.SENDING, 0), (S.ACCEPTED, 0), (S.ACCEPTED, 0)),
    ((S.UNKNOWN, 0), (S.FILLED, 10), (S.FILLED, 10)),
    ((S.UNKNOWN, 0), (S.UNKNOWN, 0), (S.UNKNOWN, 0)),
    ((S.ACCEPTED, 0), (S.ACCEPTED, 0), (S.ACCEPTED, 0)),
    ((S.PARTIALLY_FILLED, 4), (S.ACCEPTED, 0), (S.PARTIALLY_FILLED, 4)),
    ((S.PARTIALLY_FILLED, 4), (S.PARTIALLY_FILLED, 3), (S.PARTIALLY_FILLED, 4)),
    ((S.PARTIALLY_FILLED, 4), (S.PARTIALLY_FILLED, 7), (S.PARTIALLY_FILLED, 7)),
    ((S.PARTIALLY_FILLED, 4), (S.CANCELED, 4), (S.CANCELED, 4)),
    ((S.PARTIALLY_FILLED, 4), (S.EXPIRED, 4), (S.EXPIRED, 4)),
    ((S.CANCEL_PENDING, 0), (S.ACCEPTED, 0), (S.CANCEL_PENDING, 0)),
    ((S.CANCEL_PENDING, 0), (S.PARTIALLY_FILLED, 5), (S.CANCEL_PENDING, 5)),
    ((S.CANCEL_PENDING, 4), (S.FILLED, 10), (S.FILLED, 10)),
    ((S.ACCEPTED, 0), (S.CANCEL_PENDING, 0), (S.ACCEPTED, 0)),
    ((S.ACCEPTED, 0), (S.REJECTED, 0), (S.REJECTED, 0)),
    ((S.CANCELED, 4), (S.PARTIALLY_FILLED, 4), (S.CANCELED, 4)),
    ((S.CANCELED, 0), (S.FILLED, 10), (S.FILLED, 10)),
    ((S.REJECTED, 0), (S.FILLED, 10), (S.FILLED, 10)),
    ((S.CANCELED, 4), (S.PARTIALLY_FILLED, 6), (S.CANCELED, 6)),
    ((S.FILLED, 10), (S.CANCELED, 0), (S.FILLED, 10)),
    ((S.FILLED, 10), (S.FILLED, 12), (S.FILLED, 12)),
    # Fewer fills than are known are old news, whatever end they tell of.
    ((S.PARTIALLY_FILLED, 4), (S.CANCELED, 0), (S.PARTIALLY_FILLED, 4)),
    # Called filled, and its fills come later: it still trades.
    ((S.ACCEPTED, 0), (S.FILLED, 0), (S.ACCEPTED, 0)),
    ((S.ACCEPTED, 0), (S.FILLED, 4), (S.PARTIALLY_FILLED, 4)),
    ((S.PARTIALLY_FILLED, 4), (S.FILLED, 4), (S.PARTIALLY_FILLED, 4)),
]


@pytest.mark.parametrize(("known", "said", "believed"), RANKED)
def test_evidence_is_ranked_by_filled_quantity_then_status(
    known: tuple[OrderStatus, int], said: tuple[OrderStatus, int], believed: tuple[OrderStatus, int]
) -> None:
    before = entry(*known)
    after = absorb(before, evidence(before, *said), AT)
    assert (after.status, after.filled_quantity) == believed


def test_a_price_that_is_known_is_not_replaced_by_one_that_is_not_yet() -> None:
    before = entry(S.PARTIALLY_FILLED, 4)
    unpriced = evidence(before, S.FILLED, 10, average_price=Decimal(0))
    after = absorb(before, unpriced, AT)
    assert (after.filled_quantity, after.average_price) == (10, before.average_price)
    priced = replace(unpriced, average_price=Decimal(101))
    assert absorb(entry(S.FILLED, 10, average_price=Decimal(0)), priced, AT).average_price == Decimal(101)


def test_evidence_of_another_order_changes_nothing() -> None:
    ours, other = entry(S.ACCEPTED), entry(S.ACCEPTED, attempt=2)
    assert absorb(ours, evidence(other, S.FILLED, 10), AT) is ours


def test_evidence_carries_price_time_and_reason_into_the_order() -> None:
    before = entry(S.ACCEPTED)
    said = evidence(before, S.CANCELED, 3, average_price=Decimal("99.5"), filled_at=BUY_AT, reason="by user")
    after = absorb(before, said, AT)
    assert (after.broker_order_id, after.average_price, after.filled_at) == ("B1", Decimal("99.5"), BUY_AT)
    assert (after.reason, after.updated_at) == ("by user", AT)


def test_evidence_without_a_broker_order_id_keeps_the_known_one() -> None:
    before = entry(S.ACCEPTED, broker_order_id="B9")
    assert absorb(before, evidence(before, S.FILLED, 10, broker_order_id=""), AT).broker_order_id == "B9"


def test_an_order_that_trades_again_is_unsettled_once_it_ends() -> None:
    refused = entry(S.REJECTED, seen=False, settled=True)
    rests = absorb(refused, evidence(refused, S.ACCEPTED), AT)
    assert absorb(rests, evidence(refused, S.CANCELED), AT).is_unsettled


def test_an_order_that_was_raised_is_unsettled_where_it_ends_short_of_that() -> None:
    """Its owner raised it in the broker's app: more than its own quantity may have filled."""
    ordered = entry(S.ACCEPTED)
    ended = absorb(ordered, evidence(ordered, S.CANCELED, 10, quantity=25), AT)
    assert (ended.filled_quantity, ended.quantity, ended.is_unsettled) == (10, 10, True)


@pytest.mark.parametrize(("status", "said"), list(product(S, S)))
def test_any_status_may_be_told_of_any_order_without_an_illegal_transition(
    status: OrderStatus, said: OrderStatus
) -> None:
    for known_filled, said_filled in ((0, 0), (0, 4), (4, 4), (4, 10), (10, 12)):
        before = entry(status, known_filled)
        told = evidence(before, said, said_filled)
        after = absorb(before, told, AT)
        assert after.filled_quantity == max(known_filled, said_filled)
        assert outranks(told, before) or after == replace(before, seen=True, quantity_shown=told.quantity)
