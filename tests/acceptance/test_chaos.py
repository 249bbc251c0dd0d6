"""`engine chaos` as a user runs it: a row of every family of faults, on one running stack."""

import json
import subprocess
import time

import pytest

from engine.chaos.campaign import short_table
from tests.commands import engine

#: Seconds the short form may take, the stack's start included.
WITHIN = 600.0


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_no_fault_breaks_an_invariant_or_its_bound() -> None:
    began = time.monotonic()
    command = engine("chaos", "--short", "--json")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=780)
    took = time.monotonic() - began
    told = json.loads(done.stdout)
    assert (done.returncode, told["evidence"]) == (0, [])
    assert {row["fault"] for row in told["faults"]} == {fault.name for fault in short_table()} | {"bystander"}
    assert told["not_struck"] == []
    assert all(row["worst_recovery_s"] <= row["bound_s"] for row in told["faults"])
    assert took < WITHIN
