"""Reconciliation: what an account's book and positions say, told to its runs whatever a push told."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.account_positions import AccountReading
from engine.domain.broker import BookEntry, BrokerUnreachable
from engine.domain.health import Change, Heard
from engine.domain.orders import OrderStatus
from engine.domain.routing import Alert
from engine.reconcile import UNREADABLE_FOR, Reconciler
from tests.builders import book_entry, entry, evidence
from tests.fakes import FakeBroker, HandClock, RecordingLog
from tests.livestate import ACCOUNT


@dataclass
class Told:
    """What the runs and the humans were told, in the place of store and order stream."""

    updates: list[BookEntry] = field(default_factory=list)
    covers: list[AccountReading] = field(default_factory=list)
    alerts: list[tuple[str, str]] = field(default_factory=list)
    lives: list[Heard] = field(default_factory=list)

    def on_update(self, item: BookEntry, account: int) -> bool:
        assert account == ACCOUNT.id
        self.updates.append(item)
        return True

    def pool_mark(self, account_id: int) -> str:
        return f"1:epoch {account_id}"

    def cover(self, account_id: int, reading: AccountReading) -> None:
        assert account_id == ACCOUNT.id
        self.covers.append(reading)

    def alert(self, tenant: str, alert: Alert) -> None:
        self.alerts.append((tenant, alert.code))

    def heard(self, account_id: int, version: str, heard: Heard, *_: object) -> list[Change]:
        assert (account_id, version) == (ACCOUNT.id, ACCOUNT.version)
        self.lives.append(heard)
        return []


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker(HandClock())


@pytest.fixture
def reconcile(told: Told, broker: FakeBroker) -> Any:
    anything: Any = told
    reconciler = Reconciler(anything, anything, broker.clock, RecordingLog())

    def both() -> None:
        reconciler.cover(ACCOUNT, broker)
        reconciler.reconcile(ACCOUNT, broker)

    return both


def test_a_missed_push_is_told_once_and_what_is_held_every_time(told: Told, broker: FakeBroker, reconcile: Any) -> None:
    order = entry(OrderStatus.ACCEPTED)
    broker.book["B1"] = book_entry(evidence(order, OrderStatus.ACCEPTED))
    reconcile()
    reconcile()
    assert told.updates == [broker.book["B1"]]
    broker.fill("B1")
    reconcile()
    assert [item.evidence.filled_quantity for item in told.updates] == [0, 10]
    assert [reading.positions[0].quantity for reading in told.covers] == [0, 0, 10]


def test_every_further_fill_at_the_same_price_is_told(told: Told, broker: FakeBroker, reconcile: Any) -> None:
    broker.book["B1"] = book_entry(evidence(entry(OrderStatus.ACCEPTED), OrderStatus.ACCEPTED))
    for filled in (2, 2, 6, 7):
        broker.fill("B1", filled)
        reconcile()
    assert [item.evidence.filled_quantity for item in told.updates] == [2, 6, 7]


def test_what_is_held_is_dated_by_when_it_was_asked_for(told: Told, broker: FakeBroker, reconcile: Any) -> None:
    asked_at, broker.takes = broker.clock.real, 3.0
    reconcile()
    assert [reading.at for reading in told.covers] == [asked_at]


def test_a_price_that_was_not_known_at_the_fill_is_told_when_it_is(
    told: Told, broker: FakeBroker, reconcile: Any
) -> None:
    order = entry(OrderStatus.ACCEPTED)
    broker.book["B1"] = book_entry(evidence(order, OrderStatus.ACCEPTED))
    filled = broker.fill("B1")
    broker.book["B1"] = replace(filled, evidence=replace(filled.evidence, average_price=Decimal(0)))
    reconcile()
    broker.book["B1"] = filled
    reconcile()
    reconcile()
    assert [item.evidence.average_price for item in told.updates] == [Decimal(0), filled.evidence.average_price]


def test_each_reading_heals_what_any_process_believed_of_the_token_and_no_failed_one_does(
    told: Told, broker: FakeBroker, reconcile: Any
) -> None:
    reconcile()
    assert told.lives == [Heard.TOKEN_LIVES]
    for trouble in ("unreachable", "token_dead"):
        setattr(broker, trouble, True)
        reconcile()
        setattr(broker, trouble, False)
    assert told.lives == [Heard.TOKEN_LIVES]
    reconcile()
    assert told.lives == [Heard.TOKEN_LIVES] * 2


@pytest.mark.parametrize("trouble", ["unreachable", "token_dead"])
def test_an_account_that_cannot_be_read_for_long_is_alerted_once(
    told: Told, broker: FakeBroker, reconcile: Any, trouble: str
) -> None:
    setattr(broker, trouble, True)
    for _ in range(20):
        reconcile()
        broker.clock.advance(10)
    assert told.alerts == [(ACCOUNT.tenant, "account_unreadable")]
    setattr(broker, trouble, False)
    reconcile()
    reconcile()
    assert [code for _, code in told.alerts] == ["account_unreadable", "account_readable"]
    setattr(broker, trouble, True)
    reconcile()
    broker.clock.advance((UNREADABLE_FOR - timedelta(seconds=1)).total_seconds())
    reconcile()
    assert len(told.alerts) == 2
    broker.clock.advance(1)
    reconcile()
    assert len(told.alerts) == 3


@pytest.mark.parametrize("dead", ["orders", "positions"])
def test_an_account_of_which_only_one_reading_fails_is_told_of(
    told: Told, broker: FakeBroker, reconcile: Any, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    def fail() -> None:
        raise BrokerUnreachable("bad gateway")

    with monkeypatch.context() as sick:
        sick.setattr(broker, dead, fail)
        for _ in range(20):
            reconcile()
            broker.clock.advance(10)
    assert [code for _, code in told.alerts] == ["account_unreadable"]
    reconcile()
    assert [code for _, code in told.alerts] == ["account_unreadable", "account_readable"]
