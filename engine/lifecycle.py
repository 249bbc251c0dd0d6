"""The life of a run between two commits: evidence absorbed, abort, STOP. Pure but for the timers it cancels.

The ten steps are in `engine.pipeline`; what to do next is `engine.domain.decision`.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from engine.domain.account_positions import is_squared_off
from engine.domain.broker import BookEntry
from engine.domain.exits import is_exit_due
from engine.domain.moment import Moment
from engine.domain.orders import (
    SEND_WITHIN,
    TERMINAL,
    Evidence,
    Leg,
    Order,
    OrderStatus,
    OrderTrigger,
    followed,
    is_behind,
)
from engine.domain.routing import Alert, apply_ends
from engine.domain.run import (
    CLOSED_ELSEWHERE,
    EXIT_TROUBLES,
    NOT_COVERED,
    PASSING_TROUBLES,
    SESSION_OVER,
    SIDE_OF,
    ExitReason,
    Run,
    RunStatus,
    client_order_id,
    parse_client_order_id,
)
from engine.domain.watch import RESTS_TOO_LONG
from engine.domain.whole_book import SHOWN_GRACE

#: A wait for the account's rate that is worth telling of.
LONG_WAIT = timedelta(seconds=5)
#: How often an order is asked to be canceled and rests on before a human is alerted.
CANCELS_IN_VAIN = 2
#: How long a book that is needed may be unreadable before a human is alerted.
UNREAD_FOR = timedelta(seconds=60)
#: The same where an exit is due and waits for it.
EXIT_WAITS_FOR = timedelta(seconds=1)
#: How far apart two readings must be that lack what a run holds, before a human is alerted.
CONFIRMED_AFTER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A run after evidence, what to tell a human, and whether this was its first fill."""

    run: Run
    alerts: tuple[Alert, ...] = ()
    is_first_fill: bool = False


def absorb(run: Run, evidence: Iterable[Evidence], at: datetime, *, by_book: bool = False) -> Absorbed:
    """`run` after `evidence`, learned at real time `at`: fills move the position, ends lead to the next attempt.

    `by_book`: it comes from the whole book, which has the last word on which orders stand under an id.
    """
    after, known = run, {order.client_order_id: order for order in run.orders}
    for item in evidence:
        order = known.get(item.client_order_id)
        if order is None or not (by_book or _is_alone(order, item)):
            # An attempt we do not know of, or one of several orders under its id: only the whole book tells.
            after = replace(after, dirty=True, unread=True)
            continue
        if by_book:
            is_replaced = order.attempt < run.attempts(order.leg)
            after = after.with_order(followed(order, item, at, is_replaced=is_replaced))
        after = after.absorb(item, at)
        if is_behind(item) and not by_book:
            after = replace(after, dirty=True)
    if after == run:
        return Absorbed(run)
    stated, corrected = _corrected(after)
    routed = apply_ends(run, _relieved(run, stated), at)
    alerts = (*routed.alerts, *corrected, *_excess(run, stated), *_appeared(run, after), *_bought_late(run, after))
    return Absorbed(routed.run, alerts, run.filled(Leg.ENTRY) == 0 < after.filled(Leg.ENTRY))


def _corrected(run: Run) -> tuple[Run, tuple[Alert, ...]]:
    """`run` without what was stated to be closed elsewhere and its own exits turn out to have sold."""
    twice = min(run.closed_elsewhere, -run.held)
    if twice <= 0:
        return run, ()
    message = (
        f"its own exits sold {twice} of what was stated to be closed elsewhere: where both sold, the account is short "
        f"of {run.strategy.symbol}; look at its positions"
    )
    corrected = replace(run, closed_elsewhere=run.closed_elsewhere - twice)
    return corrected, (Alert("critical", "closed_and_sold", message),)


def _is_alone(order: Order, item: Evidence) -> bool:
    """Whether `item` tells of `order` and no other stands under its id."""
    return order.broker_order_id in ("", item.broker_order_id) and not order.double_alerted


def _relieved(before: Run, after: Run) -> Run:
    """`after`, whose exits are in trouble no more where one of them has filled: the next trouble is told of anew."""
    filled = {order.client_order_id for order in before.orders if order.status is OrderStatus.FILLED}
    has_sold = any(
        order.leg is Leg.EXIT and order.status is OrderStatus.FILLED and order.client_order_id not in filled
        for order in after.orders
    )
    if not has_sold or after.held <= 0 or after.failure not in PASSING_TROUBLES:
        return after
    return replace(after, status=RunStatus.ACTIVE, failure="")


def _excess(before: Run, after: Run) -> Iterator[Alert]:
    """What a human must know where more filled than was wanted, by whichever of the orders."""
    bought, wanted = after.filled(Leg.ENTRY), after.strategy.quantity
    if bought > max(before.filled(Leg.ENTRY), wanted):
        yield Alert("critical", "overfilled", f"bought {bought} of {wanted}: what is too much is sold at once")
    if after.held < min(before.held, 0):
        yield Alert("critical", "oversold", f"sold {-after.held} more than bought: the account may be short")


def _bought_late(before: Run, after: Run) -> Iterator[Alert]:
    """That a run holds what its abort did not know of: who was told "nothing held" must hear what became of it."""
    is_aborted = before.status is RunStatus.FAILED and before.failure not in EXIT_TROUBLES
    if is_aborted and before.filled(Leg.ENTRY) == 0 < after.filled(Leg.ENTRY):
        message = f"bought {after.filled(Leg.ENTRY)} after the run was aborted: policy {after.strategy.on_abort}"
        yield Alert("critical", "bought_after_abort", message)


def _appeared(before: Run, after: Run) -> Iterator[Alert]:
    """Attempts that were given up and turn up at the broker all the same."""
    unseen = {order.client_order_id for order in before.orders if order.given_up and not order.seen}
    for order in after.orders:
        if order.client_order_id in unseen and order.seen:
            message = f"{order.client_order_id} appeared after it was given up: {order.status} {order.filled_quantity}"
            yield Alert("critical", "given_up_appeared", message)


def evidence_of(book: Iterable[BookEntry], run: Run) -> list[Evidence]:
    """What an order book proves of `run`'s orders; of two orders under one id, all of it together."""
    return [_combined([*found.values()]) for found in _by_id(book, run).values()]


def told_of_doubles(book: Iterable[BookEntry], run: Run) -> tuple[Run, tuple[Alert, ...]]:
    """`run` and the alerts that a book shows two orders under one id of its; once an id."""
    alerts: list[Alert] = []
    for tag, found in _by_id(book, run).items():
        order = next(order for order in run.orders if order.client_order_id == tag)
        if len(found) > 1 and not order.double_alerted:
            message = f"orders {', '.join(found)} at the broker under one id, {tag}"
            alerts.append(Alert("critical", "double_order", message))
            run = run.with_order(replace(order, double_alerted=True))
    return run, tuple(alerts)


def _by_id(book: Iterable[BookEntry], run: Run) -> dict[str, dict[str, Evidence]]:
    ours = {order.client_order_id for order in run.orders}
    by_id: dict[str, dict[str, Evidence]] = {}
    for entry in book:
        if entry.tag in ours:
            by_id.setdefault(entry.tag, {})[entry.evidence.broker_order_id] = entry.evidence
    return by_id


def _combined(found: list[Evidence]) -> Evidence:
    """One statement of several orders under one id: all that filled is held, and one that may still fill is told of."""
    told = max(found, key=lambda item: (item.status not in TERMINAL, item.filled_quantity))
    filled = sum(item.filled_quantity for item in found)
    may_fill = sum(item.quantity - item.filled_quantity for item in found if item.status not in TERMINAL)
    return replace(told, filled_quantity=filled, beyond=max(0, may_fill - max(0, told.quantity - filled)))


def after_book(
    run: Run, evidence: Collection[Evidence], now: Moment, grace: timedelta, untraded: Collection[str] = ()
) -> Absorbed:
    """`run` after its account's whole book was read at `now`, which showed `evidence` of its orders and no other.

    The trades of those `untraded` could not be read: they stay unsettled.
    """
    learned = absorb(run, evidence, now.real, by_book=True)
    after = _absent(learned.run, {item.client_order_id for item in evidence}, now, grace, untraded)
    routed = apply_ends(learned.run, after, now.real)
    read = replace(routed.run, dirty=False, unread=False, unread_since=None, unread_alerted=False)
    read = replace(read, book_asked_at=now.real, book_read_at=now.real)
    return replace(learned, run=read, alerts=(*learned.alerts, *routed.alerts))


def _absent(run: Run, shown: Collection[str], now: Moment, grace: timedelta, untraded: Collection[str]) -> Run:
    """`run` after a reading of the whole book that showed the orders `shown`; what it lacks has changed by that.

    One of an ended session has expired. One that was shown before is in doubt again, for much longer than `grace`: a
    book may lag. One that only an answer called refused, or that had ended, is settled.
    """
    for order in run.orders:
        is_told = order.client_order_id not in untraded
        if order.is_unsettled and is_told and now.real >= run.settles_from(order):
            run = run.with_order(replace(order, settled=True))
        if order.client_order_id in shown or order.status in TERMINAL:
            continue
        # One that was sent as its session ended may yet appear.
        is_over = order.session_ends is not None and now.market > order.session_ends
        if is_over and now.real >= order.settles_at:
            expired = order.on(OrderTrigger.EXPIRE, now.real, "its session ended and the book lacks it")
            run = run.with_order(replace(expired, settled=True))
        elif order.seen:
            settles_at = max(order.settles_at, now.real + max(grace, SHOWN_GRACE))
            run = run.with_order(replace(order, seen=False, unseen_since=now.real, settles_at=settles_at))
    return run


#: How `Run.failure` begins while an entry is denied.
DENIED = "denied: "


def denied(run: Run, order: Order, why: str) -> Run:
    """`run` whose `order` the engine itself refused; an entry's reason is kept for when its time has passed."""
    return run if order.leg is Leg.EXIT else replace(run, failure=f"{DENIED}{why}")


def granted(run: Run, order: Order, exit_reason: ExitReason | None) -> Run:
    """`run` once `order` is granted: it waits for nothing any more, and what denied an earlier one is forgotten."""
    after = replaced(run, order.leg).with_order(order).pausing(order.leg, None).awaiting_cover(None)
    failure = "" if run.failure.startswith(DENIED) else run.failure
    return replace(after, exit_reason=exit_reason or run.exit_reason, failure=failure, unproven_since=None)


def denied_alert(order: Order, why: str, wait: timedelta) -> tuple[Alert, ...]:
    """What to tell a human of an order that is held back for long."""
    if wait < LONG_WAIT:
        return ()
    severity, code, what = ("warning", "entry_denied", "an entry")
    if order.leg is Leg.EXIT:
        severity, code, what = ("critical", "exit_denied", "an exit")
    return (Alert(severity, code, f"{what} waits {wait.total_seconds():.0f} s: {why}"),)


def book_unread(run: Run, now: Moment, reason: str, asked_at: datetime) -> tuple[Run, tuple[Alert, ...]]:
    """`run` after its broker's book could not be read, and the alert where that has lasted too long; once.

    `asked_at`: when it was asked, real time; an answer that took its time was waited for all the while.
    """
    asked = replace(run, book_asked_at=now.real, unread_since=run.unread_since or asked_at)
    may_hold = run.held > 0 or run.live(Leg.ENTRY) is not None
    exit_waits = may_hold and run.live(Leg.EXIT) is None and is_exit_due(run, now)
    limit = EXIT_WAITS_FOR if exit_waits else UNREAD_FOR
    if run.unread_alerted or asked.unread_since is None or now.real < asked.unread_since + limit:
        return asked, ()
    what = "this run's orders stay in doubt"
    if exit_waits:
        what = f"an exit of {run.held} waits" if run.held > 0 else "what its entry bought cannot be sold"
    since = f"{asked.unread_since:%H:%M:%S} UTC"
    message = f"the broker's book or positions cannot be read since {since} ({reason}): {what} until they can"
    return replace(asked, unread_alerted=True), (Alert("critical", "book_unreadable", message),)


def positions_unread(
    before: Run, read: Run, now: Moment, reason: str, asked_at: datetime
) -> tuple[Run, tuple[Alert, ...]]:
    """`read`, whose orders the book told of and whose account's positions could not be read; `before`: not read yet."""
    known = replace(read, unread_since=before.unread_since, unread_alerted=before.unread_alerted)
    return book_unread(known, now, reason, asked_at)


def told_that_it_rests(run: Run, order: Order, why: str) -> tuple[Order, tuple[Alert, ...]]:
    """`order`, an exit of `run` that is priced anew for `why`, and the alert that nobody takes it; once a session."""
    is_told = any(each.rest_alerted for each in run.orders if each.session_ends == order.session_ends)
    if why != RESTS_TOO_LONG or is_told:
        return order, ()
    left = order.may_fill
    message = (
        f"an exit of {left} rests since {order.send_by:%H:%M:%S} UTC and nobody takes it: it keeps its place in the "
        "queue, at the day's lowest price, or is canceled and sent again where no quote that can be read names that "
        "price, where the market has fallen below it, or where the order cannot be changed"
    )
    return replace(order, rest_alerted=True), (Alert("critical", "exit_rests", message),)


def told_that_it_stays(run: Run, order: Order, answer: str) -> tuple[Alert, ...]:
    """The alert that `order`, asked to be canceled once more, does not go; once, by how often it was asked.

    `answer`: what its broker said this time.
    """
    if order.cancels != CANCELS_IN_VAIN + 1:
        return ()
    left = order.may_fill
    message = (
        f"an {order.leg} of {left} of {run.strategy.symbol}, order {order.client_order_id}, {order.broker_order_id} at "
        f"the broker, was asked to be canceled {CANCELS_IN_VAIN} times and rests on ({answer}): cancel it in the "
        "broker's app, before it fills; it is asked again meanwhile"
    )
    return (Alert("critical", "cancel_in_vain", message),)


def check_cover(run: Run) -> tuple[Run, tuple[Alert, ...]]:
    """`run` after a reading of its account, flagged where two readings lack what the account's runs hold.

    One reading proves nothing: positions lag behind fills, and are empty for a while after a broker's restart. What
    it bought a moment ago they may lack for longer. What the account has is sold all the same; the flag goes once it
    has everything again. Where it comes to lack more than was told, that is told as well.
    """
    if run.net is None or run.held <= 0 or run.net.missing == 0:
        healed = replace(run, uncovered=0, uncovered_since=None, uncovered_told=0)
        return (
            (replace(healed, status=RunStatus.ACTIVE, failure=""), ()) if run.failure == NOT_COVERED else (healed, ())
        )
    missing = run.net.missing
    is_waiting = run.uncovered > run.uncovered_told
    seen = replace(run, uncovered=missing, uncovered_told=min(run.uncovered_told, missing))
    if run.uncovered_since is None or (missing > run.uncovered and not is_waiting):
        return replace(seen, uncovered_since=run.net.at), ()
    if is_squared_off(run):
        return _squared_off(run)
    if missing <= run.uncovered_told or run.net.at < run.uncovered_since + CONFIRMED_AFTER:
        return seen, ()
    symbol, product = run.strategy.symbol, run.strategy.product
    message = (
        f"the account has {missing} of {symbol} ({product}) less than its runs hold, this one {run.held}: sold "
        "by somebody else? What it has is sold when an exit is due, and no more; `engine strategy resolve` ends the run"
    )
    flagged = seen if run.status is RunStatus.FAILED else replace(seen, status=RunStatus.FAILED, failure=NOT_COVERED)
    return replace(flagged, uncovered_told=missing), (Alert("critical", NOT_COVERED, message),)


def _squared_off(run: Run) -> tuple[Run, tuple[Alert, ...]]:
    """`run`, whose broker has closed overnight what it held; it ends as one that a human says was closed elsewhere."""
    message = (
        f"{run.held} of {run.strategy.symbol} (intraday) are left of an earlier session, and the account has none: its "
        "broker closed them, or made them delivery. The run ends; look at the account's holdings and trades"
    )
    closed = replace(run, closed_elsewhere=run.closed_elsewhere + run.held, uncovered=0, uncovered_since=None)
    return replace(closed, uncovered_told=0), (Alert("warning", "squared_off", message),)


def await_cover(run: Run, now: Moment) -> Run:
    """`run` after a reading of its account, which says whether there is anything for its exit to sell."""
    # An exit whose end is not settled is no other's sale: what it may have filled is asked for.
    asked_for = sum(each.may_fill for each in run.unsettled if each.leg is Leg.EXIT)
    has = run.net.quantity + asked_for if run.net is not None else 1
    is_without = has <= 0 < run.held and run.live(Leg.EXIT) is None
    return run.awaiting_cover(now.real if is_without and is_exit_due(run, now) else None)


def next_order(run: Run, leg: Leg, quantity: int, deployment: str, now: Moment, settles_after: timedelta) -> Order:
    """The next attempt of `leg`, granted `now`; should it stay in doubt, a book read `settles_after` settles it."""
    attempt, send_by = run.attempts(leg) + 1, now.real + SEND_WITHIN
    return Order(
        client_order_id=client_order_id(deployment, run.id, leg, attempt),
        leg=leg,
        side=SIDE_OF[leg],
        attempt=attempt,
        quantity=quantity,
        status=OrderStatus.SENDING,
        send_by=send_by,
        settles_at=send_by + settles_after,
        session_ends=run.closes_at,
        granted_at=now.market,
    )


def replaced(run: Run, leg: Leg) -> Run:
    """`run` before its next attempt of `leg`: one that only an answer called refused must not live on beside it."""
    for order in run.orders:
        if order.leg is leg and order.is_refused_unseen:
            run = run.with_order(replace(order, given_up=True))
    return run


def abort(run: Run, reason: str) -> tuple[Run, tuple[Alert, ...]]:
    """`run` after SAFETY_ABORT: failed, its entry blocked; the position is left to the strategy's policy."""
    kept = f" still holding {run.held}: policy {run.strategy.on_abort}" if run.held > 0 else ""
    alert = Alert("critical", "safety_abort", f"{reason};{kept or ' nothing held'}")
    told = run.closes_at if reason == SESSION_OVER else run.session_told
    failed = replace(run, status=RunStatus.FAILED, failure=reason, abort_requested="", session_told=told)
    return failed, (alert,)


def finish(run: Run, status: RunStatus, reason: str, at: datetime) -> tuple[Run, tuple[Alert, ...]]:
    """`run` after STOP with `status` at real time `at`; what a human must know of it."""
    for order in run.watched:
        run = run.with_order(replace(order.on(OrderTrigger.EXPIRE, at, "not watched any more"), settled=True))
    why = f"{reason} ({run.failure})" if run.failure and reason != CLOSED_ELSEWHERE else reason
    is_said = status is RunStatus.MISSED or reason == CLOSED_ELSEWHERE
    ended = replace(run, status=status, failure=why if is_said else run.failure)
    if status is RunStatus.MISSED:
        return ended, (Alert("warning", "missed", f"not bought: {why}"),)
    if run.held > 0:
        return ended, (Alert("critical", "position_left", f"stopped holding {run.held}, as asked"),)
    return ended, ()


def adopt(run: Run, book: Iterable[BookEntry], deployment: str, at: datetime) -> Run:
    """`run` with the orders of `book` that carry its ids and that it does not know: only ids we can recompute."""
    known = {order.client_order_id for order in run.orders}
    for entry in book:
        ours = parse_client_order_id(deployment, entry.tag)
        if ours is None or ours[0] != run.id or entry.tag in known:
            continue
        _, leg, attempt = ours
        order = Order(
            client_order_id=entry.tag,
            leg=leg,
            side=SIDE_OF[leg],
            attempt=attempt,
            quantity=entry.evidence.quantity,
            status=OrderStatus.UNKNOWN,
            send_by=at,
            settles_at=at,
            broker_order_id=entry.evidence.broker_order_id,
            session_ends=run.closes_at,
        )
        run, known = run.with_order(order), known | {entry.tag}
    return run
