"""What a run adds to its account's pool, and what its own fills change of what it was told of that."""

from dataclasses import replace
from datetime import timedelta

import pytest

from engine.domain.account_positions import PoolChange, Share, pool_change, pool_key, share_of, with_own_fills
from engine.domain.orders import Order, OrderStatus
from engine.domain.run import NetSeen, RunStatus
from engine.lifecycle import finish
from tests.builders import BUY_AT, CLOSES, entry, exit_, run, strategy

S = OrderStatus
BOUGHT = entry(S.FILLED, 10)

#: A run's orders, whether it has finished, and its share.
SHARES: list[tuple[tuple[Order, ...], bool, Share]] = [
    ((), False, Share()),
    ((entry(S.PARTIALLY_FILLED, 4),), False, Share(net=4, held=4)),
    ((BOUGHT, exit_(S.ACCEPTED)), False, Share(net=10, held=10, out=10)),
    ((BOUGHT, exit_(S.PARTIALLY_FILLED, 4)), False, Share(net=6, held=6, out=6)),
    ((BOUGHT, exit_(S.CANCELED, 4)), False, Share(net=6, held=6)),
    # What was given up sells nothing, unless it stands at the broker all the same.
    ((BOUGHT, exit_(S.UNKNOWN, given_up=True)), False, Share(net=10, held=10)),
    ((BOUGHT, exit_(S.ACCEPTED, given_up=True, seen=True)), False, Share(net=10, held=10, out=10)),
    # What one run sold too much hides nothing of what the others hold.
    ((BOUGHT, exit_(S.FILLED, 12, quantity=12)), False, Share(net=-2, held=0)),
    ((BOUGHT, exit_(S.ACCEPTED)), True, Share(net=10)),
]


@pytest.mark.parametrize(("orders", "finished", "share"), SHARES)
def test_a_run_adds_its_fills_while_it_lives_what_it_holds_and_what_its_exits_may_fill(
    orders: tuple[Order, ...], finished: bool, share: Share
) -> None:
    assert share_of(run(*orders), finished=finished) == share


def test_a_transition_changes_the_pool_by_the_difference_and_tells_of_the_orders_it_learned_of() -> None:
    before, sold = run(BOUGHT, exit_(S.ACCEPTED)), exit_(S.PARTIALLY_FILLED, 4)
    key = pool_key(before.strategy.symbol, before.strategy.product)
    assert pool_change(before, run(BOUGHT, sold)) == PoolChange(key, net=-4, held=-4, out=-4, fills=(sold,))
    assert pool_change(before, before).is_nothing


#: A run's orders when it was read, its orders now, and what the account has free of the ten it then had.
LEARNED: list[tuple[tuple[Order, ...], tuple[Order, ...], int]] = [
    ((BOUGHT,), (BOUGHT,), 10),
    ((entry(S.ACCEPTED),), (entry(S.PARTIALLY_FILLED, 4),), 14),
    ((BOUGHT,), (BOUGHT, exit_(S.ACCEPTED)), 0),
    ((BOUGHT, exit_(S.ACCEPTED)), (BOUGHT, exit_(S.PARTIALLY_FILLED, 4)), 10),
    ((BOUGHT, exit_(S.ACCEPTED)), (BOUGHT, exit_(S.CANCELED, 4)), 16),
]


@pytest.mark.parametrize(("before", "after", "free"), LEARNED)
def test_what_a_run_learned_of_its_own_orders_counts_before_the_store_has_it(
    before: tuple[Order, ...], after: tuple[Order, ...], free: int
) -> None:
    told = NetSeen(10, BUY_AT)
    learned = with_own_fills(run(*before, net=told), run(*after, net=told), BUY_AT)
    assert learned.net == NetSeen(free, BUY_AT)
    assert with_own_fills(run(*before), run(*after), BUY_AT).net is None


@pytest.mark.parametrize(("hours", "past"), [(0, 0), (5, 0), (7, 4), (24, 4)])
def test_what_filled_in_an_earlier_session_is_in_every_reading_of_today(hours: int, past: int) -> None:
    before = run(entry(S.ACCEPTED, session_ends=CLOSES), net=NetSeen(10, BUY_AT))
    after = replace(before, orders=(entry(S.PARTIALLY_FILLED, 4, session_ends=CLOSES),))
    later = CLOSES + timedelta(hours=hours)
    assert pool_change(before, after, market_time=later).past == past
    assert with_own_fills(before, after, later).net == NetSeen(14 - past, BUY_AT)


def test_pools_are_told_apart_by_symbol_and_product() -> None:
    told = strategy()
    assert pool_key(told.symbol, told.product) == "NSE:SBIN intraday"


def test_an_order_that_is_settled_is_told_to_the_pool() -> None:
    refused = exit_(S.REJECTED, seen=False, settled=False)
    before = run(entry(S.FILLED, 10), refused)
    after = before.with_order(replace(refused, settled=True))
    assert pool_change(before, after).fills == (after.orders[1],)


def test_an_attempt_that_is_watched_no_longer_has_ended_for_the_pool() -> None:
    lost = exit_(S.UNKNOWN, given_up=True)
    after, _ = finish(run(entry(S.FILLED, 10), lost), RunStatus.STOPPED, "left", BUY_AT)
    assert after.orders[1].has_ended
