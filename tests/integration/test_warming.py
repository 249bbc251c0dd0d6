"""Warming: a connection for each account that may trade now, on a real server and a real paper broker."""

from dataclasses import replace
from datetime import timedelta

import pytest

from engine.runtime.atwork import AHEAD, AtWork
from engine.runtime.connect import connect
from engine.warming import Warmer
from tests.desk import ACCOUNT, Desk, account_at

SOON, LATER = AHEAD.total_seconds() - 30, AHEAD.total_seconds() + 30


@pytest.fixture
def warmer(desk: Desk) -> Warmer:
    at_work = AtWork(desk.parts.redis, desk.parts.clock.now)
    return Warmer(at_work.accounts, desk.parts.brokers, desk.parts.log)


@pytest.mark.parametrize("buy_in", [-3600, SOON])
def test_an_account_is_warm_from_shortly_before_its_first_trade(desk: Desk, warmer: Warmer, buy_in: float) -> None:
    desk.arm(buy_in=buy_in)
    assert warmer.look() == 1


def test_an_account_without_a_trade_soon_is_left_alone(desk: Desk, warmer: Warmer) -> None:
    assert warmer.look() == 0
    desk.arm(buy_in=LATER)
    assert warmer.look() == 0


def test_an_account_whose_session_is_over_is_left_alone(desk: Desk, warmer: Warmer) -> None:
    now = desk.parts.clock.now()
    over = replace(desk.run(buy_in=-7200), closes_at=now.market - timedelta(seconds=1))
    desk.parts.store.arm(over, now.real + timedelta(hours=1), buying=False)
    assert warmer.look() == 0


def test_an_account_nobody_can_read_keeps_no_other_cold(desk: Desk, warmer: Warmer) -> None:
    store, broken = desk.parts.store, replace(account_at(desk.paper), id=ACCOUNT + 1, broker="nobody's")
    store.write_account(broken)
    for account in (ACCOUNT, ACCOUNT + 1):
        run = desk.run(buy_in=-1)
        own = replace(run, strategy=replace(run.strategy, account_id=account))
        store.arm(own, desk.parts.clock.now().when(own.buy_at), buying=False)
    assert warmer.look() == 1


def test_an_unreachable_server_is_no_reason_to_stop(desk: Desk) -> None:
    nowhere = connect("redis://127.0.0.1:1/0")
    warmer = Warmer(AtWork(nowhere, desk.parts.clock.now).accounts, desk.parts.brokers, desk.parts.log)
    assert warmer.look() == 0
