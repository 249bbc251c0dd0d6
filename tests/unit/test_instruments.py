"""What brokers list: read daily and on a miss, from any account of the market, not believed when absurd."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.calendar import Calendar
from engine.domain.broker import BrokerUnreachable, Instrument, TokenInvalid
from engine.domain.routing import Alert
from engine.instruments import LOOK_AGAIN_AFTER, RETRY_AFTER, Instruments
from engine.ports import AccountState

FIRST = AccountState(1, "acme", "main", "kite", "https://api", "wss://ws", "", "v1")
SECOND, ELSEWHERE = replace(FIRST, id=2, tenant="beta"), replace(FIRST, id=3, base_url="https://elsewhere")
MARKET = FIRST.market
#: 09:00 at the exchange: the day's dump is out, the session has not begun.
MORNING = datetime(2026, 1, 5, 3, 30, tzinfo=UTC)


def dump(*names: str, token: int = 0) -> list[Instrument]:
    return [Instrument(f"NSE:{name}", token + number, Decimal("0.05"), 1) for number, name in enumerate(names)]


@dataclass
class Desk:
    """The world of one `Instruments`: what each account answers, how much time passed, what was told."""

    answers: dict[int, Sequence[Instrument] | Exception] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    passed: float = 1000.0

    def __post_init__(self) -> None:
        brokers: Any = self
        self.instruments = Instruments(brokers, Calendar().today, self, lambda *_, **__: None, lambda: self.passed)

    def of(self, account_id: int, version: str) -> "Desk.Broker":
        return Desk.Broker(self, account_id)

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        self.told.append((alert.severity, alert.code))
        return True

    def listed(self, now: datetime = MORNING, wanted: Iterable[str] = ()) -> dict[str, int] | None:
        found = self.instruments.listed(MARKET, "NSE", [FIRST, SECOND, ELSEWHERE], now, wanted)
        return None if found is None else {symbol: each.token for symbol, each in found.items()}

    @dataclass
    class Broker:
        desk: "Desk"
        number: int

        def instruments(self, exchange: str) -> Sequence[Instrument]:
            self.desk.asked.append(self.number)
            answer = self.desk.answers[self.number]
            if isinstance(answer, Exception):
                raise answer
            return answer


@pytest.fixture
def desk() -> Desk:
    found = Desk()
    found.answers = {1: dump("INFY", "SBIN"), 2: dump("INFY", "SBIN"), 3: dump("FOREIGN")}
    return found


@pytest.mark.parametrize("trouble", [TokenInvalid("dead"), BrokerUnreachable("silent")])
def test_another_account_of_the_market_is_asked_and_none_of_another(desk: Desk, trouble: Exception) -> None:
    desk.answers[1] = trouble
    assert desk.listed() == {"NSE:INFY": 0, "NSE:SBIN": 1}
    assert desk.asked == [1, 2]
    desk.answers[2] = trouble
    fresh = Desk(desk.answers)
    assert fresh.listed() is None
    assert 3 not in fresh.asked


def test_nobody_is_asked_again_at_once(desk: Desk) -> None:
    desk.answers |= {1: TokenInvalid("dead"), 2: TokenInvalid("dead")}
    assert [desk.listed(), desk.listed()] == [None, None]
    assert len(desk.asked) == 2
    desk.answers[2] = dump("INFY")
    desk.passed += RETRY_AFTER
    assert desk.listed() == {"NSE:INFY": 0}


def test_it_is_read_once_a_day_and_the_next_days_tokens_count(desk: Desk) -> None:
    assert [desk.listed(), desk.listed(MORNING + timedelta(hours=20))] == [{"NSE:INFY": 0, "NSE:SBIN": 1}] * 2
    desk.answers[1] = dump("INFY", "SBIN", token=70)
    desk.passed += 24 * 3600
    # Before the new one is out, the old one counts.
    assert desk.listed(MORNING + timedelta(hours=23)) == {"NSE:INFY": 0, "NSE:SBIN": 1}
    assert desk.listed(MORNING + timedelta(days=1)) == {"NSE:INFY": 70, "NSE:SBIN": 71}
    assert len(desk.asked) == 2


def test_a_missing_symbol_has_it_read_again_but_not_all_the_time(desk: Desk) -> None:
    for _ in range(3):
        assert desk.listed(wanted=["NSE:NEW"]) == {"NSE:INFY": 0, "NSE:SBIN": 1}
    assert len(desk.asked) == 1
    desk.passed += LOOK_AGAIN_AFTER
    desk.listed(wanted=["NSE:NEW"])
    desk.passed += LOOK_AGAIN_AFTER
    desk.listed(wanted=["NSE:NEW"])
    # The second miss in a row waits longer: a symbol that is gone for good costs no dump a minute.
    assert len(desk.asked) == 2
    desk.passed += LOOK_AGAIN_AFTER
    desk.answers[1] = dump("INFY", "SBIN", "NEW")
    assert desk.listed(wanted=["NSE:NEW"]) == {"NSE:INFY": 0, "NSE:SBIN": 1, "NSE:NEW": 2}


@pytest.mark.parametrize("answer", [[], dump("INFY")])
def test_an_empty_or_shrunken_dump_is_refused_and_yesterdays_kept(desk: Desk, answer: list[Instrument]) -> None:
    yesterdays = desk.listed()
    desk.passed, desk.answers[1] = desk.passed + 24 * 3600, answer
    assert desk.listed(MORNING + timedelta(days=1)) == yesterdays
    assert desk.told == [("warning", "instruments_refused")]
    desk.passed, desk.answers[1] = desk.passed + LOOK_AGAIN_AFTER, dump("INFY", "SBIN", token=9)
    assert desk.listed(MORNING + timedelta(days=1)) == {"NSE:INFY": 9, "NSE:SBIN": 10}


def test_a_dump_of_a_header_alone_is_none_where_nothing_is_known(desk: Desk) -> None:
    desk.answers[1] = []
    assert desk.listed() is None
    assert desk.told == [("critical", "instruments_refused")]
    desk.passed += LOOK_AGAIN_AFTER
    desk.answers[1] = dump("INFY")
    assert desk.listed() == {"NSE:INFY": 0}
