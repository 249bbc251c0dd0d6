"""Exits that ended short and whose trades cannot be read: settled by what book and positions have long agreed on.

Pure. Without it a broker that tells no trades keeps a position from being sold that all its other words prove.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from engine.domain.orders import Leg
from engine.domain.run import NetSeen, Run

#: How long book and positions must agree: as long as positions may lag behind a sale that the book does not tell.
AGREED_FOR = timedelta(seconds=15)


def settled_by_agreement(run: Run, untraded: Mapping[str, str], net: NetSeen | None, at: datetime) -> tuple[Run, str]:
    """`run`, whose orders `untraded` have no readable trades as its book is read at real time `at`, and why these wait.

    `net`: what the account has beside that book. "" where nothing waits. An entry waits on: buying has time.
    """
    waits = ""
    for order in run.orders:
        why = untraded.get(order.client_order_id, "")
        is_agreed = bool(why) and order.leg is Leg.EXIT and order.is_unsettled and net is not None and net.lacks == 0
        since = (order.agreed_since or at) if is_agreed else None
        is_settled = since is not None and at >= since + AGREED_FOR
        waits = waits or ("" if is_settled else why)
        run = run.with_order(replace(order, agreed_since=since, settled=order.settled or is_settled))
    return replace(run, dirty=run.dirty or bool(waits)), waits
