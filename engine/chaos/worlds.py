"""Rows of the fault table for the world as it is: what brokers, owners, servers and nights do beside failing."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from engine.chaos import refusals, world
from engine.chaos.courses import Put, broker
from engine.chaos.fault import ANYTHING, Fault, Sharing, When
from engine.chaos.trial import QUANTITY, Style
from engine.domain.orders import Product

_E, _H, _X, _S = (When.ENTRY,), (When.HOLDING,), (When.EXIT,), (When.START,)
_ANY_TIME = (When.ENTRY, When.HOLDING, When.EXIT)
_STOP, _SALE = Style.STOP_LOSS, Style.SCHEDULE
#: Seconds strategies are held longer that may still have to be bought when their world is well again.
_LONGER = 14.0
#: How long what is read lies, and for how long a book cannot be read, seconds.
_LIES, _UNREADABLE = 8.0, 25.0
#: How often a dump is sick, and how long after it their readers' restart strategies buy, seconds.
_READINGS, _READ_ANEW = 3, 15.0
#: Runs of one account whose login is dead, or which hang with it.
MANY = 10


def _row(name: str, put: Put, whens: Sequence[When], *styles: Style, **more: Any) -> Fault:
    return Fault(name, more.pop("family", name), put, whens, styles=styles, **more)


def _script(kind: str, *operations: str, **words: Any) -> list[dict[str, Any]]:
    return [{"kind": kind, "operation": operation, **words} for operation in operations]


def _lies(name: str, kind: str, whens: Sequence[When], *operations: str, **words: Any) -> Fault:
    put = world.faults(*_script(kind, *operations, **words), lasts=_LIES)
    return _row(name, put, whens, _STOP, _SALE, family=name.removesuffix(f": {kind}"))


def _dump(name: str, kind: str) -> Fault:
    return _row(name, world.instruments(kind, _READINGS), _S, _STOP, _SALE, ahead=_READ_ANEW, hold=_LONGER)


_refuses = {kind: refusals.redis_refuses(kind) for kind in ("OOM", "READONLY")}
_away = refusals.dip_during(refusals.redis_away)
_no_book = _script("bad_gateway", "orders", "history", "trades")

FEEDS: tuple[Fault, ...] = (
    _row("feed: the logins that carry it dead", world.carriers_dead, _H, *[_STOP] * 4, hold=4.0),
    _row("feed: its ticker connections taken", world.carriers_crowded_out, _H, _STOP, _STOP, hold=4.0),
    _row("feed: no login left", world.all_logins_dead, _H, _STOP, _STOP, told=frozenset({"blind"})),
    _row("price: a trade older than the entry", world.old_trade, _H, _STOP, _STOP, hold=4.0),
    _row("price: below the stop at the buy", world.mistyped, _S, Style.MISTYPED, told=ANYTHING, buys=False),
    _dump("instruments: header only", "header_only"),
    _dump("instruments: a part of the dump", "partial"),
    _row("instruments: tokens changed over night", world.retokened, _S, _STOP, _SALE, ahead=_READ_ANEW, hold=_LONGER),
    _row("instruments: a symbol renamed", world.renamed, _S, _SALE, told=ANYTHING, buys=False, ahead=_READ_ANEW),
)  # fmt: skip

SERVERS: tuple[Fault, ...] = (
    *(Fault(f"Redis refuses: {kind}", "Redis refuses", put, _ANY_TIME, hold=_LONGER) for kind, put in _refuses.items()),
    *(
        _row(f"breach while Redis refuses: {kind}", refusals.dip_during(put), _H, _STOP, _STOP, dips=True, hold=_LONGER)
        for kind, put in _refuses.items()
    ),
    _row(
        "breach while Redis is away",
        refusals.dip_during(refusals.redis_away),
        _H,
        _STOP,
        _STOP,
        dips=True,
        hold=_LONGER,
    ),
    Fault("Redis swapped, its clock behind", "Redis swapped", refusals.redis_behind, _ANY_TIME, hold=_LONGER),
    _row("a dead login beside a rebuild", refusals.dead_beside_rebuild, _H, _STOP, _STOP, _SALE, hold=_LONGER),
    Fault("PostgreSQL takes no write", "PostgreSQL refuses", refusals.postgres_read_only, (*_S, *_ANY_TIME)),
    Fault("PostgreSQL ends every session", "PostgreSQL refuses", refusals.postgres_terminates, (*_S, *_ANY_TIME)),
)

BROKERS: tuple[Fault, ...] = (
    _lies("a proxy's page for every call", "forbidden_page", _H, "any"),
    _lies("positions: empty for seconds", "empty", (When.HOLDING, When.EXIT), "positions", "holdings"),
    _lies("positions: seconds behind", "lag", (When.HOLDING, When.EXIT), "positions", seconds=5.0),
    *(
        _lies(f"rows that cannot be read: {kind}", kind, (When.HOLDING, When.EXIT), "orders", "positions", "holdings")
        for kind in ("null_rows", "odd_rows", "short_rows")
    ),
    _lies("fills behind their status", "fills_behind", (When.ENTRY, When.EXIT), "orders", "history", "update"),
    _lies("an average price that comes later", "price_zero", (When.ENTRY, When.EXIT), "orders", "history", "update"),
    _row(
        "book unreadable with a breach",
        world.faults(*_no_book, lasts=_UNREADABLE, meanwhile=True), _H, _STOP, _STOP,
    ),
    _row("an exit that rests long", broker("limbo", "SELL", lasts=45.0, seconds=45.0), _X, _SALE),
    _row("broker restarted", world.paper_restarted, _ANY_TIME, _STOP, _SALE, Style.FORCE_STOP, hold=4.0),
    _row("a night between", world.night, _H, _STOP, _SALE, product=Product.DELIVERY, hold=4.0),
    _row(
        "an entry's pause beside a stop",
        world.paused_entry, _H, _STOP, Style.LATE, sharing=Sharing.ACCOUNT, hold=20.0,
    ),
    _row(
        "many held runs, login dead",
        world.many_held_dead, _H, *[_STOP] * MANY, sharing=Sharing.ACCOUNT, told=ANYTHING,
    ),
    _row(
        "a hung account beside another tenant",
        world.hung_account, _H, *[Style.LATE] * MANY, sharing=Sharing.ACCOUNT, bystander=True, hold=30.0,
    ),
)  # fmt: skip

_TOLD = frozenset({"not_covered"})
_part, _all = (partial(world.sold_by_hand, quantity) for quantity in (1, QUANTITY))
OWNERS: tuple[Fault, ...] = (
    _row("a part sold by hand", _part(2), _H, _STOP, _SALE, told=_TOLD, hold=4.0),
    _row("all sold by hand", _all(2), _H, _STOP, _SALE, told=_TOLD, hold=4.0, settles=6.0),
    _row(
        "two runs, one position, half sold by hand",
        _all(), _H, _STOP, _SALE, told=_TOLD, hold=4.0, sharing=Sharing.POSITION,
    ),
)  # fmt: skip

ROWS: tuple[Fault, ...] = (*FEEDS, *SERVERS, *BROKERS, *OWNERS)
