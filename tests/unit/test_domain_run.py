"""Names of runs and orders, and what a run's orders prove about it."""

from datetime import date
from decimal import Decimal

import pytest

from engine.domain.orders import Leg, Order, OrderStatus
from engine.domain.run import ExitReason, Position, Run, RunId, RunStatus, client_order_id, parse_client_order_id
from engine.domain.strategy import StopMode
from tests.builders import BUY_AT, DAY, DEPLOYMENT, entry, evidence, exit_, run

S = OrderStatus
BOUGHT = entry(S.FILLED, 10)


def test_a_run_id_is_written_as_strategy_date_and_number() -> None:
    assert str(RunId(17, date(2026, 1, 5), 2)) == "17-20260105-2"
    assert RunId.parse("17-20260105-2") == RunId(17, date(2026, 1, 5), 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "17",
        "17-20260105",
        "17-20260105-",
        "-1-20260105-1",
        "17-2026-01-05-1",
        "x-20260105-1",
        "17-20261305-1",
        "17-20260230-1",
        "17-00000101-1",
        "17-20260105-1 ",
        " 17-20260105-1",
        "17-20260105-1\n",
        "1_7-20260105-1",
        "\u0663-20260105-1",
        "17-20260105-12345",
        "123456789012-20260105-1",
        "17-20260105-1-1",
    ],
)
def test_any_other_text_is_no_run_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RunId.parse(text)


def test_a_client_order_id_tells_deployment_strategy_date_run_leg_and_attempt() -> None:
    assert client_order_id("EE", RunId(7, DAY), Leg.ENTRY, 1) == "EE00000077BX01E001"
    assert client_order_id("EE", RunId(7, DAY), Leg.EXIT, 36) == "EE00000077BX01X010"


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "manual",
        "EE00000077BX01E00",
        "EE00000077BX01E0011",
        "XX00000077BX01E001",
        "EE00000077BX01Z001",
        "ee00000077bx01e001",
        "EE0000007zbx01E001",
        "EE 0000077BX01E001",
        "EE+0000077BX01E001",
        "EE00_00077BX01E001",
        "EE0000007ZZZ01E00-",
        # A sign in front of any part: no run has such a number.
        "EE-0000077BX01E001",
        "EE0000007-BV01E001",
        "EE00000077BX-1E001",
        "EE00000077BX01E-01",
        "EE00000077BX01E\u0660\u0660\u0661",
    ],
)
def test_a_foreign_tag_names_no_order_of_ours(tag: str) -> None:
    assert parse_client_order_id(DEPLOYMENT, tag) is None


def test_an_id_of_another_deployment_is_not_ours() -> None:
    assert parse_client_order_id("E2", client_order_id("EE", RunId(7, DAY), Leg.ENTRY, 1)) is None


@pytest.mark.parametrize(
    ("strategy_id", "n", "attempt"), [(36**7, 1, 1), (1, 36**2, 1), (1, 1, 36**3)], ids=["strategy", "n", "attempt"]
)
def test_a_number_too_large_for_its_place_is_refused_not_cut(strategy_id: int, n: int, attempt: int) -> None:
    with pytest.raises(ValueError, match="no room"):
        client_order_id("EE", RunId(strategy_id, DAY, n), Leg.ENTRY, attempt)


#: Orders, what is held of them, and the position they prove (with no exit reason).
POSITIONS: list[tuple[tuple[Order, ...], int, Position]] = [
    ((), 0, Position.NONE),
    ((entry(S.SENDING),), 0, Position.NONE),
    ((entry(S.UNKNOWN),), 0, Position.NONE),
    ((entry(S.ACCEPTED),), 0, Position.NONE),
    ((entry(S.REJECTED),), 0, Position.NONE),
    ((entry(S.PARTIALLY_FILLED, 4),), 4, Position.BOUGHT),
    ((entry(S.CANCELED, 4),), 4, Position.BOUGHT),
    ((BOUGHT,), 10, Position.BOUGHT),
    ((entry(S.UNKNOWN, given_up=True), entry(S.FILLED, 10, attempt=2)), 10, Position.BOUGHT),
    ((BOUGHT, exit_(S.ACCEPTED)), 10, Position.BOUGHT),
    ((BOUGHT, exit_(S.PARTIALLY_FILLED, 9)), 1, Position.BOUGHT),
    ((BOUGHT, exit_(S.FILLED, 10)), 0, Position.SOLD),
    ((BOUGHT, exit_(S.CANCELED, 4), exit_(S.FILLED, 6, attempt=2, quantity=6)), 0, Position.SOLD),
]


@pytest.mark.parametrize(("orders", "held", "position"), POSITIONS)
def test_fills_alone_prove_what_is_held(orders: tuple[Order, ...], held: int, position: Position) -> None:
    assert run(*orders).held == held
    assert run(*orders).position is position


@pytest.mark.parametrize("reason", [*ExitReason, None])
def test_a_flat_run_says_whether_the_stop_sold_it(reason: ExitReason | None) -> None:
    flat = run(BOUGHT, exit_(S.FILLED, 10), exit_reason=reason)
    expected = Position.EXITED_BY_SL if reason is ExitReason.STOP_LOSS else Position.SOLD
    assert flat.position is expected


#: A run, and whether nothing more can come of it.
ENDS: list[tuple[Run, bool]] = [
    (run(), False),
    (run(status=RunStatus.FAILED), True),
    (run(stop_requested=StopMode.CLOSE), True),
    (run(entry(S.REJECTED)), False),
    (run(entry(S.REJECTED), status=RunStatus.FAILED), True),
    (run(entry(S.ACCEPTED), status=RunStatus.FAILED), False),
    (run(BOUGHT), False),
    (run(BOUGHT, status=RunStatus.FAILED), False),
    (run(BOUGHT, exit_(S.ACCEPTED)), False),
    (run(BOUGHT, exit_(S.FILLED, 10)), True),
    (run(entry(S.PARTIALLY_FILLED, 4), exit_(S.FILLED, 4, quantity=4)), False),
    (run(entry(S.CANCELED, 4), exit_(S.FILLED, 4, quantity=4)), True),
    (run(BOUGHT, exit_(S.FILLED, 10), exit_(S.UNKNOWN, attempt=2)), False),
]


@pytest.mark.parametrize(("candidate", "over"), ENDS)
def test_a_run_is_over_when_nothing_can_trade_and_nothing_is_held(candidate: Run, over: bool) -> None:
    assert candidate.is_terminal is over


def test_the_live_attempt_is_the_one_that_may_still_trade() -> None:
    given_up, live = entry(S.UNKNOWN, given_up=True), entry(S.ACCEPTED, attempt=2)
    assert run(given_up, live).live(Leg.ENTRY) == live
    assert run(given_up).live(Leg.ENTRY) is None
    assert run(live).live(Leg.EXIT) is None


def test_attempts_are_counted_by_leg_and_by_their_number() -> None:
    both = run(entry(S.REJECTED), entry(S.FILLED, 10, attempt=4), exit_(S.ACCEPTED))
    assert (both.attempts(Leg.ENTRY), both.attempts(Leg.EXIT)) == (4, 1)
    last = both.last_order(Leg.ENTRY)
    assert last is not None
    assert last.attempt == 4
    assert run().attempts(Leg.ENTRY) == 0
    assert run().last_order(Leg.EXIT) is None


def test_an_order_replaces_the_one_with_its_id_and_orders_stay_sorted() -> None:
    first, second = entry(S.REJECTED), entry(S.ACCEPTED, attempt=2)
    both = run(second).with_order(exit_(S.SENDING)).with_order(first).with_order(entry(S.FILLED, 10, attempt=2))
    assert [(o.leg, o.attempt, o.status) for o in both.orders] == [
        (Leg.ENTRY, 1, S.REJECTED),
        (Leg.ENTRY, 2, S.FILLED),
        (Leg.EXIT, 1, S.SENDING),
    ]


def test_evidence_of_an_order_the_run_does_not_know_changes_none_of_its_orders() -> None:
    before = run(BOUGHT)
    assert before.absorb(evidence(entry(S.ACCEPTED, attempt=2), S.FILLED, 10), BUY_AT) == before


def test_the_average_price_is_weighted_by_what_filled() -> None:
    sold = run(
        exit_(S.CANCELED, 4, average_price=Decimal(100)),
        exit_(S.FILLED, 6, attempt=2, average_price=Decimal(110)),
    )
    assert sold.average_price(Leg.EXIT) == Decimal(106)
    assert sold.average_price(Leg.ENTRY) == 0
