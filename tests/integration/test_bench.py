"""The benches at tiny sizes: that they measure what they say, lose nothing, and tell figures of the right shape."""

import pytest

from bench import behind, budgets, burst, cold, figures, growth, killed, opening, peers, profile, throughput, tick
from bench.herd import open_desk_without_broker
from bench.stand import stand
from broker_connector.paper.process import paper_broker
from tests.desk import PAPER, open_desk


def quietly(_line: str) -> None:
    """Nobody reads a test's figures."""


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert figures.p50_p99(values) == {"p50": 50.0, "p99": 99.0}
    assert figures.p50_p99([7.0]) == {"p50": 7.0, "p99": 7.0}


@pytest.mark.slow
def test_growth_tells_times_and_bytes_of_each_size() -> None:
    found = growth.run(quietly, sizes=(5, 20), quiet=4, breaches=3)
    assert found["grown"]["strategies"] == 4
    for size in ("5", "20"):
        assert 0 < found[size]["quiet_p50_us"] <= found[size]["quiet_p99_us"]
        assert 0 < found[size]["breach_p50_us"] <= found[size]["breach_p99_us"]
    # A server's own buffers come and go: at these sizes only the keys themselves can be weighed.
    assert all(found["bytes"][name] > 0 for name in ("strategy", "runtime", "due", "armed", "ledger"))


def test_budgets_tell_every_operation() -> None:
    with stand() as at, open_desk_without_broker(at) as desk:
        found = budgets.operations(at, desk, 3)
    assert set(found) == {"ping", "queue_pop", "lock", "read", "write", "commit"}
    assert found["ping"]["ratio"] == 1


@pytest.mark.slow
def test_no_cycle_is_shorter_than_its_broker_takes() -> None:
    with stand() as at, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        found = budgets.cycles(at, desk, 2)
    assert min(found["buy_cycle"]["p50"], found["sell_cycle"]["p50"]) >= budgets.BROKER * 1000


@pytest.mark.slow
def test_throughput_counts_every_order_and_every_nothing() -> None:
    # So many that the processor time they take is more than a tick of the kernel's clock.
    found = throughput.run(quietly, orders=4, nothings=1_000)
    assert all(value > 0 for value in found.values())
    assert found["ratio"] == pytest.approx(found["ten_steps_per_s"] / found["noop_per_s"], abs=0.01)


@pytest.mark.slow
def test_a_breach_is_timed_beside_its_floor_and_by_its_stages() -> None:
    found = tick.idle(quietly, 3)
    assert all(0 < found[f"{whose}p50_ms"] <= found[f"{whose}p99_ms"] for whose in ("", "floor_"))
    assert {"wake_ms", "claim_ms", "intend_ms", "send_ms"} <= set(found["stages"])


@pytest.mark.slow
def test_no_burst_is_sent_before_its_broker_can_have_taken_it_in() -> None:
    found = burst.burst(quietly, 6, connections=3)
    waits = burst.BROKER_TAKES * 1000
    assert waits <= found["p50_ms"] <= found["all_sent_ms"]
    # Three connections, six orders: each waits for the broker twice.
    assert waits <= found["floor_p50_ms"] <= 2 * waits <= found["floor_ms"]


@pytest.mark.slow
def test_an_opening_market_breaches_every_stop_of_its_script_once() -> None:
    size = opening.Size(instruments=20, armed=60, ticks_per_frame=9, seconds=2)
    found = opening.opening(quietly, size)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["ticks_per_s"] > 0
    assert found["ledger_at_end"] <= found["ledger_longest"]


def test_a_script_breaches_each_strategy_by_the_tick_meant_for_it() -> None:
    script = opening.Script(opening.Size(instruments=20, armed=60, ticks_per_frame=9, seconds=2))
    armed = dict(enumerate(script.breached))
    fired = []
    for frame in script.frames(range(20)):
        for instrument, price in frame:
            hit = [each for each, (of, stop) in armed.items() if of == instrument and stop >= price]
            fired += [armed.pop(each) for each in hit]
            assert len(hit) <= 1
    assert fired == script.breached


@pytest.mark.slow
def test_breaches_are_timed_while_trades_wait() -> None:
    found = behind.behind(quietly, waiting=200, breaches=5)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["still_waiting"] > 0


@pytest.mark.slow
def test_the_profile_tells_what_an_exit_spends_by_place_and_by_function() -> None:
    told = profile.run(quietly, exits=5, warm=1)
    assert "engine/pipeline.py process" in told
    assert "redis/connection.py" in told


@pytest.mark.slow
def test_a_rest_is_told_of_every_part_asleep_and_busy() -> None:
    found = cold.run(quietly, calls=3)
    assert [*found] == ["0_ms", "1_ms", "10_ms", "50_ms"]
    for told in found.values():
        assert all(told[how][part] > 0 for how in ("slept", "spun") for part in cold.PARTS)


#: Little enough for a test.
SIZES = peers.Sizes(
    paced=3, pause=0.001, warm=1, burst=5, idle=0.1, at_stake=killed.Size(events=6, killed_at=2, quiet=1)
)


@pytest.mark.slow
def test_a_loop_is_measured_and_loses_what_it_held() -> None:
    (row,) = peers.run(quietly, SIZES, ["loop_1ms"]).values()
    assert 0 < row["p50"] <= row["p99"]
    assert row["burst_ms"] > 0
    assert row["ratio"] == 1
    assert row["killed"] == {
        "events": 6, "served": 5, "lost": 1, "orphans": 1, "sent_twice": 0, "kept_for_later": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_the_engine_loses_nothing_to_a_kill_and_sends_nothing_twice() -> None:
    assert killed.engine(killed.Size(events=20, killed_at=5)) == killed.Killed(20, served=20, sent_twice=0, orphans=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lane", "celery", "huey", "nautilus"])
def test_every_peer_is_measured_or_said_to_be_missing(name: str) -> None:
    (row,) = peers.run(quietly, SIZES, [name]).values()
    assert "missing" in row or 0 < row["p50"] <= row["p99"]
