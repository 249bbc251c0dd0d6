"""A read that gives nothing is tried again, a few times and not for long."""

from collections.abc import Callable

import pytest

from broker_connector import reads
from broker_connector.reads import Unanswered, retried
from engine.domain.broker import BrokerUnreachable


def _failing(tries: list[int], least: int) -> Callable[[], str]:
    """A read that gives nothing before so many tries."""

    def read() -> str:
        tries.append(len(tries) + 1)
        if len(tries) < least:
            raise Unanswered("nothing")
        return "read"

    return read


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_PAUSE", "READ_PAUSE_MAX"):
        monkeypatch.setattr(reads, name, 0.0)


def test_it_is_tried_again_and_given_up_after_its_tries() -> None:
    tries: list[int] = []
    assert retried(_failing(tries, reads.READ_ATTEMPTS)) == "read"
    with pytest.raises(BrokerUnreachable, match="nothing"):
        retried(_failing(tries := [], reads.READ_ATTEMPTS + 1))
    assert len(tries) == reads.READ_ATTEMPTS


def test_once_its_time_is_over_it_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "READ_WITHIN", 0.0)
    tries: list[int] = []
    with pytest.raises(BrokerUnreachable):
        retried(_failing(tries, 2))
    assert tries == [1]
