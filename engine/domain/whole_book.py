"""Whether a reading of an account's book is a whole one: within a day a broker's book only grows. Pure."""

from collections.abc import Collection
from datetime import timedelta

from engine.domain.moment import Moment
from engine.domain.orders import TERMINAL, Order
from engine.domain.run import Run

#: How long an order that was shown must be lacking in otherwise whole books before it is taken for gone.
SHOWN_GRACE = timedelta(seconds=60)


def why_not_whole(run: Run, shown: Collection[str], now: Moment) -> str:
    """Why a book that shows of `run` only the orders `shown` cannot be a whole one, "" where it may be.

    It lacks one that had ended, or several. Of an ended session a book need show none.
    """
    lost = [order for order in run.orders if _was_shown_today(order, now) and order.client_order_id not in shown]
    if len(lost) > 1 or any(order.status in TERMINAL for order in lost):
        return f"its book lacks {', '.join(order.broker_order_id for order in lost)}, which it has shown before"
    return ""


def _was_shown_today(order: Order, now: Moment) -> bool:
    return order.seen and order.session_ends is not None and now.market <= order.session_ends
