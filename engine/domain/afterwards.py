"""What a broker tells of an order once its run has ended: whether that is news, and what a human must do about it."""

from engine.domain.broker import BookEntry
from engine.domain.orders import TERMINAL, Evidence, Order
from engine.domain.routing import Alert
from engine.domain.run import RunId


def is_beyond(known: Order | None, told: Evidence) -> bool:
    """Whether `told` says more than its run knew of the order, None: nothing, when it ended.

    A fill more is a position nobody watches, or a short; so may one become that stands at the broker all the same, and
    so is what fills of another order under the same id.
    """
    may_fill = told.status not in TERMINAL
    if known is None or (known.broker_order_id and known.broker_order_id != told.broker_order_id):
        return told.filled_quantity > 0 or may_fill
    may_stand = known.given_up or known.is_refused_unseen
    return told.filled_quantity > known.filled_quantity or (may_fill and may_stand)


def alert_of(run_id: RunId, entry: BookEntry) -> Alert:
    """What a human must know of it."""
    told = entry.evidence
    what = f"{entry.side} order {told.client_order_id} ({entry.symbol}) is {told.status}, {told.filled_quantity} filled"
    message = (
        f"{what}, but run {run_id} has ended and nobody watches it: the account may hold it without a stop, or be "
        "short; look at the broker's app, and close what is too much there"
    )
    return Alert("critical", "fill_after_end", message)
