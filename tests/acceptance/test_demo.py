"""`engine demo` as a user runs it."""

import json
import subprocess
import time

import pytest

from tests.commands import engine

#: Seconds the demo may take, servers and processes included.
WITHIN = 90.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_strategy_of_the_demo_ends_as_its_prices_say() -> None:
    began = time.monotonic()
    done = subprocess.run(engine("demo", "--json"), stdout=subprocess.PIPE, text=True, check=False, timeout=280)
    took = time.monotonic() - began
    told = json.loads(done.stdout)
    assert (done.returncode, told["failures"]) == (0, [])
    assert told["strategies"] >= 50
    assert len(told["profit"]) == 5
    assert told["bought"] == told["strategies"] == told["sold"] + told["stopped_out"]
    assert told["stopped_out"] > 0
    assert took < WITHIN
