"""What a bad world does to answers that read: rows that lie, lag, are missing or cannot be read. Pure.

Each is a function of the fault and the data of a good answer, and gives the data that is told instead.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from broker_connector.paper.operations import Csv

#: Reads that tell orders, and those that tell what an account holds.
ORDERS = frozenset({"orders", "history", "update"})
HELD = frozenset({"positions", "holdings"})


class Illness(Protocol):
    """What a sickness is told by the fault that brings it."""

    @property
    def symbol(self) -> str:
        """Rows of this symbol alone; "" for all."""

    @property
    def tag(self) -> str:
        """Rows with this tag alone; "" for all."""

    @property
    def where(self) -> Mapping[str, Any]:
        """Rows with these values alone."""

    @property
    def put(self) -> Mapping[str, Any]:
        """Values that replace those of a row."""

    @property
    def drop(self) -> list[str]:
        """Fields a row lacks."""

    @property
    def rows(self) -> list[Any]:
        """Rows that are told besides."""

    @property
    def share(self) -> float:
        """Part of a dump that is left."""


Sickness = Callable[[Illness, Any], Any]


def _empty(_ill: Illness, data: Any) -> Any:
    """Nothing at all, as after the broker's own restart."""
    return {name: [] for name in data} if isinstance(data, dict) else []


def _edit(ill: Illness, data: Any) -> Any:
    """Rows with values that are wrong or missing."""
    return _each(data, lambda row: _edited(row, ill.put, ill.drop) if _meets(ill, row) else row)


def _add(ill: Illness, data: Any) -> Any:
    """Rows besides, as they are given: of other products, of other engines, or of no shape at all."""
    if isinstance(data, dict):
        return {name: [*rows, *ill.rows] for name, rows in data.items()}
    return [*data, *ill.rows]


def _price_zero(ill: Illness, data: Any) -> Any:
    """Complete orders whose average price is not there yet."""
    return _complete(ill, data, lambda _row: {"average_price": 0})


def _fills_behind(ill: Illness, data: Any) -> Any:
    """Complete orders whose quantities are those of a moment ago."""
    return _complete(ill, data, lambda row: {"filled_quantity": 0, "pending_quantity": row["quantity"]})


def _null_rows(_ill: Illness, data: Any) -> Any:
    """A row in front whose values are all null, and one that is null itself."""
    return _in_front(data, lambda rows: [dict.fromkeys(rows[0] if rows else ("tradingsymbol", "quantity")), None])


def _odd_rows(_ill: Illness, data: Any) -> Any:
    """A row in front that is of a foreign product and says everything in another type."""
    odd = {"tradingsymbol": 5, "exchange": [], "product": "XYZ", "quantity": "ten", "status": {}, "order_id": 1.5}
    return _in_front(data, lambda rows: [{**(rows[0] if rows else {}), **odd}])


def _short_rows(_ill: Illness, data: Any) -> Any:
    """A row in front that has no fields."""
    return _in_front(data, lambda _rows: [{}])


def _header_only(_ill: Illness, data: Any) -> Any:
    """A dump without a single row, as published at dawn."""
    return Csv(data.text.splitlines()[0] + "\n")


def _partial(ill: Illness, data: Any) -> Any:
    """The first part of a dump, cut off within a row."""
    return Csv(data.text[: max(data.text.index("\n") + 1, int(len(data.text) * ill.share))])


def _retokened(_ill: Illness, data: Any) -> Any:
    """A dump with other tokens for the symbols there are, as after a night in which they changed."""
    header, *rows = data.text.splitlines()
    split = (row.partition(",") for row in rows)
    # The segment, the last byte, stays.
    return Csv("\n".join([header, *(f"{int(token) + (1 << 24)},{rest}" for token, _, rest in split)]) + "\n")


def _meets(ill: Illness, row: Mapping[str, Any]) -> bool:
    wanted = {"tradingsymbol": ill.symbol, "tag": ill.tag, **ill.where}
    return all(want == "" or row.get(name) == want for name, want in wanted.items())


def _edited(row: Mapping[str, Any], put: Mapping[str, Any], drop: list[str]) -> dict[str, Any]:
    return {name: value for name, value in (dict(row) | dict(put)).items() if name not in drop}


def _complete(ill: Illness, data: Any, put: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Any:
    def behind(row: Mapping[str, Any]) -> Any:
        return {**row, **put(row)} if row["status"] == "COMPLETE" and _meets(ill, row) else row

    return _each(data, behind)


def _each(data: Any, change: Callable[[Mapping[str, Any]], Any]) -> Any:
    """`data` with each of its rows changed: a list of rows, lists of rows by name, or one row alone."""
    if isinstance(data, list):
        return [change(row) for row in data]
    if all(isinstance(rows, list) for rows in data.values()):
        return {name: [change(row) for row in rows] for name, rows in data.items()}
    return change(data)


def _in_front(data: Any, made: Callable[[list[Any]], list[Any]]) -> Any:
    if isinstance(data, dict):
        return {name: [*made(rows), *rows] for name, rows in data.items()}
    return [*made(data), *data]


#: kind -> what it does, and the operations it is drawn for.
SICKNESSES: dict[str, tuple[Sickness, frozenset[str]]] = {
    "empty": (_empty, HELD | {"orders", "trades", "order_trades"}),
    "edit": (_edit, ORDERS | HELD | {"trades", "order_trades"}),
    "add": (_add, HELD | {"orders", "trades"}),
    "price_zero": (_price_zero, ORDERS),
    "fills_behind": (_fills_behind, ORDERS),
    "null_rows": (_null_rows, HELD | {"orders"}),
    "odd_rows": (_odd_rows, HELD | {"orders"}),
    "short_rows": (_short_rows, HELD | {"orders"}),
    "header_only": (_header_only, frozenset({"instruments"})),
    "partial": (_partial, frozenset({"instruments"})),
    "retokened": (_retokened, frozenset({"instruments"})),
}
