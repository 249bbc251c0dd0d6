"""The order rows of the broker contract: placing, canceling, refusals, doubt, and what was never sent."""

from decimal import Decimal
from time import sleep

import pytest

from engine.domain.broker import BookEntry, OrderChange, OrderRequest, Outcome, RejectCause
from engine.domain.orders import OrderStatus, OrderType, Product, Side
from tests.contract.venue import PRICE, READ_TIMEOUT, SYMBOL, Venue, always, answers, eventually, filled, only, request


class OrderRows:
    """Rows B01 to B44."""

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

    def test_b02_an_orders_trades_tell_when_how_much_and_at_which_price_it_filled(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B02F"), always)
        resting = broker.place(request("B02R", limit="1000.00"), always)
        trades = broker.trades_of(placed.broker_order_id)
        assert {trade.broker_order_id for trade in trades} == {placed.broker_order_id}
        assert sum(trade.quantity for trade in trades) == 10
        assert {trade.price for trade in trades} == {PRICE}
        assert min(trade.filled_at for trade in trades) == only(broker, "B02F").evidence.filled_at
        assert broker.trades_of(resting.broker_order_id) == []

    def test_b06_times_are_aware_utc(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B06"), always)
        entry = only(broker, "B06")
        for at in (entry.received_at, entry.evidence.filled_at):
            assert at is not None
            offset = at.utcoffset()
            assert offset is not None
            assert offset.total_seconds() == 0

    def test_b03_a_limit_order_away_from_the_market_rests_and_fills_when_the_price_comes(self, venue: Venue) -> None:
        broker = venue.broker()
        assert broker.place(request("B03", limit="1540.00"), always).outcome is Outcome.ACCEPTED
        resting = only(broker, "B03").evidence
        assert (resting.status, resting.limit_price) == (OrderStatus.ACCEPTED, Decimal("1540.00"))
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

    def test_b05_a_market_order_is_protected_and_may_rest_unfilled_for_it(self, venue: Venue) -> None:
        assert venue.refuses_unprotected_orders()
        broker = venue.broker()
        venue.control.change_book(rest_probability=1.0)
        broker.place(request("B05"), always)
        assert only(broker, "B05").evidence.status is OrderStatus.ACCEPTED

    def test_b07_a_tag_of_full_length_comes_back_whole(self, venue: Venue) -> None:
        broker = venue.broker()
        tag = "B07" + "X" * (broker.profile.tag_length - 3)
        broker.place(request(tag), always)
        assert only(broker, tag).evidence.client_order_id == tag

    def test_b08_the_history_tells_an_orders_states_oldest_first(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B08", limit="1500.00"), always)
        broker.cancel(placed.broker_order_id)
        states = [entry.evidence.status for entry in broker.order_history(placed.broker_order_id)]
        assert (states[0], states[-1]) == (OrderStatus.ACCEPTED, OrderStatus.CANCELED)

    # Canceling and changing.

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

    def test_b14_a_resting_order_is_changed_and_fills_at_its_new_limit(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B14", limit="1500.00"), always)
        changed = broker.modify(placed.broker_order_id, OrderChange(PRICE))
        assert (changed.outcome, changed.broker_order_id) == (Outcome.ACCEPTED, placed.broker_order_id)
        assert filled(broker, "B14").evidence.filled_quantity == 10

    def test_b15_a_change_is_refused_because_the_order_filled(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B15"), always)
        assert broker.modify(placed.broker_order_id, OrderChange(PRICE)).outcome is Outcome.REJECTED

    def test_b16_a_change_whose_answer_was_lost_is_in_doubt(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B16", limit="1500.00"), always)
        venue.control.fault("accept_then_reset", operation="modify")
        assert broker.modify(placed.broker_order_id, OrderChange(PRICE)).outcome is Outcome.TIMEOUT
        assert filled(broker, "B16").evidence.filled_quantity == 10

    # Refusals, by cause.

    @pytest.mark.parametrize(
        ("fault", "cause"),
        [
            ({"kind": "reject_margin"}, RejectCause.MARGIN),
            ({"kind": "reject", "error_type": "InputException"}, RejectCause.INPUT),
            ({"kind": "reject", "error_type": "OrderException"}, RejectCause.OTHER),
            ({"kind": "reject", "error_type": "HoldingException"}, RejectCause.AUTHORISATION),
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

    def test_b24_a_price_between_two_ticks_is_an_input_error(self, venue: Venue) -> None:
        reply = venue.broker().place(request("B24", limit="1540.03"), always)
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

    def test_b34_a_repeated_id_shows_or_is_refused_as_the_profile_says(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B34"), always)
        again = broker.place(request("B34"), always)
        entries = broker.orders_by_client_id("B34")
        assert len(entries) == (1 if broker.profile.idempotent else 2)
        assert again.outcome is Outcome.REJECTED or again.broker_order_id in {
            entry.evidence.broker_order_id for entry in entries
        }

    def test_b35_a_slow_answer_within_the_timeout_is_an_answer(self, venue: Venue) -> None:
        venue.control.fault("slow", seconds=READ_TIMEOUT / 3)
        assert venue.broker().place(request("B35"), always).outcome is Outcome.ACCEPTED

    def test_b36_a_canceling_call_whose_answer_was_lost_is_in_doubt(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B36", limit="1500.00"), always)
        venue.control.fault("accept_then_reset", operation="cancel")
        assert broker.cancel(placed.broker_order_id).outcome is Outcome.TIMEOUT
        assert only(broker, "B36").evidence.status is OrderStatus.CANCELED

    def test_b37_another_connector_finds_what_a_dead_one_placed_and_cancels_it(self, venue: Venue) -> None:
        dead = venue.broker()
        venue.control.fault("accept_then_reset")
        assert dead.place(request("B37", limit="1500.00"), always).outcome is Outcome.TIMEOUT
        dead.close()
        restarted = venue.broker()
        found = only(restarted, "B37").evidence
        assert found.status is OrderStatus.ACCEPTED
        assert restarted.cancel(found.broker_order_id).outcome is Outcome.ACCEPTED
        assert only(restarted, "B37").evidence.status is OrderStatus.CANCELED

    # Nothing was sent.

    def test_b40_a_server_that_does_not_listen_got_nothing(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.account_id()
        venue.control.fault("refuse", seconds=1.0)
        sleep(0.3)
        assert broker.place(request("B40"), always).outcome is Outcome.SERVER_DOWN
        eventually(lambda: answers(broker, "B40"))
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
        for number in range(3):
            venue.control.fault("close_after", operation="profile")
            broker.account_id()
            sleep(0.2)
            assert broker.place(request(f"B43X{number}"), always).outcome is Outcome.ACCEPTED
        assert len(broker.orders()) == 3

    def test_b44_connections_opened_ahead_are_counted_and_carry_orders(self, venue: Venue) -> None:
        broker = venue.broker()
        assert broker.warm(3) == 3
        assert broker.place(request("B44"), always).outcome is Outcome.ACCEPTED
