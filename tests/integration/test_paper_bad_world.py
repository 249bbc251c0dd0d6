"""What goes wrong at a real broker without being an error, played by the paper broker: each as a client sees it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from broker_connector.paper.faults import FORBIDDEN_PAGE
from broker_connector.paper.process import ControlError, PaperControl, paper_broker
from broker_connector.ticker import TickPacket, decode
from tests.processes import eventually

INFY, INFY_TOKEN, RELIANCE = "NSE:INFY", 408065, "NSE:RELIANCE"
ACCOUNT = "PAPER1"
OPTIONS = ("--market", "manual", "--always-open", "--rate-limits", "none", "--market-protection", "optional")
HEADERS = {"Authorization": "token paper-key:paper-token", "X-Kite-Version": "3"}
BUY = {
    "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": "10", "product": "MIS",
    "order_type": "MARKET", "validity": "DAY", "tag": "mine",
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[PaperControl]:
    with paper_broker(*OPTIONS) as control:
        yield control


@pytest.fixture
def paper(server: PaperControl) -> PaperControl:
    server.reset()
    server.price(INFY, "1500.00")
    return server


def read(paper: PaperControl, path: str) -> Any:
    answer = requests.get(f"{paper.base_url}{path}", headers=HEADERS, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def place(paper: PaperControl, **words: str) -> requests.Response:
    return requests.post(f"{paper.base_url}/orders/regular", data=BUY | words, headers=HEADERS, timeout=10)


def net(paper: PaperControl) -> dict[str, int]:
    return {row["tradingsymbol"]: row["quantity"] for row in read(paper, "/portfolio/positions")["net"]}


def names(paper: PaperControl) -> dict[str, int]:
    answer = requests.get(f"{paper.base_url}/instruments/NSE", headers=HEADERS, timeout=10)
    rows = [line.split(",") for line in answer.text.splitlines()[1:]]
    return {row[2]: int(row[0]) for row in rows}


def test_a_trade_by_hand_is_in_the_book_under_no_tag_or_a_foreign_one_and_in_the_positions(paper: PaperControl) -> None:
    place(paper)
    by_hand = paper.trade(ACCOUNT, INFY, "sell", 10)
    other = paper.trade(ACCOUNT, RELIANCE, "buy", 3, product="CNC", tag="otherengine")
    resting = paper.trade(ACCOUNT, INFY, "buy", 5, price="1400.00")
    rows = {row["order_id"]: row for row in read(paper, "/orders")}
    assert [rows[each]["tag"] for each in (by_hand, other, resting)] == [None, "otherengine", None]
    assert [rows[each]["status"] for each in (by_hand, other, resting)] == ["COMPLETE", "COMPLETE", "OPEN"]
    assert net(paper) == {"INFY": 0, "RELIANCE": 3}
    with pytest.raises(ControlError, match="quantity"):
        paper.trade(ACCOUNT, INFY, "sell", 0)


def test_an_order_that_vanishes_has_an_id_and_is_nowhere(paper: PaperControl) -> None:
    paper.fault("vanish")
    order_id = place(paper).json()["data"]["order_id"]
    assert order_id
    assert (read(paper, "/orders"), paper.ledger(), net(paper)) == ([], [], {})
    answer = requests.get(f"{paper.base_url}/orders/{order_id}", headers=HEADERS, timeout=10)
    assert answer.status_code == 400
    assert place(paper).json()["data"]["order_id"] != order_id


def test_an_order_refused_on_the_wire_rests_in_the_book_and_trades(paper: PaperControl) -> None:
    paper.fault("refused_but_placed", seconds=1.0, error_type="MarginException", message="Insufficient funds.")
    answer = place(paper)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "MarginException")
    (row,) = read(paper, "/orders")
    assert (row["status"], row["tag"]) == ("OPEN", "mine")
    assert eventually(lambda: net(paper) == {"INFY": 10})


def test_positions_are_empty_for_a_while_and_then_there_again(paper: PaperControl) -> None:
    place(paper)
    paper.fault("empty", operation="positions", lasts=2.0)
    assert read(paper, "/portfolio/positions") == {"net": [], "day": []}
    assert read(paper, "/portfolio/positions") == {"net": [], "day": []}
    assert read(paper, "/orders")[0]["status"] == "COMPLETE"
    assert eventually(lambda: net(paper) == {"INFY": 10})
    assert paper.faults() == []


def test_positions_lag_behind_the_fills(paper: PaperControl) -> None:
    paper.fault("lag", operation="positions", seconds=2.0, lasts=30.0)
    place(paper)
    assert net(paper) == {}
    assert eventually(lambda: net(paper) == {"INFY": 10})
    paper.trade(ACCOUNT, INFY, "sell", 10)
    assert net(paper) == {"INFY": 10}
    assert eventually(lambda: net(paper) == {"INFY": 0})


def test_a_complete_order_has_no_price_or_no_fills_for_a_moment_and_its_trades_know(paper: PaperControl) -> None:
    place(paper)
    paper.fault("price_zero", operation="orders")
    paper.fault("fills_behind", operation="orders")
    first, second, third = (read(paper, "/orders")[0] for _ in range(3))
    assert (first["status"], first["average_price"], first["filled_quantity"]) == ("COMPLETE", 0, 10)
    assert (second["status"], second["average_price"], second["filled_quantity"]) == ("COMPLETE", 1500.0, 0)
    assert (third["average_price"], third["filled_quantity"]) == (1500.0, 10)
    assert [trade["quantity"] for trade in read(paper, "/trades")] == [10]


def test_what_is_pushed_can_lie_as_what_is_read_does(paper: PaperControl) -> None:
    url = f"{paper.ws_url}?api_key=paper-key&access_token=paper-token"
    paper.fault("price_zero", operation="update", lasts=30.0)
    with connect(url, proxy=None) as line:
        assert eventually(lambda: paper.health()["listeners"] == 1)
        place(paper)
        updates = (json.loads(text)["data"] for text in line if isinstance(text, str))
        ended = next(each for each in updates if each["status"] == "COMPLETE")
    assert (ended["average_price"], ended["filled_quantity"]) == (0, 10)


@pytest.mark.parametrize("path", ["/orders", "/portfolio/positions"])
def test_rows_nobody_can_read_stand_before_those_one_can(paper: PaperControl, path: str) -> None:
    def rows() -> list[Any]:
        data = read(paper, path)
        found: list[Any] = data["net"] if isinstance(data, dict) else data
        return found

    place(paper)
    operation = path.rpartition("/")[2]
    (good,) = rows()
    paper.fault("null_rows", operation=operation)
    nulls, none, *rest = rows()
    assert (set(nulls.values()), none, rest) == ({None}, None, [good])
    paper.fault("odd_rows", operation=operation)
    odd, *rest = rows()
    assert (odd["product"], odd["quantity"], odd["tradingsymbol"], rest) == ("XYZ", "ten", 5, [good])
    paper.fault("short_rows", operation=operation)
    assert rows() == [{}, good]


def test_a_row_of_ours_is_edited_and_rows_of_others_are_added(paper: PaperControl) -> None:
    place(paper)
    paper.fault("edit", operation="orders", tag="mine", put={"filled_quantity": None}, drop=["status"])
    (row,) = read(paper, "/orders")
    assert (row["filled_quantity"], "status" in row) == (None, False)
    paper.fault("edit", operation="positions", where={"product": "CNC"}, put={"quantity": 0})
    assert net(paper) == {"INFY": 10}
    paper.fault("add", operation="positions", rows=[{"tradingsymbol": "GOLD", "product": "NRML", "quantity": 1}])
    assert net(paper) == {"INFY": 10, "GOLD": 1}


def test_the_book_alone_is_behind_a_bad_gateway(paper: PaperControl) -> None:
    paper.fault("bad_gateway", operation="orders", lasts=30.0)
    for _ in range(2):
        answer = requests.get(f"{paper.base_url}/orders", headers=HEADERS, timeout=10)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (502, "text/plain")
    assert place(paper).status_code == 200
    assert net(paper) == {"INFY": 10}


def test_a_proxys_403_is_a_page_and_not_the_brokers_word(paper: PaperControl) -> None:
    paper.fault("forbidden_page", operation="any", times=2)
    for answer in (place(paper), requests.get(f"{paper.base_url}/orders", headers=HEADERS, timeout=10)):
        assert (answer.status_code, answer.text) == (403, FORBIDDEN_PAGE)
        assert answer.headers["Content-Type"].startswith("text/html")
    assert read(paper, "/orders") == []


def test_a_dump_is_a_header_alone_or_a_part_or_has_other_tokens(paper: PaperControl) -> None:
    whole = names(paper)
    paper.fault("header_only", operation="instruments")
    assert names(paper) == {}
    paper.fault("partial", operation="instruments", share=0.4)
    answer = requests.get(f"{paper.base_url}/instruments", headers=HEADERS, timeout=10).text
    assert 1 < len(answer.splitlines()) < len(whole)
    paper.fault("retokened", operation="instruments")
    changed = names(paper)
    assert changed.keys() == whole.keys()
    assert not set(changed.values()) & set(whole.values())
    assert names(paper) == whole


def test_a_symbol_listed_anew_ticks_and_trades_under_its_new_name_and_token(server: PaperControl) -> None:
    with paper_broker(*OPTIONS) as paper:
        paper.price(INFY, "1500.00")
        paper.hold(ACCOUNT, INFY, settled=10)
        token = paper.relist(INFY, name="INFY-BE", token=INFY_TOKEN + (1 << 24))
        listed = names(paper)
        assert (listed.get("INFY"), listed["INFY-BE"]) == (None, token)
        (share,) = read(paper, "/portfolio/holdings")
        assert (share["tradingsymbol"], share["instrument_token"]) == ("INFY-BE", token)
        assert place(paper).status_code == 400
        assert place(paper, tradingsymbol="INFY-BE").status_code == 200
        assert net(paper) == {"INFY-BE": 10}
        assert first_tick(paper, INFY_TOKEN, token).token == token
        with pytest.raises(ControlError, match="taken"):
            paper.relist("NSE:TCS", name="INFY-BE")


def test_the_last_trade_of_an_idle_symbol_is_older_than_its_packet(paper: PaperControl) -> None:
    paper.idle(INFY, 600)
    paper.price(INFY, "1500.00")
    packet = first_tick(paper, INFY_TOKEN)
    assert packet.exchange_time - packet.last_trade_time == 600
    paper.idle(INFY, 0)
    paper.price(INFY, "1500.00")
    packet = first_tick(paper, INFY_TOKEN)
    assert packet.exchange_time == packet.last_trade_time


def first_tick(paper: PaperControl, *tokens: int) -> TickPacket:
    """What a new subscription of `tokens` is answered, in mode full."""
    with connect(f"{paper.ws_url}?api_key=paper-key&access_token=paper-token", proxy=None) as line:
        line.send(json.dumps({"a": "mode", "v": ["full", list(tokens)]}))
        frames = (decode(frame).packets for frame in line if isinstance(frame, bytes))
        (packet,) = next(packets for packets in frames if packets)
        return packet


@pytest.mark.parametrize("operation", ["orders", "positions", "instruments"])
def test_what_a_seed_draws_for_reads_concerns_them_and_is_the_same_again(paper: PaperControl, operation: str) -> None:
    path = {"orders": "/orders", "positions": "/portfolio/positions", "instruments": "/instruments/NSE"}[operation]

    def drawn() -> list[tuple[int, int]]:
        paper.fault("any", operation=operation, probability=0.7, seed=11, times=30)
        told = []
        for _ in range(20):
            try:
                answer = requests.get(f"{paper.base_url}{path}", headers=HEADERS, timeout=10)
                told.append((answer.status_code, len(answer.text)))
            except requests.ConnectionError:
                told.append((0, 0))
        paper.clear_faults()
        return told

    place(paper)
    first = drawn()
    assert first == drawn()
    assert len(set(first)) > 3
