"""Runs, strategies and orders as Redis hash fields, both ways. Times are epoch microseconds, money is text.

Knows no Redis command. A field that cannot be read is corrupt state, never a message's fault.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from engine.domain.broker import BookEntry
from engine.domain.orders import Evidence, Leg, Order, OrderStatus, OrderType, Product, Side
from engine.domain.recurrence import Recurrence
from engine.domain.run import ExitReason, Latch, NetSeen, Run, RunId, RunStatus
from engine.domain.strategy import AbortPolicy, StopMode, Strategy
from engine.ports import CorruptState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Fields = dict[str, str]

#: How many orders and strategies are kept as they were last read.
READ_BEFORE = 1024


def to_us(moment: datetime) -> int:
    """Epoch microseconds of an aware `moment`, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(value: str | int) -> datetime:
    """The aware UTC moment of epoch microseconds."""
    return _EPOCH + int(value) * _MICROSECOND


def _optional_us(moment: datetime | None) -> str:
    return "" if moment is None else str(to_us(moment))


def _optional_time(text: str | None) -> datetime | None:
    return from_us(text) if text else None


def _optional_iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _optional_from_iso(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def order_to_json(order: Order) -> str:
    """One order as a compact JSON object."""
    return orjson.dumps(order_to_object(order)).decode()


def order_to_object(order: Order) -> dict[str, Any]:
    """One order as JSON values: times ISO 8601, money text."""
    return {
        "client_order_id": order.client_order_id,
        "leg": order.leg,
        "side": order.side,
        "attempt": order.attempt,
        "quantity": order.quantity,
        "status": order.status,
        "send_by": order.send_by.isoformat(),
        "settles_at": order.settles_at.isoformat(),
        "broker_order_id": order.broker_order_id,
        "filled_quantity": order.filled_quantity,
        "average_price": str(order.average_price),
        "filled_at": _optional_iso(order.filled_at),
        "updated_at": _optional_iso(order.updated_at),
        "reason": order.reason,
        "given_up": order.given_up,
        "seen": order.seen,
        "unsent": order.unsent,
        "settled": order.settled,
        "agreed_since": _optional_iso(order.agreed_since),
        "repriced_at": _optional_iso(order.repriced_at),
        "limit_price": None if order.limit_price is None else str(order.limit_price),
        "limit_shown": None if order.limit_shown is None else str(order.limit_shown),
        "reprices": order.reprices,
        "quantity_shown": order.quantity_shown,
        "beyond": order.beyond,
        "cancels": order.cancels,
        "rest_alerted": order.rest_alerted,
        "double_alerted": order.double_alerted,
        "doubt_alerted": order.doubt_alerted,
        "refusal_alerted": order.refusal_alerted,
        "disputed_since": _optional_iso(order.disputed_since),
        "dispute_alerted": order.dispute_alerted,
        "unseen_since": _optional_iso(order.unseen_since),
        "session_ends": _optional_iso(order.session_ends),
        "granted_at": _optional_iso(order.granted_at),
    }


@lru_cache(maxsize=READ_BEFORE)
def order_from_json(text: str) -> Order:
    """The order a JSON object stands for; one that did not change since it was read is not built anew."""
    return order_from_object(orjson.loads(text))


def order_from_object(plain: Mapping[str, Any]) -> Order:
    """The order such JSON values stand for."""
    return Order(
        **{
            **plain,
            "leg": Leg(plain["leg"]),
            "side": Side(plain["side"]),
            "status": OrderStatus(plain["status"]),
            "send_by": datetime.fromisoformat(plain["send_by"]),
            "settles_at": datetime.fromisoformat(plain["settles_at"]),
            "average_price": Decimal(plain["average_price"]),
            "filled_at": _optional_from_iso(plain["filled_at"]),
            "updated_at": _optional_from_iso(plain["updated_at"]),
            # An order written before these were kept has none of them.
            "agreed_since": _optional_from_iso(plain.get("agreed_since")),
            "repriced_at": _optional_from_iso(plain.get("repriced_at")),
            "limit_price": Decimal(plain["limit_price"]) if plain.get("limit_price") else None,
            "limit_shown": Decimal(plain["limit_shown"]) if plain.get("limit_shown") else None,
            "unseen_since": _optional_from_iso(plain.get("unseen_since")),
            "disputed_since": _optional_from_iso(plain.get("disputed_since")),
            "session_ends": _optional_from_iso(plain.get("session_ends")),
            "granted_at": _optional_from_iso(plain.get("granted_at")),
        }
    )


def entries_to_json(entries: Iterable[BookEntry]) -> str:
    """Entries of an order book as JSON."""
    return orjson.dumps([[evidence_to_json(e.evidence), e.symbol, e.side, e.tag] for e in entries]).decode()


def entries_from_json(text: str) -> list[BookEntry]:
    """What `entries_to_json` wrote."""
    return [
        BookEntry(evidence_from_json(evidence), symbol, Side(side), tag)
        for evidence, symbol, side, tag in orjson.loads(text)
    ]


def evidence_to_json(evidence: Evidence) -> str:
    """One piece of evidence as JSON."""
    return orjson.dumps(
        {
            "id": evidence.client_order_id,
            "order": evidence.broker_order_id,
            "status": evidence.status,
            "quantity": evidence.quantity,
            "filled": evidence.filled_quantity,
            "average": str(evidence.average_price),
            "at": _optional_us(evidence.filled_at),
            "reason": evidence.reason,
            "limit": None if evidence.limit_price is None else str(evidence.limit_price),
        }
    ).decode()


def evidence_from_json(text: str) -> Evidence:
    """The evidence a JSON object stands for."""
    plain = orjson.loads(text)
    return Evidence(
        client_order_id=plain["id"],
        broker_order_id=plain["order"],
        status=OrderStatus(plain["status"]),
        quantity=plain["quantity"],
        filled_quantity=plain["filled"],
        average_price=Decimal(plain["average"]),
        filled_at=_optional_time(plain["at"]),
        reason=plain["reason"],
        # Evidence written before it was kept has none.
        limit_price=Decimal(plain["limit"]) if plain.get("limit") else None,
    )


def evidence_field(evidence: Evidence) -> str:
    """The hash field of a piece of evidence: a repeat falls on the same one."""
    return f"evidence:{evidence.client_order_id}:{evidence.status}:{evidence.filled_quantity}"


def strategy_to_fields(strategy: Strategy) -> Fields:
    """The `strategy:{id}` hash."""
    day, repeat = strategy.trading_date, strategy.repeat
    return {field.name: str(getattr(strategy, field.name)) for field in fields(strategy)} | {
        "trading_date": day.isoformat() if day else "",
        "repeat": repeat.name if repeat else "",
        "until": repeat.until.isoformat() if repeat and repeat.until else "",
    }


def strategy_from_fields(stored: Mapping[str, str]) -> Strategy:
    """The strategy a hash stands for; CorruptState where a field cannot be read."""
    try:
        return _strategy_from_items(tuple(stored.items()))
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise CorruptState(f"strategy:{stored.get('id', '?')}: {error!r}") from error


@lru_cache(maxsize=READ_BEFORE)
def _strategy_from_items(items: tuple[tuple[str, str], ...]) -> Strategy:
    stored = dict(items)
    return Strategy(
        id=int(stored["id"]),
        name=stored["name"],
        tenant=stored["tenant"],
        account_id=int(stored["account_id"]),
        symbol=stored["symbol"],
        quantity=int(stored["quantity"]),
        buy_time=time.fromisoformat(stored["buy_time"]),
        sell_time=time.fromisoformat(stored["sell_time"]),
        stop_loss=Decimal(stored["stop_loss"]),
        product=Product(stored["product"]),
        order_type=OrderType(stored["order_type"]),
        on_abort=AbortPolicy(stored["on_abort"]),
        trading_date=_optional_date(stored["trading_date"]),
        # A strategy written before there were recurring ones has neither field.
        repeat=Recurrence.named(stored["repeat"], _optional_date(stored["until"])) if stored.get("repeat") else None,
    )


def _optional_date(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def run_to_fields(run: Run) -> Fields:
    """The `runtime:{run}` hash but for the counters the scripts keep."""
    told = {name: text for part in _PARTS for name, text in part.tell(run).items() if text}
    return told | {_order_field(order): order_to_json(order) for order in run.orders}


def _order_field(order: Order) -> str:
    return f"order:{order.client_order_id}"


def _identity(run: Run) -> Fields:
    return {"run": str(run.id), "strategy_id": str(run.id.strategy_id)}


def _owner(run: Run) -> Fields:
    strategy = run.strategy
    return {"account_id": str(strategy.account_id), "tenant": strategy.tenant, "symbol": strategy.symbol}


def _latch_fields(run: Run) -> Fields:
    if run.latch is None:
        return {}
    return {
        "latch_price": str(run.latch.price),
        "latch_time": str(to_us(run.latch.exchange_time)),
        "latch_event": run.latch.event_id,
        "latch_seen_at": _optional_us(run.latch.seen_at),
        "latch_at": _optional_us(run.latch.latched_at),
    }


def _net_fields(run: Run) -> Fields:
    if run.net is None:
        return {}
    return {
        "net_quantity": str(run.net.quantity),
        "net_missing": str(run.net.missing),
        "net_at": str(to_us(run.net.at)),
    }


def _last_orders(run: Run) -> Fields:
    last = {"last_buy_order": run.last_order(Leg.ENTRY), "last_sell_order": run.last_order(Leg.EXIT)}
    return {name: order.broker_order_id if order else "" for name, order in last.items()}


class _Part(NamedTuple):
    """Some fields of a run's hash: what they are called, the attributes they are told from, and how."""

    fields: tuple[str, ...]
    attributes: tuple[str, ...]
    tell: Callable[[Run], Fields]
    #: Only scripts write it after the run was made: a commit must never put an older reading back.
    is_scripts: bool = False


def _alone(name: str, text: Callable[[Any], str]) -> _Part:
    """An attribute that is a field of its name."""
    read = attrgetter(name)
    return _Part((name,), (name,), lambda run: {name: text(read(run))})


_OPTIONAL_TIMES = (
    "entry_retry_at", "exit_retry_at", "book_asked_at", "book_read_at", "unread_since", "uncovered_since",
    "session_told", "unproven_since", "cover_awaited_since",
)  # fmt: skip
_LATCH_FIELDS = ("latch_price", "latch_time", "latch_event", "latch_seen_at", "latch_at")

#: What a run's hash is made of but for its orders.
_PARTS: tuple[_Part, ...] = (
    _Part(("run", "strategy_id"), ("id",), _identity),
    _Part(("account_id", "tenant", "symbol"), ("strategy",), _owner),
    *(_alone(name, lambda at: str(to_us(at))) for name in ("buy_at", "sell_at", "closes_at")),
    *(_alone(name, lambda value: str(value or "")) for name in ("status", "exit_reason", "failure", "stop_requested")),
    *(_alone(name, str) for name in ("stop_units", "abort_requested", "absent")),
    *(_alone(name, lambda units: str(units or "")) for name in ("closed_elsewhere", "uncovered", "uncovered_told")),
    # The number of the signal that said so, or 0 where the run itself did.
    _alone("dirty", lambda is_so: "0" if is_so else ""),
    *(_alone(name, lambda is_so: "1" if is_so else "") for name in ("unread", "unread_alerted", "cover_awaited_told")),
    *(_alone(name, _optional_us) for name in _OPTIONAL_TIMES),
    _Part(_LATCH_FIELDS, ("latch",), _latch_fields, is_scripts=True),
    # Told with every reading of the run, from what its account has; stored in no run.
    _Part(("net_quantity", "net_missing", "net_at"), ("net",), _net_fields, is_scripts=True),
    # What a human stated is written by a signal; the end it leads to says so in `failure`.
    _Part(("position",), ("orders", "exit_reason", "failure"), lambda run: {"position": str(run.position)}),
    _Part(("last_buy_order", "last_sell_order"), ("orders",), _last_orders),
)

#: Fields a commit leaves alone.
SCRIPT_OWNED = frozenset(name for part in _PARTS if part.is_scripts for name in part.fields)

_ATTRIBUTES = tuple(field.name for field in fields(Run))
#: The parts a commit may write, by each attribute they are told from.
_WRITTEN = {name: [part for part in _PARTS if name in part.attributes and not part.is_scripts] for name in _ATTRIBUTES}


def run_from_fields(stored: Mapping[str, str], strategy: Strategy) -> Run:
    """The run a hash stands for; CorruptState where a field cannot be read."""
    try:
        return _run_from_fields(stored, strategy)
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise CorruptState(f"runtime:{stored.get('run', '?')}: {error!r}") from error


def _run_from_fields(stored: Mapping[str, str], strategy: Strategy) -> Run:
    orders = [order_from_json(text) for name, text in stored.items() if name.startswith("order:")]
    return Run(
        id=RunId.parse(stored["run"]),
        strategy=strategy,
        buy_at=from_us(stored["buy_at"]),
        sell_at=from_us(stored["sell_at"]),
        closes_at=from_us(stored["closes_at"]),
        stop_units=int(stored["stop_units"]),
        status=RunStatus(stored["status"]),
        exit_reason=ExitReason(stored["exit_reason"]) if stored.get("exit_reason") else None,
        failure=stored.get("failure", ""),
        latch=_latch(stored),
        stop_requested=StopMode(stored["stop_requested"]) if stored.get("stop_requested") else None,
        abort_requested=stored.get("abort_requested", ""),
        absent=stored.get("absent", ""),
        closed_elsewhere=int(stored.get("closed_elsewhere") or 0),
        orders=tuple(sorted(orders, key=lambda order: (order.leg, order.attempt))),
        dirty=bool(stored.get("dirty")),
        unread=bool(stored.get("unread")),
        unread_alerted=bool(stored.get("unread_alerted")),
        cover_awaited_told=bool(stored.get("cover_awaited_told")),
        uncovered=int(stored.get("uncovered") or 0),
        uncovered_told=int(stored.get("uncovered_told") or 0),
        net=_net(stored),
        **{name: _optional_time(stored.get(name)) for name in _OPTIONAL_TIMES},
    )


def _net(stored: Mapping[str, str]) -> NetSeen | None:
    if not stored.get("net_at"):
        return None
    missing = int(stored.get("net_missing", "0"))
    return NetSeen(int(stored["net_quantity"]), from_us(stored["net_at"]), missing)


def _latch(stored: Mapping[str, str]) -> Latch | None:
    if not stored.get("latch_time"):
        return None
    return Latch(
        price=int(stored["latch_price"]),
        exchange_time=from_us(stored["latch_time"]),
        event_id=stored["latch_event"],
        seen_at=_optional_time(stored.get("latch_seen_at")),
        latched_at=_optional_time(stored.get("latch_at")),
    )


def changes(before: Run, after: Run, consumed: tuple[str, ...] = ()) -> dict[str, Any]:
    """{"set": ..., "del": ...} that turn `before`'s fields into `after`'s and drop the `consumed` evidence fields."""
    written: Fields = {}
    dropped = [*consumed]
    # What both share is the same in both: only the rest is told.
    for name in _ATTRIBUTES:
        if getattr(before, name) is not getattr(after, name):
            for part in _WRITTEN[name]:
                told = part.tell(after)
                written |= {field: text for field, text in told.items() if text}
                dropped += [field for field in part.fields if not told.get(field)]
    if before.orders is not after.orders:
        known = {order.client_order_id: order for order in before.orders}
        written |= {
            _order_field(each): order_to_json(each)
            for each in after.orders
            if known.pop(each.client_order_id, None) != each
        }
        dropped += map(_order_field, known.values())
    return {"set": written, "del": dropped}
