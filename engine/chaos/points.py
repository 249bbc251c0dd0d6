"""Every point a process can be killed or stopped at: one before and one after each I/O boundary. Knows no process."""

from collections.abc import Mapping, Sequence

BEFORE, AFTER = "before", "after"

#: Port -> its methods that touch the world. `tests/unit/test_chaos_points.py` holds it against the protocols.
METHODS: Mapping[str, Sequence[str]] = {
    "store": (
        "claim",
        "glance",
        "extend",
        "intend",
        "commit",
        "signal",
        "tell",
        "account_of",
        "on_tick",
        "sweep",
        "arm",
        "prolong",
        "note",
        "pool_mark",
        "cover",
        "read_book",
        "tell_book",
        "alert",
        "alert_once",
        "dead_letter",
        "unreadable",
        "heard",
        "account",
        "write_account",
        "forget_runs",
        "remains",
        "follow",
    ),
    # After `place`: the broker has accepted, and nothing of it is committed.
    "broker": (
        "place",
        "modify",
        "cancel",
        "orders",
        "orders_by_client_id",
        "trades_of",
        "positions",
        "instruments",
        "quote",
        "account_id",
        "warm",
        "close",
    ),
    "publisher": ("publish",),
    "timers": ("schedule", "cancel"),
    "durable": ("epoch", "advance_epoch", "accounts", "unarmed", "missed", "create_runs", "open_runs", "drain"),
    "epoch": ("stored", "run_id", "open"),
    "drainer": ("read", "apply", "trim"),
    "buckets": ("take", "publish", "forget"),
    "listener": ("on_frame",),
    "orderstream": ("on_update",),
}


def around(port: str, method: str) -> tuple[str, str]:
    """The points before and after one method."""
    return f"{port}.{method}.{BEFORE}", f"{port}.{method}.{AFTER}"


#: Every point there is.
POINTS: tuple[str, ...] = tuple(
    point for port, methods in METHODS.items() for method in methods for point in around(port, method)
)
