"""The faults still to come at the paper broker, and which of them meets a call. Knows no accounts or books."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.responses import Response

from broker_connector.paper.faults import ANY, FAULTS, READS, REFUSE, SCRAMBLE, Call, Fault, Proceed
from broker_connector.paper.sickness import SICKNESSES


@dataclass(slots=True)
class Script:
    """The faults still to come, in order; the first that meets a call takes it."""

    faults: list[Fault] = field(default_factory=list)
    #: Stops listening for so many seconds; given by whoever runs the server.
    refuse: Callable[[float], None] = lambda _seconds: None
    #: Repeats and reorders the next order updates of an account.
    scramble: Callable[[str], None] = lambda _account: None

    def add(self, description: Mapping[str, Any]) -> Fault:
        """Append the fault `description` tells of; raises TypeError or KeyError at unknown words."""
        fault = Fault(**description)
        if fault.kind == REFUSE:
            self.refuse(fault.seconds)
        elif fault.kind == SCRAMBLE:
            self.scramble(fault.account)
        elif fault.kind in {ANY, *FAULTS, *READS, *SICKNESSES}:
            self.faults.append(fault)
        else:
            raise KeyError(fault.kind)
        return fault

    async def run(self, call: Call, proceed: Proceed) -> Response:
        """Answer `call`, by the first fault that meets it, else as it should be."""
        fault = self._met(call)
        if fault is None:
            return await proceed()
        kind = fault.act(call.operation)
        if kind in SICKNESSES:
            return await proceed(partial(SICKNESSES[kind][0], fault))
        return await (FAULTS | READS)[kind](fault, call, proceed)

    def spoiled(self, operation: str, account: str, data: Any) -> Any:
        """What is told of `data` without having been asked: the first sickness of `operation` and `account` decides."""
        for fault in self._current():
            if fault.kind in SICKNESSES and fault.operation == operation and fault.account in {"", account}:
                return SICKNESSES[fault.kind][0](fault, data)
        return data

    def _met(self, call: Call) -> Fault | None:
        for fault in self._current():
            if not fault.meets(call) or fault.draw.random() >= fault.probability:
                continue
            fault.met += 1
            if fault.met <= fault.skip:
                continue
            if fault.met >= fault.skip + fault.times:
                self.faults.remove(fault)
            return fault
        return None

    def _current(self) -> list[Fault]:
        self.faults[:] = [fault for fault in self.faults if not fault.is_over]
        return list(self.faults)
