"""What every connector must do, numbered, on a real venue over a real wire. One subclass a connector."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic, sleep

import pytest

from broker_connector.kite import KiteConnector
from broker_connector.paper.process import PaperControl, paper_broker
from broker_connector.registry import PAPER_PROFILE
from engine.domain.broker import (
    BookEntry,
    BrokerUnreachable,
    OrderRequest,
    Outcome,
    RejectCause,
    TokenInvalid,
)
from engine.domain.orders import OrderStatus, OrderType, Product, Side
from engine.ports import Broker

SYMBOL = "NSE:INFY"
PRICE = Decimal("1550.00")
READ_TIMEOUT = 1.0


@dataclass(frozen=True)
class Venue:
    """A venue that can be told how to misbehave, and connectors to one account at it."""

    control: PaperControl
    connect: Callable[[str], Broker]

    def broker(self) -> Broker:
        return self.connect("paper-token")


@pytest.fixture(scope="module")
def server() -> Iterator[PaperControl]:
    with paper_broker("--market", "manual", "--always-open", "--unlimited") as control:
        yield control


@pytest.fixture
def kite_on_paper(server: PaperControl) -> Iterator[Venue]:
    opened: list[Broker] = []

    def connect(access_token: str) -> Broker:
        base_url = server.base_url
        broker = KiteConnector(base_url, "paper-key", access_token, PAPER_PROFILE, read_timeout=READ_TIMEOUT)
        opened.append(broker)
        return broker

    server.reset()
    server.change_book(partial_probability=0.0, rest_probability=0.0, fill_delay=0.0)
    server.price(SYMBOL, str(PRICE))
    yield Venue(server, connect)
    for broker in opened:
        broker.close()


def request(tag: str, side: Side = Side.BUY, quantity: int = 10, limit: str | None = None) -> OrderRequest:
    return OrderRequest(
        client_order_id=tag,
        symbol=SYMBOL,
        side=side,
        quantity=quantity,
        order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        product=Product.INTRADAY,
        limit_price=None if limit is None else Decimal(limit),
    )


def always() -> bool:
    return True


def eventually(find: Callable[[], BookEntry | None], seconds: float = 10.0) -> BookEntry:
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        found = find()
        if found is not None:
            return found
        sleep(0.02)
    raise AssertionError("it never came")


def only(broker: Broker, tag: str) -> BookEntry:
    (entry,) = broker.orders_by_client_id(tag)
    return entry


class BrokerContract:
    """The behaviours. A connector's class provides the `venue`."""

    # Placing and filling.

    def test_b01_a_market_order_is_accepted_and_its_fill_is_evidence_in_the_book(self, venue: Venue) -> None:
        broker = venue.broker()
        reply = broker.place(request("B01"), always)
        assert reply.outcome is Outcome.ACCEPTED
        entry = only(broker, "B01")
        assert entry.symbol == SYMBOL
        assert entry.side is Side.BUY
        assert entry.tag == entry.evidence.client_order_id == "B01"
        assert entry.evidence.broker_order_id == reply.broker_order_id
        assert entry.evidence.status is OrderStatus.FILLED
        assert (entry.evidence.filled_quantity, entry.evidence.average_price) == (10, PRICE)

    def test_b02_the_first_fill_is_told_by_the_trades(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B02F"), always)
        filled_at = only(broker, "B02F").evidence.filled_at
        assert filled_at is not None
        assert broker.first_fill(placed.broker_order_id) == filled_at
        resting = broker.place(request("B02R", limit="1000.00"), always)
        assert broker.first_fill(resting.broker_order_id) is None

    def test_b02_times_are_aware_utc(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B02"), always)
        entry = only(broker, "B02")
        for at in (entry.received_at, entry.evidence.filled_at):
            assert at is not None
            offset = at.utcoffset()
            assert offset is not None
            assert offset.total_seconds() == 0

    def test_b03_a_limit_order_away_from_the_market_rests_and_fills_when_the_price_comes(self, venue: Venue) -> None:
        broker = venue.broker()
        assert broker.place(request("B03", limit="1540.00"), always).outcome is Outcome.ACCEPTED
        assert only(broker, "B03").evidence.status is OrderStatus.ACCEPTED
        venue.control.price(SYMBOL, "1539.95")
        assert only(broker, "B03").evidence.status is OrderStatus.FILLED

    def test_b04_a_partly_filled_order_says_so(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.change_book(partial_probability=1.0, fill_delay=0.2, max_chunks=2)
        broker.place(request("B04"), always)

        def partly() -> BookEntry | None:
            entry = only(broker, "B04")
            return entry if entry.evidence.status is OrderStatus.PARTIALLY_FILLED else None

        entry = eventually(partly)
        assert 0 < entry.evidence.filled_quantity < 10

    def test_b05_a_protected_market_order_may_rest_unfilled(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.change_book(rest_probability=1.0)
        broker.place(request("B05"), always)
        assert only(broker, "B05").evidence.status is OrderStatus.ACCEPTED

    # Canceling.

    def test_b10_a_resting_order_is_canceled_on_request(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B10", limit="1500.00"), always)
        assert broker.cancel(placed.broker_order_id).outcome is Outcome.ACCEPTED
        assert only(broker, "B10").evidence.status is OrderStatus.CANCELED

    def test_b11_a_cancel_is_refused_because_the_order_filled(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B11"), always)
        refused = broker.cancel(placed.broker_order_id)
        assert (refused.outcome, refused.cause) == (Outcome.REJECTED, RejectCause.OTHER)
        assert only(broker, "B11").evidence.status is OrderStatus.FILLED

    def test_b12_a_canceled_order_keeps_what_filled(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.change_book(partial_probability=1.0, fill_delay=1.0, max_chunks=2)
        placed = broker.place(request("B12"), always)

        def partly() -> BookEntry | None:
            entry = only(broker, "B12")
            return entry if entry.evidence.filled_quantity else None

        filled = eventually(partly).evidence.filled_quantity
        assert broker.cancel(placed.broker_order_id).outcome is Outcome.ACCEPTED
        evidence = only(broker, "B12").evidence
        assert (evidence.status, evidence.filled_quantity) == (OrderStatus.CANCELED, filled)
        assert evidence.average_price == PRICE

    def test_b13_canceling_an_unknown_order_is_refused(self, venue: Venue) -> None:
        assert venue.broker().cancel("999").outcome is Outcome.REJECTED

    # Refusals, by cause.

    @pytest.mark.parametrize(
        ("fault", "cause"),
        [
            ({"kind": "reject_margin"}, RejectCause.MARGIN),
            ({"kind": "reject", "error_type": "InputException"}, RejectCause.INPUT),
            ({"kind": "reject", "error_type": "OrderException"}, RejectCause.OTHER),
            ({"kind": "reject", "error_type": "HoldingException"}, RejectCause.OTHER),
        ],
    )
    def test_b20_a_definite_no_is_rejected_with_its_cause(
        self, venue: Venue, fault: dict[str, str], cause: RejectCause
    ) -> None:
        broker = venue.broker()
        venue.control.fault(**fault)
        reply = broker.place(request("B20"), always)
        assert (reply.outcome, reply.cause) == (Outcome.REJECTED, cause)
        assert broker.orders_by_client_id("B20") == []

    def test_b21_an_order_refused_after_acceptance_is_rejected_in_the_book(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.fault("reject_in_book", message="RMS: no")
        assert broker.place(request("B21"), always).outcome is Outcome.ACCEPTED
        evidence = only(broker, "B21").evidence
        assert (evidence.status, evidence.reason) == (OrderStatus.REJECTED, "RMS: no")

    def test_b22_too_many_orders_say_how_long_to_wait(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.fault("rate_limit", seconds=2.5)
        reply = broker.place(request("B22"), always)
        assert (reply.outcome, reply.cause, reply.retry_after) == (
            Outcome.REJECTED,
            RejectCause.RATE_LIMITED,
            2.5,
        )

    def test_b23_a_symbol_that_does_not_exist_is_an_input_error(self, venue: Venue) -> None:
        wrong = OrderRequest("B23", "NSE:NOSUCH", Side.BUY, 1, OrderType.MARKET, Product.INTRADAY)
        reply = venue.broker().place(wrong, always)
        assert (reply.outcome, reply.cause) == (Outcome.REJECTED, RejectCause.INPUT)

    # Doubt.

    @pytest.mark.parametrize("kind", ["accept_then_hang", "accepted_but_400", "accept_then_reset"])
    def test_b30_an_order_whose_answer_was_lost_is_in_doubt_and_found_by_its_tag(self, venue: Venue, kind: str) -> None:
        broker = venue.broker()
        venue.control.fault(kind, seconds=READ_TIMEOUT * 2)
        reply = broker.place(request("B30"), always)
        assert (reply.outcome, reply.broker_order_id) == (Outcome.TIMEOUT, "")
        assert only(broker, "B30").evidence.status is OrderStatus.FILLED

    @pytest.mark.parametrize("kind", ["hang", "unavailable", "reset"])
    def test_b31_an_order_that_never_arrived_is_in_doubt_too_and_absent(self, venue: Venue, kind: str) -> None:
        broker = venue.broker()
        venue.control.fault(kind, seconds=READ_TIMEOUT * 2)
        assert broker.place(request("B31"), always).outcome is Outcome.TIMEOUT
        assert broker.orders_by_client_id("B31") == []

    @pytest.mark.parametrize("error_type", ["NetworkException", "DataException", "GeneralException", "NewException"])
    def test_b32_an_error_that_proves_nothing_is_doubt(self, venue: Venue, error_type: str) -> None:
        venue.control.fault("reject", error_type=error_type)
        assert venue.broker().place(request("B32"), always).outcome is Outcome.TIMEOUT

    def test_b33_a_doubtful_order_may_come_late(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.fault("late_accept", seconds=0.3)
        assert broker.place(request("B33"), always).outcome is Outcome.TIMEOUT
        found = eventually(lambda: next(iter(broker.orders_by_client_id("B33")), None))
        assert found.evidence.status is OrderStatus.FILLED

    def test_b34_two_orders_under_one_client_order_id_are_both_found(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B34"), always)
        broker.place(request("B34"), always)
        assert len(broker.orders_by_client_id("B34")) == 2

    def test_b35_a_slow_answer_within_the_timeout_is_an_answer(self, venue: Venue) -> None:
        venue.control.fault("slow", seconds=READ_TIMEOUT / 3)
        assert venue.broker().place(request("B35"), always).outcome is Outcome.ACCEPTED

    def test_b36_a_canceling_call_whose_answer_was_lost_is_in_doubt(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B36", limit="1500.00"), always)
        venue.control.fault("accept_then_reset", operation="cancel")
        assert broker.cancel(placed.broker_order_id).outcome is Outcome.TIMEOUT
        assert only(broker, "B36").evidence.status is OrderStatus.CANCELED

    # Nothing was sent.

    def test_b40_a_server_that_does_not_listen_got_nothing(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.account_id()
        venue.control.fault("refuse", seconds=1.0)
        sleep(0.3)
        assert broker.place(request("B40"), always).outcome is Outcome.SERVER_DOWN
        eventually(lambda: _answers(broker, "B40"))
        assert broker.orders_by_client_id("B40") == []

    def test_b41_without_permission_nothing_is_sent(self, venue: Venue) -> None:
        broker = venue.broker()
        assert broker.place(request("B41"), lambda: False).outcome is Outcome.SERVER_DOWN
        assert broker.orders_by_client_id("B41") == []

    def test_b42_permission_is_asked_once_an_order_and_not_for_reads(self, venue: Venue) -> None:
        asked: list[str] = []

        def may_send() -> bool:
            asked.append("once")
            return True

        broker = venue.broker()
        broker.place(request("B42"), may_send)
        broker.orders()
        assert asked == ["once"]

    def test_b43_a_connection_the_peer_closed_is_replaced_before_the_order_is_written(self, venue: Venue) -> None:
        broker = venue.broker()
        for number in range(5):
            venue.control.fault("close_after", operation="profile")
            broker.account_id()
            sleep(0.2)
            assert broker.place(request(f"B43X{number}"), always).outcome is Outcome.ACCEPTED
        assert len(broker.orders()) == 5

    # The account.

    def test_b50_a_dead_token_is_told_apart(self, venue: Venue) -> None:
        broker = venue.connect("dead-token")
        assert broker.place(request("B50"), always).outcome is Outcome.TOKEN_INVALID
        assert broker.cancel("1").outcome is Outcome.TOKEN_INVALID
        for read in (broker.orders, broker.positions, broker.account_id, lambda: broker.quote([SYMBOL])):
            with pytest.raises(TokenInvalid):
                read()

    def test_b51_the_account_has_a_name(self, venue: Venue) -> None:
        assert venue.broker().account_id() == "PAPER1"

    def test_b52_positions_follow_the_fills(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B52A", quantity=10), always)
        broker.place(request("B52B", Side.SELL, quantity=4), always)
        (position,) = broker.positions()
        assert (position.symbol, position.product, position.quantity) == (SYMBOL, Product.INTRADAY, 6)

    def test_b53_instruments_are_listed_with_their_tokens_and_steps(self, venue: Venue) -> None:
        listed = {instrument.symbol: instrument for instrument in venue.broker().instruments("NSE")}
        infy = listed[SYMBOL]
        assert (infy.token, infy.tick_size, infy.lot_size, infy.scale) == (408065, Decimal("0.05"), 1, 100)

    def test_b54_quotes_carry_price_and_band_and_leave_unknown_symbols_out(self, venue: Venue) -> None:
        (quote,) = venue.broker().quote([SYMBOL, "NSE:NOSUCH"])
        assert (quote.symbol, quote.last_price) == (SYMBOL, PRICE)
        assert quote.lower_band < PRICE < quote.upper_band

    # Reads.

    def test_b60_a_read_is_tried_again(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B60"), always)
        venue.control.fault("unavailable", operation="orders", times=2)
        assert len(broker.orders()) == 1

    def test_b61_a_read_that_gets_no_answer_says_so(self, venue: Venue) -> None:
        venue.control.fault("unavailable", operation="orders", times=50)
        with pytest.raises(BrokerUnreachable):
            venue.broker().orders()

    # Many threads.

    def test_b70_orders_of_many_threads_all_arrive_once(self, venue: Venue) -> None:
        broker = venue.broker()
        replies: list[Outcome] = []

        def place(number: int) -> None:
            replies.append(broker.place(request(f"B70X{number}"), always).outcome)

        threads = [threading.Thread(target=place, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert replies == [Outcome.ACCEPTED] * 40
        assert {entry.tag for entry in broker.orders()} == {f"B70X{number}" for number in range(40)}
        assert len(broker.orders()) == 40


def _answers(broker: Broker, tag: str) -> BookEntry | None:
    """Any entry once the venue answers again; an order of its own serves as the sign of life."""
    reply = broker.place(request(f"{tag}ALIVE"), always)
    return only(broker, f"{tag}ALIVE") if reply.outcome is Outcome.ACCEPTED else None


class TestKiteConnectorOnThePaperBroker(BrokerContract):
    @pytest.fixture
    def venue(self, kite_on_paper: Venue) -> Venue:
        return kite_on_paper
