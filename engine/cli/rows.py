"""Strategies, runs and orders as rows of plain values, for tables and JSON alike. Knows no storage."""

from datetime import date

from engine.admission import Admitted
from engine.domain.orders import Order
from engine.domain.run import Run, RunStatus
from engine.domain.strategy import Strategy

Row = dict[str, object]

ADDED = ("tenant", "name", "symbol", "quantity", "trades_on", "buy_time", "sell_time", "stop_loss")
STATE = ("status", "position", "exit_reason")
LISTED = ("tenant", "name", "symbol", "quantity", "buy_time", "sell_time", "stop_loss", "repeat", "next_date", *STATE)
#: A run's columns in a table of a strategy's runs; JSON has more.
RUN = ("run", *STATE, "failure")


def added_row(admitted: Admitted) -> Row:
    """A strategy just stored."""
    return _strategy_row(admitted.strategy) | {"trades_on": admitted.trades_on, "warning": admitted.warning}


def listed_row(strategy: Strategy, status: RunStatus | None, newest: Run | None, next_date: date | None) -> Row:
    """A strategy with what its newest run, if it has one, became, and the date of the run it gets next."""
    return _strategy_row(strategy) | {
        "next_date": next_date,
        "status": newest.status.value if newest is not None else status,
        "position": newest.position.value if newest is not None else "none",
        "exit_reason": newest.exit_reason.value if newest is not None and newest.exit_reason else None,
    }


def run_row(run: Run, live: Run | None) -> Row:
    """A run as the history has it, or as it lives while it does."""
    known = live or run
    return {
        "run": str(run.id),
        "live": live is not None,
        "status": known.status.value,
        "position": known.position.value,
        "held": known.held,
        "exit_reason": known.exit_reason.value if known.exit_reason else None,
        "failure": known.failure,
        "stop_requested": known.stop_requested.value if known.stop_requested else None,
        "latched": known.latch is not None,
        "buy_at": known.buy_at.isoformat(),
        "sell_at": known.sell_at.isoformat(),
        "orders": [order_row(order) for order in known.orders],
    }


def order_row(order: Order) -> Row:
    """One attempt of one leg."""
    return {
        "client_order_id": order.client_order_id,
        "broker_order_id": order.broker_order_id,
        "leg": order.leg.value,
        "attempt": order.attempt,
        "side": order.side.value,
        "quantity": order.quantity,
        "filled_quantity": order.filled_quantity,
        "average_price": f"{order.average_price:f}",
        "status": order.status.value,
        "filled_at": order.filled_at.isoformat() if order.filled_at else None,
        "given_up": order.given_up,
        "reason": order.reason,
    }


def _strategy_row(strategy: Strategy) -> Row:
    return {
        "id": strategy.id,
        "tenant": strategy.tenant,
        "name": strategy.name,
        "symbol": strategy.symbol,
        "quantity": strategy.quantity,
        "buy_time": strategy.buy_time.isoformat(),
        "sell_time": strategy.sell_time.isoformat(),
        "stop_loss": f"{strategy.stop_loss:f}",
        "trading_date": strategy.trading_date,
        "repeat": strategy.repeat.name if strategy.repeat else None,
        "until": strategy.repeat.until if strategy.repeat else None,
        "product": strategy.product.value,
        "order_type": strategy.order_type.value,
        "on_abort": strategy.on_abort.value,
    }
