"""What the ledger says of a step, as JSON. The drainer reads it into the history."""

import orjson

from engine.domain.routing import Alert
from engine.domain.run import Run
from engine.ports import Note
from engine.runtime import codec


def as_json(value: object) -> str:
    """`value` as compact JSON."""
    return orjson.dumps(value).decode()


def record_body(before: Run, after: Run, note: Note) -> str:
    """The ledger record of one transition: the state after it, and the orders it changed."""
    known = {order.client_order_id: order for order in before.orders}
    changed = [order for order in after.orders if known.get(order.client_order_id) != order or note.kind == "armed"]
    orders = [codec.order_to_object(order) for order in changed]
    if note.stages and orders:
        orders[-1]["stages"] = dict(note.stages)
    return as_json(
        {
            "kind": note.kind,
            "event_id": note.event_id,
            "event_type": note.event_type,
            "outcome": note.outcome,
            "market_time": note.market_time.isoformat() if note.market_time else None,
            "state": {
                "status": after.status,
                "position": after.position,
                "exit_reason": after.exit_reason,
                "failure": after.failure,
            },
            "orders": orders,
            "alerts": [alert_object(alert) for alert in note.alerts],
        }
    )


def alert_object(alert: Alert) -> dict[str, str]:
    """An alert as records hold it."""
    return {"severity": alert.severity, "code": alert.code, "message": alert.message}
