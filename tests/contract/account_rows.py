"""The account rows of the broker contract: token, positions, instruments, quotes, money, reads, many threads."""

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from time import monotonic

import pytest

from engine.domain.broker import BrokerUnreachable, Outcome, TokenInvalid
from engine.domain.orders import Product, Side
from tests.contract.venue import PRICE, SYMBOL, Venue, always, only, request


class AccountRows:
    """Rows B50 to B70."""

    # The account.

    def test_b50_a_dead_token_is_told_apart(self, venue: Venue) -> None:
        broker = venue.connect("dead-token")
        assert broker.place(request("B50"), always).outcome is Outcome.TOKEN_INVALID
        assert broker.cancel("1").outcome is Outcome.TOKEN_INVALID
        for read in (broker.orders, broker.positions, broker.account_id):
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
        assert {symbol.split(":")[0] for symbol in listed} == {"NSE"}

    def test_b54_quotes_carry_price_and_band_and_leave_unknown_symbols_out(self, venue: Venue) -> None:
        (quote,) = venue.broker().quote([SYMBOL, "NSE:NOSUCH"])
        assert (quote.symbol, quote.last_price) == (SYMBOL, PRICE)
        assert quote.lower_band < PRICE < quote.upper_band
        assert quote.at.utcoffset() == timedelta(0)

    def test_b55_a_token_that_dies_in_between_places_nothing(self, venue: Venue) -> None:
        broker = venue.broker()
        venue.control.fault("token")
        assert broker.place(request("B55A"), always).outcome is Outcome.TOKEN_INVALID
        assert broker.place(request("B55B"), always).outcome is Outcome.ACCEPTED
        assert [entry.tag for entry in broker.orders()] == ["B55B"]

    def test_b56_every_fill_of_the_account_is_among_its_trades(self, venue: Venue) -> None:
        broker = venue.broker()
        placed = broker.place(request("B56"), always)
        broker.place(request("B56R", limit="1000.00"), always)
        (trade,) = broker.trades()
        assert (trade.broker_order_id, trade.symbol, trade.side) == (placed.broker_order_id, SYMBOL, Side.BUY)
        assert (trade.quantity, trade.price, trade.product) == (10, PRICE, Product.INTRADAY)
        assert trade.filled_at == only(broker, "B56").evidence.filled_at

    def test_b57_the_accounts_money_is_told_by_segment(self, venue: Venue) -> None:
        margins = {margin.segment: margin for margin in venue.broker().margins()}
        assert margins["equity"].available > 0

    def test_b58_what_settled_is_sellable_with_todays_trades_and_a_sale_of_it_counts_once(self, venue: Venue) -> None:
        broker = venue.broker()

        def sellable() -> int:
            (told,) = [each for each in broker.positions() if each.symbol == SYMBOL]
            assert (told.product, told.unread) == (Product.DELIVERY, "")
            return told.quantity

        def trade(tag: str, side: Side, quantity: int) -> None:
            order = replace(request(tag, side, quantity), product=Product.DELIVERY)
            assert broker.place(order, always).outcome is Outcome.ACCEPTED

        trade("B58A", Side.BUY, 10)
        assert sellable() == 10
        # On its way, then delivered.
        for _ in range(2):
            venue.control.night()
            assert sellable() == 10
        trade("B58B", Side.SELL, 4)
        assert sellable() == 6
        trade("B58C", Side.BUY, 5)
        assert sellable() == 11
        venue.control.night()
        assert sellable() == 11
        trade("B58D", Side.SELL, 11)
        assert sellable() == 0

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

    def test_b62_a_read_over_the_rate_is_tried_again_when_the_broker_said(self, venue: Venue) -> None:
        broker = venue.broker()
        broker.place(request("B62"), always)
        venue.control.fault("rate_limit", operation="orders", seconds=1.2)
        began = monotonic()
        assert len(broker.orders()) == 1
        assert monotonic() - began >= 1.2

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
