"""The strategies file: what it accepts, and that it names every wrong field and then takes nothing."""

import json
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.calendar import Calendar
from engine.domain.broker import Instrument
from engine.domain.orders import OrderType, Product
from engine.domain.recurrence import Recurrence, Weekday
from engine.domain.strategy import AbortPolicy
from engine.strategies import Draft, StrategyFileError, check, first_date, parse

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD: dict[str, Any] = {
    "name": "AXISBANK-0",
    "tenant": "tenant-3",
    "symbol": "AXISBANK",
    "quantity": 10,
    "buy_time": "09:40:00",
    "sell_time": "14:30",
    "stop_loss": "622.70",
}


def _text(*items: Mapping[str, Any]) -> str:
    return json.dumps(items)


def _problems(text: str) -> tuple[str, ...]:
    with pytest.raises(StrategyFileError) as caught:
        parse(text, "day.json")
    assert str(caught.value).startswith("day.json is refused:")
    return caught.value.problems


def test_an_item_becomes_a_draft_with_the_defaults() -> None:
    assert parse(_text(GOOD), "day.json") == [
        Draft(
            name="AXISBANK-0",
            tenant="tenant-3",
            account="",
            symbol="NSE:AXISBANK",
            quantity=10,
            buy_time=time(9, 40),
            sell_time=time(14, 30),
            stop_loss=Decimal("622.70"),
            product=Product.INTRADAY,
            order_type=OrderType.MARKET,
            on_abort=AbortPolicy.PROTECT,
            trading_date=None,
            repeat=None,
        )
    ]


def test_the_long_form_and_every_optional_field_are_read() -> None:
    item = GOOD | {
        "account": "main",
        "exchange": "BSE",
        "product": "delivery",
        "order_type": "market",
        "on_abort": "flatten",
        "trading_date": "2026-01-05",
        "stop_loss": 622,
    }
    (draft,) = parse(json.dumps({"strategies": [item]}), "day.json")
    assert draft.symbol == "BSE:AXISBANK"
    assert (draft.account, draft.product, draft.on_abort) == ("main", Product.DELIVERY, AbortPolicy.FLATTEN)
    assert draft.trading_date == date(2026, 1, 5)
    assert draft.stop_loss == 622
    assert draft.strategy(17, 4).id == 17


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.json")), ids=lambda file: file.name)
def test_every_example_is_a_strategies_file(file: Path) -> None:
    assert parse(file.read_text(), file.name) != []


@pytest.mark.parametrize(
    ("symbol", "exchange", "canonical"),
    [
        ("INFY", None, "NSE:INFY"),
        ("NSE:INFY", None, "NSE:INFY"),
        ("BSE:INFY", None, "BSE:INFY"),
        ("BSE:INFY", "BSE", "BSE:INFY"),
        ("M&M", "BSE", "BSE:M&M"),
        ("BAJAJ-AUTO", None, "NSE:BAJAJ-AUTO"),
        ("BAJAJ_AUTO", None, "NSE:BAJAJ_AUTO"),
    ],
)
def test_a_symbol_is_told_with_or_without_its_exchange(symbol: str, exchange: str | None, canonical: str) -> None:
    item = GOOD | {"symbol": symbol} | ({"exchange": exchange} if exchange else {})
    assert [draft.symbol for draft in parse(_text(item), "day.json")] == [canonical]


REFUSED: list[tuple[str, Any, str]] = [
    ("name", "", "printable"),
    ("name", " padded", "printable"),
    ("name", "two\nlines", "printable"),
    ("name", "nul\0", "printable"),
    ("name", "x" * 65, "at most 64"),
    ("name", 5, "valid string"),
    ("tenant", None, "valid string"),
    ("symbol", "infy", "capitals"),
    ("symbol", "", "capitals"),
    ("symbol", "NSE:", "capitals"),
    ("symbol", "NSE:BSE:INFY", "capitals"),
    ("symbol", "INFY\n", "capitals"),
    ("symbol", 500209, "valid string"),
    ("exchange", "NYSE", "'NSE' or 'BSE'"),
    ("quantity", 0, "greater than 0"),
    ("quantity", -1, "greater than 0"),
    ("quantity", True, "valid integer"),
    ("quantity", "10", "valid integer"),
    ("quantity", 10**7 + 1, "less than or equal to 10000000"),
    ("quantity", 10**400, "valid integer"),
    ("quantity", 10.0, "valid integer"),
    ("quantity", None, "valid integer"),
    ("buy_time", "9:40", "09:40"),
    ("buy_time", "09:40:00.5", "09:40"),
    ("buy_time", "24:00", "09:40"),
    ("buy_time", "09:40+05:30", "09:40"),
    ("buy_time", "\u0660\u0669:40", "09:40"),
    ("sell_time", 1430, "09:40"),
    ("stop_loss", 622.7, 'quote it: "622.7"'),
    ("stop_loss", float("nan"), "price above 0"),
    ("stop_loss", float("inf"), "price above 0"),
    ("stop_loss", "NaN", "price above 0"),
    ("stop_loss", "Infinity", "price above 0"),
    ("stop_loss", "-622.70", "price above 0"),
    ("stop_loss", -622, "price above 0"),
    ("stop_loss", "0", "above 0"),
    ("stop_loss", 0, "above 0"),
    ("stop_loss", "0.00", "above 0"),
    ("stop_loss", "1e3", "price above 0"),
    ("stop_loss", " 622.70", "price above 0"),
    ("stop_loss", "622.70\n", "price above 0"),
    ("stop_loss", "1_000", "price above 0"),
    ("stop_loss", "622.70001", "price above 0"),
    ("stop_loss", "99999999", "at most 10000000"),
    ("stop_loss", "9" * 400, "price above 0"),
    ("stop_loss", 10**400, "price above 0"),
    ("stop_loss", True, "price above 0"),
    ("stop_loss", None, "price above 0"),
    ("stop_loss", ["622.70"], "price above 0"),
    ("product", "MIS", "intraday, delivery, margin"),
    ("order_type", "limit", "must be one of market"),
    ("on_abort", 1, "protect, flatten, freeze"),
    ("trading_date", "05-01-2026", "2026-01-05"),
    ("trading_date", "20260105", "2026-01-05"),
    ("trading_date", "2026-02-30", "day is out of range"),
    ("repeat", "weekly", '"daily" or different weekdays'),
    ("repeat", "mon", '"daily" or different weekdays'),
    ("repeat", [], '"daily" or different weekdays'),
    ("repeat", ["mon", "mon"], '"daily" or different weekdays'),
    ("repeat", ["Mon"], '"daily" or different weekdays'),
    ("repeat", ["mon", 2], '"daily" or different weekdays'),
    ("repeat", ["mon", ["tue"]], '"daily" or different weekdays'),
    ("repeat", {"mon": True}, '"daily" or different weekdays'),
    ("repeat", True, '"daily" or different weekdays'),
    ("until", "2026-06-30", "needs repeat"),
    ("until", "30-06-2026", "2026-01-05"),
    ("stoploss", "622.70", "is not a field"),
]


@pytest.mark.parametrize(("field", "value", "message"), REFUSED)
def test_a_wrong_value_is_refused_by_its_fields_name(field: str, value: Any, message: str) -> None:
    (problem,) = _problems(_text(GOOD | {field: value}))
    assert f": {field}: " in problem
    assert message in problem
    assert "\n" not in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("fields", "recurrence"),
    [
        ({"repeat": "daily"}, Recurrence()),
        ({"repeat": ["fri", "mon"]}, Recurrence(frozenset({Weekday.MON, Weekday.FRI}))),
        ({"repeat": "daily", "until": "2026-06-30"}, Recurrence(until=date(2026, 6, 30))),
        ({"repeat": "daily", "until": None, "trading_date": "2026-01-05"}, Recurrence()),
        ({"repeat": None, "until": None}, None),
    ],
)
def test_a_strategy_may_repeat(fields: dict[str, Any], recurrence: Recurrence | None) -> None:
    (draft,) = parse(_text(GOOD | fields), "day.json")
    assert draft.repeat == draft.strategy().repeat == recurrence


def test_until_is_not_before_the_first_date_and_a_wrong_repeat_is_told_alone() -> None:
    (problem,) = _problems(_text(GOOD | {"repeat": "daily", "trading_date": "2026-01-05", "until": "2026-01-04"}))
    assert "until: must not be before trading_date 2026-01-05" in problem
    (problem,) = _problems(_text(GOOD | {"repeat": "never", "until": "2026-01-04"}))
    assert ": repeat: " in problem


@pytest.mark.parametrize("field", sorted(GOOD))
def test_a_missing_field_is_named(field: str) -> None:
    (problem,) = _problems(_text({key: value for key, value in GOOD.items() if key != field}))
    assert problem.endswith(f": {field}: is missing")


def test_every_problem_of_every_item_is_told_at_once_and_where() -> None:
    wrong = GOOD | {"name": "AXISBANK-2", "stop_loss": 1.5, "quantity": 0}
    problems = _problems(json.dumps([GOOD, wrong, 7, GOOD | {"name": "other", "sell_time": ""}]))
    assert [problem.partition(": ")[0] for problem in problems] == [
        "strategies[1] (AXISBANK-2)",
        "strategies[1] (AXISBANK-2)",
        "strategies[2]",
        "strategies[3] (other)",
    ]


def test_a_symbol_that_contradicts_its_exchange_is_refused() -> None:
    (problem,) = _problems(_text(GOOD | {"symbol": "NSE:INFY", "exchange": "BSE"}))
    assert "symbol" in problem


def test_two_strategies_of_one_tenant_cannot_share_a_name() -> None:
    (problem,) = _problems(_text(GOOD, GOOD | {"symbol": "INFY"}))
    assert problem.startswith("strategies[1] (AXISBANK-0): name: ")
    assert "strategies[0]" in problem
    assert len(parse(_text(GOOD, GOOD | {"tenant": "tenant-4"}), "day.json")) == 2


def test_a_field_given_twice_is_refused_rather_than_the_last_one_taken() -> None:
    text = _text(GOOD).replace('"stop_loss": "622.70"', '"stop_loss": "622.70", "stop_loss": "1.00"')
    assert _problems(text) == ("strategies[0] (AXISBANK-0): stop_loss: is given twice",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n {"name" "a"}\n]', "line 2, column 10: "),
        ("", "line 1, column 1: "),
        ("[" * 200_000, "nested too deeply"),
        ("{}", "must be a list of strategies"),
        ('"INFY"', "must be a list of strategies"),
        ('{"strategies": [], "more": 1}', "must be a list of strategies"),
        ("[]", "holds no strategies"),
        ('{"strategies": []}', "holds no strategies"),
    ],
)
def test_a_file_that_is_no_list_of_strategies_is_refused_whole(text: str, message: str) -> None:
    (problem,) = _problems(text)
    assert message in problem


INSTRUMENTS = {"NSE:AXISBANK": Instrument("NSE:AXISBANK", 1, Decimal("0.05"), 1)}


def _check(changes: dict[str, Any], day: date = date(2021, 4, 12)) -> list[str]:
    return check(parse(_text(GOOD | changes), "day.json"), INSTRUMENTS, Calendar(), day)


def test_a_strategy_that_fits_the_market_has_no_problems() -> None:
    assert _check({}) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"buy_time": "09:14"}, "buy_time: 09:14:00 is outside the session; nearest valid time 09:15:00"),
        ({"sell_time": "15:31"}, "sell_time: 15:31:00 is outside the session; nearest valid time 15:18:00"),
        (
            {"sell_time": "15:19"},
            "sell_time: 15:19:00 is after intraday positions are squared off; nearest valid time 15:18:00",
        ),
        (
            {"sell_time": "15:31", "product": "delivery"},
            "sell_time: 15:31:00 is outside the session; nearest valid time 15:30:00",
        ),
        (
            {"sell_time": "15:20", "product": "delivery", "trading_date": "2026-08-03"},
            "sell_time: 15:20:00 is outside the session; nearest valid time 15:15:00",
        ),
        (
            {"sell_time": "15:10", "trading_date": "2026-08-03"},
            "sell_time: 15:10:00 is after intraday positions are squared off; nearest valid time 15:03:00",
        ),
        ({"sell_time": "09:40"}, "sell_time: 09:40:00 is not after buy_time 09:40:00"),
        ({"stop_loss": "622.71"}, "stop_loss: 622.71 is not a multiple of the tick size 0.05"),
        ({"symbol": "NOPE"}, "symbol: NSE:NOPE is not an instrument this account's broker lists"),
        ({"trading_date": "2026-01-15"}, "trading_date: 2026-01-15 is not a trading day of NSE"),
    ],
)
def test_a_strategy_the_market_forbids_is_told_by_item_and_field(changes: dict[str, Any], problem: str) -> None:
    assert _check(changes) == [f"strategies[0] (AXISBANK-0): {problem}"]


@pytest.mark.parametrize(
    ("changes", "day", "first"),
    [
        ({}, date(2026, 1, 14), date(2026, 1, 14)),
        # The 15th is a Thursday on which the exchange is closed.
        ({"repeat": "daily"}, date(2026, 1, 15), date(2026, 1, 16)),
        ({"repeat": ["thu"]}, date(2026, 1, 14), date(2026, 1, 22)),
        ({"repeat": "daily", "trading_date": "2026-01-17"}, date(2026, 1, 14), date(2026, 1, 19)),
        ({"repeat": "daily", "trading_date": "2026-01-05"}, date(2026, 1, 14), date(2026, 1, 14)),
        ({"repeat": ["thu"], "until": "2026-01-21"}, date(2026, 1, 14), None),
        # A Sunday's special session.
        ({"repeat": ["sun"]}, date(2026, 1, 14), date(2026, 2, 1)),
        ({"repeat": ["sun"]}, date(2026, 2, 2), None),
    ],
)
def test_one_that_repeats_trades_first_on_the_first_trading_day_it_names(
    changes: dict[str, Any], day: date, first: date | None
) -> None:
    (draft,) = parse(_text(GOOD | changes), "day.json")
    assert first_date(draft, Calendar(), day) == first
    told = (
        [] if first else ["strategies[0] (AXISBANK-0): repeat: none of its dates is known to be a trading day of NSE"]
    )
    assert _check(changes, day) == told


def test_an_unconfirmed_year_is_a_problem_of_the_trading_date() -> None:
    (problem,) = _check({}, date(2030, 1, 1))
    assert "trading_date: the NSE holidays of 2030 are not confirmed" in problem
