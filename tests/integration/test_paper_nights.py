"""A delivery position across nights, from the paper broker through the connector: always what the account can sell."""

from collections.abc import Iterator

import pytest

from broker_connector.kite import KiteConnector
from broker_connector.paper.process import PaperControl, paper_broker
from engine.domain.orders import Product

INFY, ACCOUNT = "NSE:INFY", "PAPER1"


@pytest.fixture(scope="module")
def server() -> Iterator[PaperControl]:
    with paper_broker("--market", "manual", "--always-open", "--rate-limits", "none") as control:
        yield control


@pytest.fixture
def paper(server: PaperControl) -> PaperControl:
    server.reset()
    return server


def sellable(paper: PaperControl) -> int:
    broker = KiteConnector(paper.base_url, "paper-key", "paper-token")
    return sum(each.quantity for each in broker.positions() if (each.symbol, each.product) == (INFY, Product.DELIVERY))


@pytest.mark.parametrize("before_the_sale", [0, 1, 2])
def test_what_was_bought_is_sellable_until_it_is_sold_however_many_nights_lie_between(
    paper: PaperControl, before_the_sale: int
) -> None:
    paper.trade(ACCOUNT, INFY, "buy", 10, product="CNC")
    for _ in range(before_the_sale):
        assert sellable(paper) == 10
        paper.night()
    assert sellable(paper) == 10
    paper.trade(ACCOUNT, INFY, "sell", 4, product="CNC")
    assert sellable(paper) == 6
    paper.night()
    assert sellable(paper) == 6
    paper.trade(ACCOUNT, INFY, "sell", 6, product="CNC")
    assert sellable(paper) == 0
    paper.night()
    assert sellable(paper) == 0


def test_a_sale_out_of_settled_and_arriving_shares_and_a_new_purchase_add_up(paper: PaperControl) -> None:
    paper.hold(ACCOUNT, INFY, settled=10, t1=5)
    assert sellable(paper) == 15
    paper.trade(ACCOUNT, INFY, "sell", 12, product="CNC")
    assert sellable(paper) == 3
    paper.trade(ACCOUNT, INFY, "buy", 20, product="CNC")
    assert sellable(paper) == 23
    paper.night()
    assert sellable(paper) == 23


def test_an_intraday_position_is_no_stock_and_ends_with_the_day(paper: PaperControl) -> None:
    paper.trade(ACCOUNT, INFY, "buy", 10)
    paper.trade(ACCOUNT, INFY, "buy", 3, product="CNC")
    assert sellable(paper) == 3
    paper.night()
    assert sellable(paper) == 3
