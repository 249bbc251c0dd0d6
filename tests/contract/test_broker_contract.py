"""What every connector must do: the rows of `broker_connector.matrix` on a real venue over a real wire.

One class a connector. A row it declares to lack must fail as not implemented; everything else must pass.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pytest

from broker_connector import template
from broker_connector.base import Connector
from broker_connector.kite import KiteConnector
from broker_connector.matrix import LACKING, PAGE, ROWS, page
from broker_connector.paper.process import PaperControl, paper_broker
from broker_connector.registry import PAPER_PROFILE
from tests.contract.account_rows import AccountRows
from tests.contract.order_rows import OrderRows
from tests.contract.venue import PRICE, READ_TIMEOUT, SYMBOL, Venue


@pytest.fixture(scope="module")
def server() -> Iterator[PaperControl]:
    with paper_broker("--market", "manual", "--always-open", "--unlimited") as control:
        yield control


@contextmanager
def on_paper(server: PaperControl, make: Callable[[str, str], Connector]) -> Iterator[Venue]:
    """The venue, reset; `make` builds a connector from a base URL and an access token."""
    opened: list[Connector] = []

    def connect(access_token: str) -> Connector:
        opened.append(make(server.base_url, access_token))
        return opened[-1]

    server.reset()
    server.change_book(partial_probability=0.0, rest_probability=0.0, fill_delay=0.0)
    server.price(SYMBOL, str(PRICE))
    yield Venue(server, connect)
    for broker in opened:
        broker.close()


def row_of(test: str) -> str:
    found = re.match(r"test_(b\d\d)_", test)
    assert found, f"{test} names no row"
    return found[1].upper()


class BrokerContract(OrderRows, AccountRows):
    """Every row. A connector's class provides the `venue`, and says which rows it lacks."""

    lacks: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def declared(self, request: pytest.FixtureRequest) -> None:
        """A row that is declared missing fails as not implemented, and says why; if it passes, the claim is wrong."""
        row = row_of(request.function.__name__)
        if row in self.lacks:
            request.applymarker(pytest.mark.xfail(reason=self.lacks[row], raises=NotImplementedError, strict=True))


class TestKiteConnectorOnThePaperBroker(BrokerContract):
    @pytest.fixture
    def venue(self, server: PaperControl) -> Iterator[Venue]:
        def make(base_url: str, access_token: str) -> Connector:
            return KiteConnector(base_url, "paper-key", access_token, PAPER_PROFILE, read_timeout=READ_TIMEOUT)

        with on_paper(server, make) as venue:
            yield venue


class TestTemplateOnThePaperBroker(BrokerContract):
    lacks: ClassVar[Mapping[str, str]] = template.MISSING

    @pytest.fixture
    def venue(self, server: PaperControl) -> Iterator[Venue]:
        profile = replace(template.PROFILE, answer_timeout=READ_TIMEOUT)

        def make(base_url: str, access_token: str) -> Connector:
            return template.TemplateConnector(base_url, "paper-key", access_token, profile)

        with on_paper(server, make) as venue:
            yield venue


def test_every_row_has_its_one_test() -> None:
    tests = Counter(row_of(name) for name in dir(BrokerContract) if name.startswith("test_"))
    assert tests == Counter(ROWS.keys())


def test_only_rows_can_be_lacking_and_a_connector_that_trades_lacks_none() -> None:
    assert all(set(lacking) <= set(ROWS) for lacking in LACKING.values())
    assert LACKING["kite"] == TestKiteConnectorOnThePaperBroker.lacks == {}


def test_the_page_of_connectors_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m broker_connector.matrix"
