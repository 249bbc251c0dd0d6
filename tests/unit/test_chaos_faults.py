"""The fault table: every fault the broker knows, every worker at its points, and a plan a stack can play."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from broker_connector.kite_words import IST
from broker_connector.paper.faults import FAULTS, REFUSE
from engine.chaos import courses
from engine.chaos.campaign import short_table
from engine.chaos.fault import OTHER_BOUND, WORKER_BOUND, Fault, Scope, When
from engine.chaos.faults import REACHED, TABLE
from engine.chaos.points import METHODS, POINTS, around
from engine.chaos.report import rows, violations
from engine.chaos.trial import QUANTITY, TIMES, Style, Trial, draft_of, recovered
from engine.chaos.worlds import ROWS
from engine.domain.orders import Leg
from engine.domain.run import RunId, client_order_id
from engine.stack import procfile
from engine.trading import PROCFILE

NAMES = {fault.name for fault in TABLE}
FAMILIES = {fault.family for fault in TABLE}


def test_names_are_unique() -> None:
    assert len(NAMES) == len(TABLE)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_fault_of_the_broker_meets_an_entry_and_an_exit(kind: str) -> None:
    assert {f"broker: {kind} on entry", f"broker: {kind} on exit"} <= NAMES


def test_the_rest_of_the_table_is_there() -> None:
    assert {
        "Redis killed",
        "Redis flushed",
        "Redis' last second lost",
        "PostgreSQL down 30 s",
        "both beats dead past a buy time",
        "one message 10,000 times",
        "SELL, STOPLOSS and FORCE_STOP at once",
        "5,000 orders queued before a STOPLOSS",
        "token dead before an entry",
        "token dead with a position",
        "token dead during an unknown",
        "broker: updates repeated and reordered",
        f"broker: {REFUSE}",
    } <= NAMES
    assert (courses.REPEATS, courses.BACKLOG) == (10_000, 5_000)


def test_every_process_that_touches_the_world_is_killed() -> None:
    processes = {each.name for each in procfile.read(PROCFILE)} - {"paper", "flower"}
    assert {process for reached in REACHED for process in reached.processes} == processes


def test_every_point_of_the_table_exists() -> None:
    reached = {point for row in REACHED for method in row.methods.split() for point in around(*method.split("."))}
    assert reached <= set(POINTS)


def test_every_effect_the_engine_has_is_killed_somewhere() -> None:
    reached = {method for row in REACHED for method in row.methods.split()}
    everything = {f"{port}.{method}" for port, methods in METHODS.items() for method in methods}
    # Nothing of the engine calls these today.
    uncalled = {f"broker.{name}" for name in ("orders_by_client_id", "account_id", "close")}
    # A user's command calls this one; the others wait for what no trial sends: an event that is none, state that cannot
    # be read, another session, an account that stays unreadable for a minute, a breach before the first fill. `heard`
    # needs a broker at fault as well: the simulation kills there. What dies while it warms a connection holds nothing.
    unprovoked = {
        "broker.trades_of",
        "broker.warm",
        "store.signal",
        "store.dead_letter",
        "store.unreadable",
        "store.prolong",
        "store.alert",
        "store.alert_once",
        "store.heard",
        "store.remains",
    }
    assert everything - reached == uncalled | unprovoked


@pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name)
def test_a_row_can_be_played(fault: Fault) -> None:
    assert fault.whens
    assert fault.styles
    assert fault.bound == (WORKER_BOUND if fault.name.startswith("kill worker") else OTHER_BOUND)
    assert fault.scope is Scope.SYSTEM or len(fault.styles) == 1


def test_the_short_form_plays_one_row_of_each_family_that_needs_no_world_of_its_own() -> None:
    counted = Counter(fault.family for fault in short_table())
    assert set(counted) == {fault.family for fault in TABLE if fault not in ROWS}
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("style", Style)
def test_a_strategy_is_bought_and_exits_when_its_style_says(style: Style) -> None:
    buys = datetime(2026, 1, 5, 5, 0, tzinfo=UTC)
    draft = draft_of(style, "tenant-01", "NSE:INFY", Decimal("1550.03"), buys, 0.0, "name")
    bought = datetime.combine(date(2026, 1, 5), draft.buy_time, IST)
    assert bought == buys + timedelta(seconds=TIMES[style][0])
    assert draft.sell_time > draft.buy_time
    assert draft.stop_loss % Decimal("0.05") == 0
    assert draft.quantity == QUANTITY


def trial(fault: str, *, struck: bool, recovery: float | None, violations: tuple[str, ...] = ()) -> Trial:
    at = datetime(2026, 1, 5, 5, 0, tzinfo=UTC)
    made = Trial(fault, Style.SCHEDULE, "tenant-01", "NSE:INFY", at, at, Decimal(1), RunId(1, date(2026, 1, 5)))
    made.struck, made.recovery, made.violations = struck, recovery, list(violations)
    return made


def test_the_report_counts_only_what_was_struck() -> None:
    first, second = TABLE[0], TABLE[1]
    trials = [
        trial(first.name, struck=True, recovery=1.26),
        trial(first.name, struck=True, recovery=70.0, violations=("late",)),
        trial(second.name, struck=False, recovery=90.0),
        trial("bystander", struck=True, recovery=0.2),
    ]
    told = [(row["fault"], row["trials"], row["not_struck"], row["violations"], row["worst_recovery_s"])
            for row in rows(TABLE, trials, 5.0)]  # fmt: skip
    assert told == [(first.name, 2, 0, 1, 70.0), (second.name, 0, 1, 0, None), ("bystander", 1, 0, 0, 0.2)]


@pytest.mark.parametrize(
    ("asked", "cleared", "done", "took"),
    [
        (100.0, None, 103.0, 3.0),
        (100.0, 98.0, 103.0, 3.0),
        (100.0, 102.0, 103.0, 1.0),
        (100.0, 105.0, 103.0, 0.0),
        (None, None, 103.0, 0.0),
        (None, 90.0, 103.0, 0.0),
        (100.0, None, None, 20.0),
        (100.0, 110.0, None, 10.0),
    ],
)
def test_recovery_is_counted_from_the_exit_or_the_faults_end_whichever_was_later(
    asked: float | None, cleared: float | None, done: float | None, took: float
) -> None:
    """A machine's monotonic clock begins anywhere: what was sold before a look asked for it is not late since then."""
    each = trial("a fault", struck=cleared is not None, recovery=None)
    each.mono_exit, each.mono_done = asked, done
    assert recovered(each, cleared, now=120.0) == took


def test_a_phase_is_put_in_where_its_trials_can_be_met() -> None:
    assert {when for fault in TABLE for when in fault.whens} == set(When)


def test_a_violation_carries_its_ledger_and_the_log_lines_of_its_run_in_time(tmp_path: Path) -> None:
    tag = client_order_id("EE", RunId(1, date(2026, 1, 5)), Leg.ENTRY, 1)
    row = {"tag": tag, "side": "buy"}
    (tmp_path / "worker-orders.log").write_text(
        f'{{"run":"1-20260105-1","timestamp":"2026-01-05T05:00:02Z"}}\n'
        f'{{"tag": "{tag}", "timestamp": "2026-01-05T05:00:04Z"}}\n{{"run": "2-20260105-1", "timestamp": "x"}}\n'
    )
    (tmp_path / "listener.log").write_text('{"run": "1-20260105-1", "timestamp": "2026-01-05T05:00:03Z"}\n')
    good, bad = trial("one", struck=True, recovery=0.1), trial("two", struck=True, recovery=0.1, violations=("short",))
    (told,) = violations([good, bad], [row, {"tag": "SOMEBODY"}], "EE", tmp_path)
    assert (told.trial, list(told.ledger)) == (bad, [row])
    assert [line.partition(":")[0] for line in told.log] == ["worker-orders", "listener", "worker-orders"]
    assert told.as_row()["violations"] == ["short"]


def test_every_fault_is_explained_to_its_users() -> None:
    told = (PROCFILE.parent / "docs" / "failures.md").read_text(encoding="utf-8")
    # A broker's fault is named by its kind, on whichever side it strikes.
    words = {name.removeprefix("broker: ").removeprefix("token dead ").split(" on ")[0] for name in FAMILIES}
    assert {word for word in words if word not in told} == set()
