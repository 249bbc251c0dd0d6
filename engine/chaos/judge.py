"""The judge: what the paper broker's ledger alone proves of runs and accounts. Pure; knows no state of the engine's."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from engine.domain.run import RunId, parse_client_order_id

Row = Mapping[str, Any]

#: Words of the ledger for an order that can trade no more.
ENDED = frozenset({"filled", "rejected", "canceled", "expired"})
#: How the id of an order begins that a trial's owner places by hand.
BY_HAND = "HAND"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the ledger says of one run."""

    bought: int = 0
    sold: int = 0
    live: int = 0
    #: What orders beside this run's add to the same position, and how many of them are live.
    beside: int = 0
    live_beside: int = 0
    violations: tuple[str, ...] = ()

    @property
    def is_flat(self) -> bool:
        """Whether something was bought, nothing of it is held, and nothing can trade any more."""
        return self.bought > 0 and self.held == 0 and self.live + self.live_beside == 0

    @property
    def held(self) -> int:
        """What is left of the position, which others may have a part in."""
        return self.bought - self.sold + self.beside


def by_run(rows: Iterable[Row], deployment: str) -> Mapping[RunId | None, list[Row]]:
    """The ledger's rows by the run whose id they carry; those of nobody under None."""
    found: defaultdict[RunId | None, list[Row]] = defaultdict(list)
    for row in rows:
        ours = parse_client_order_id(deployment, row["tag"])
        found[ours[0] if ours else None].append(row)
    return found


def tag_by_hand(run: RunId) -> str:
    """The id of what the owner of `run` trades by hand of its position."""
    return f"{BY_HAND}{run.strategy_id}"


def by_hand(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    """The ledger's rows of orders placed by hand, by their id."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["tag"].startswith(BY_HAND):
            found[row["tag"]].append(row)
    return found


def judge(rows: Sequence[Row], quantity: int, beside: Sequence[Row] = ()) -> Finding:
    """Invariant 1 at every instant of one run's orders, and how it stands.

    `beside`: orders on the same position: of other runs that share it, and those placed by hand.
    """
    buys, sells = ([row for row in rows if row["side"] == side] for side in ("buy", "sell"))
    return Finding(
        bought=sum(row["filled_quantity"] for row in buys),
        sold=sum(row["filled_quantity"] for row in sells),
        live=sum(row["status"] not in ENDED for row in rows),
        beside=sum(row["filled_quantity"] * (1 if row["side"] == "buy" else -1) for row in beside),
        live_beside=sum(row["status"] not in ENDED for row in beside),
        violations=(*_fills_wrong(rows, quantity), *_two_live(sells), *_doubles(rows)),
    )


def shorts(rows: Iterable[Row], deployment: str) -> Mapping[RunId, str]:
    """Runs whose sale left their account short of a symbol, whoever else had traded there."""
    fills = (
        (int(fill["trade_id"]), row["account"], row["symbol"], fill["quantity"], row["side"], row["tag"])
        for row in rows
        for fill in row["fills"]
    )
    net: Counter[tuple[str, str]] = Counter()
    found: dict[RunId, str] = {}
    for _, account, symbol, quantity, side, tag in sorted(fills):
        net[account, symbol] += quantity if side == "buy" else -quantity
        ours = parse_client_order_id(deployment, tag)
        if side == "sell" and ours and net[account, symbol] < 0:
            found.setdefault(ours[0], f"{account} is short: {net[account, symbol]} of {symbol}")
    return found


def _fills_wrong(rows: Iterable[Row], quantity: int) -> Iterable[str]:
    """The fills in the order in which they happened: the broker numbers trades in that order."""
    fills = [(int(fill["trade_id"]), row["side"], fill["quantity"]) for row in rows for fill in row["fills"]]
    bought = sold = 0
    found: dict[str, str] = {}
    for _, side, filled in sorted(fills):
        bought, sold = (bought + filled, sold) if side == "buy" else (bought, sold + filled)
        if bought > quantity:
            found["bought"] = f"bought {bought} of {quantity}"
        if sold > bought:
            found.setdefault("sold", f"sold {sold} when {bought} were bought: a short")
    return found.values()


def _two_live(sells: Sequence[Row]) -> Iterable[str]:
    """Every pair of exits that could have traded at one instant. A rejected one never could."""
    standing = sorted((row for row in sells if row["status"] != "rejected"), key=lambda row: int(row["order_id"]))
    for first, second in combinations(standing, 2):
        if first["ended_at"] is None or first["ended_at"] > second["received_at"]:
            yield f"two live exits: {first['order_id']} and {second['order_id']}"


def _doubles(rows: Iterable[Row]) -> Iterable[str]:
    counted = Counter(row["tag"] for row in rows)
    return (f"{number} orders under the id {tag}" for tag, number in counted.items() if number > 1)
