"""What the world does beside failing: owners who trade by hand, brokers that lie, servers that refuse, nights.

Each kind can be asked for alone.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.domain.budget import limits_of
from engine.domain.orders import Product
from engine.domain.strategy import AbortPolicy


class Kind(StrEnum):
    """One kind of hardship."""

    #: Several runs of one account and symbol.
    SHARED = "shared"
    #: The owner buys and sells by hand.
    MANUAL = "manual"
    #: Another engine trades the account, under tags that are not ours, or that look like ours.
    FOREIGN = "foreign"
    #: Positions lag by seconds, or are empty for seconds.
    LYING_POSITIONS = "lying_positions"
    #: An order accepted with an id is never in the book.
    VANISHED = "vanished"
    #: An order refused on the wire rests in the book.
    REFUSED_RESTS = "refused_rests"
    #: An order appears long after its grace.
    BEYOND_GRACE = "beyond_grace"
    #: Orders do not come through, and nobody answers.
    SILENT = "silent"
    #: Nobody tells a run what became of its orders, nor looks after its account: it asks itself.
    ALONE = "alone"
    #: Answers to what is read of an account are under way for seconds.
    SLOW = "slow"
    #: Book, positions, or both cannot be read for long.
    BLIND = "blind"
    #: The token dies, and somebody logs in later; or one call alone is answered as if it had.
    TOKEN = "token"  # noqa: S105 - a kind, no secret
    #: Redis answers every command with an error for seconds.
    REDIS_REFUSES = "redis_refuses"
    #: The server's clock is apart from the engine's.
    CLOCKS = "clocks"
    #: Accounts are read by a machine whose clock is up to a second off the workers', or far ahead until it is set.
    APART = "apart"
    #: Rate windows are small and get used up.
    WINDOWS = "windows"
    #: The broker asks for pauses: too many requests.
    LIMITED = "limited"
    #: The price falls and stays there, and no timer sells.
    STAYS_LOW = "stays_low"
    #: Aborts freeze or flatten, owners leave positions and resolve runs.
    POLICIES = "policies"
    #: Runs are created by the recoverer.
    CREATED = "created"
    #: The feed sends nonsense between its ticks, and of true trades some are as far off and alone.
    BAD_TICKS = "bad_ticks"
    #: The symbol trades seldom: packets of now tell of trades of before.
    ILLIQUID = "illiquid"
    #: The feed dies for seconds, or comes late.
    FEED = "feed"
    #: A second listener hears the same market, and lags by seconds.
    PAIR = "pair"
    #: The session ends with orders resting and positions held; the next day goes on.
    NIGHT = "night"
    #: The same, and the engine sleeps over it.
    ASLEEP = "asleep"
    #: An entry is canceled by the exchange when it has filled in part: its owner is told what was not bought.
    PARTLY = "partly"
    #: Few trade: orders rest for seconds, and fill in parts.
    THIN = "thin"
    #: A cancel or a change is accepted, and its order stands all the same.
    STUBBORN = "stubborn"
    #: An order's status is told before its fills, and its price later still.
    BEHIND = "behind"
    #: A row of the positions cannot be read.
    ROWS = "rows"
    #: Nothing can be sold for long: an exit keeps its place in the queue.
    CIRCUIT = "circuit"
    #: The broker lists no instruments, or not ours.
    UNLISTED = "unlisted"
    #: Positions are delivery, and settle into holdings over the night.
    DELIVERY = "delivery"


#: How often a kind is in a seed that may have it, and the least share of the most it may be.
HAS_KIND, LEAST = 0.5, 0.2
#: How often nobody trades where few do.
THIN = (0.9, 0.97, 0.99, 0.997)
#: How far apart the clocks of two machines may be, seconds.
APART = 0.9
#: How often a feed that dies comes late, too.
LATE_FEED = 0.5


@dataclass(frozen=True, slots=True)
class Hardships:
    """What one seed chose of them. Rates are a chance a second, chances one a call."""

    kinds: frozenset[Kind] = frozenset()
    manual: float = 0.0
    foreign: float = 0.0
    lies: float = 0.0
    vanish: float = 0.0
    refused_rests: float = 0.0
    beyond_grace: float = 0.0
    silent: float = 0.0
    #: How often an answer takes so long.
    slow: float = 0.0
    blind: float = 0.0
    token: float = 0.0
    slips: float = 0.0
    refuses: float = 0.0
    bad_ticks: float = 0.0
    illiquid: float = 0.0
    limited: float = 0.0
    #: How often nobody takes an order that could have filled.
    thin: float = 0.0
    stubborn: float = 0.0
    behind: float = 0.0
    rows: float = 0.0
    #: How often this host's clock is doubted.
    doubted: float = 0.0
    feed: float = 0.0
    #: Whether the feed begins after the time to buy.
    comes_late: bool = False
    unlisted: float = 0.0
    policies: float = 0.0
    #: Seconds the server's clock is ahead.
    clock: float = 0.0
    #: Seconds the clock of whoever reads accounts is ahead, and for how long it is far ahead before it is set.
    apart: float = 0.0
    set_after: float = 0.0
    #: The limits of each account.
    limits: tuple[tuple[str, int], ...] = ()
    on_abort: AbortPolicy = AbortPolicy.PROTECT
    product: Product = Product.INTRADAY

    def __contains__(self, kind: Kind) -> bool:
        return kind in self.kinds

    def without(self, kind: Kind) -> "Hardships":
        """The same without one kind, and without what it brings."""
        if kind not in self.kinds:
            return self
        nothing = Hardships()
        brought = {name: getattr(nothing, name) for name in _BROUGHT_BY.get(kind, ())}
        return replace(self, kinds=self.kinds - {kind}, **brought)

    @property
    def are_created(self) -> bool:
        """Whether the recoverer makes the runs."""
        return Kind.CREATED in self.kinds or Kind.UNLISTED in self.kinds

    @property
    def has_night(self) -> bool:
        """Whether a second day follows."""
        return Kind.NIGHT in self.kinds or Kind.ASLEEP in self.kinds


#: Which fields a kind sets.
_BROUGHT_BY: dict[Kind, tuple[str, ...]] = {
    Kind.MANUAL: ("manual",), Kind.FOREIGN: ("foreign",), Kind.LYING_POSITIONS: ("lies",), Kind.VANISHED: ("vanish",),
    Kind.REFUSED_RESTS: ("refused_rests",), Kind.BEYOND_GRACE: ("beyond_grace",), Kind.BLIND: ("blind",),
    Kind.TOKEN: ("token", "slips"), Kind.REDIS_REFUSES: ("refuses",), Kind.BAD_TICKS: ("bad_ticks",),
    Kind.POLICIES: ("policies", "on_abort"), Kind.UNLISTED: ("unlisted",), Kind.FEED: ("feed", "comes_late"),
    Kind.ILLIQUID: ("illiquid",), Kind.LIMITED: ("limited",), Kind.CLOCKS: ("clock", "doubted"),
    Kind.WINDOWS: ("limits",), Kind.DELIVERY: ("product",), Kind.THIN: ("thin",), Kind.STUBBORN: ("stubborn",),
    Kind.BEHIND: ("behind",), Kind.SLOW: ("slow",), Kind.SILENT: ("silent",),
    Kind.APART: ("apart", "set_after"), Kind.ROWS: ("rows",),
}  # fmt: skip


def hardships_of(number: int, kinds: Collection[Kind], *, all_of_them: bool = False) -> Hardships:
    """What seed `number` chooses of `kinds`: all of them, or each by half, but a single one for certain."""
    rng = random.Random(number ^ 0xBAD)  # noqa: S311 - a simulation's dice
    chosen = frozenset(kind for kind in sorted(kinds) if all_of_them or len(kinds) == 1 or rng.random() < HAS_KIND)

    def rate(kind: Kind, most: float) -> float:
        return most * rng.uniform(LEAST, 1.0) if kind in chosen else 0.0

    made = Hardships(
        chosen,
        manual=rate(Kind.MANUAL, 0.15),
        foreign=rate(Kind.FOREIGN, 0.3),
        lies=rate(Kind.LYING_POSITIONS, 0.15),
        vanish=rate(Kind.VANISHED, 0.4),
        refused_rests=rate(Kind.REFUSED_RESTS, 0.4),
        beyond_grace=rate(Kind.BEYOND_GRACE, 0.4),
        slow=rate(Kind.SLOW, 0.8),
        silent=rate(Kind.SILENT, 1.0),
        blind=rate(Kind.BLIND, 0.1),
        token=rate(Kind.TOKEN, 0.05),
        slips=rate(Kind.TOKEN, 0.2),
        refuses=rate(Kind.REDIS_REFUSES, 0.1),
        bad_ticks=rate(Kind.BAD_TICKS, 0.5),
        policies=rate(Kind.POLICIES, 0.1),
        unlisted=rate(Kind.UNLISTED, 1.0),
        feed=rate(Kind.FEED, 0.1),
        illiquid=rate(Kind.ILLIQUID, 0.8),
        limited=rate(Kind.LIMITED, 0.5),
        stubborn=rate(Kind.STUBBORN, 0.4),
        behind=rate(Kind.BEHIND, 0.8),
        rows=rate(Kind.ROWS, 0.1),
        doubted=rate(Kind.CLOCKS, 0.1),
    )
    if Kind.THIN in chosen:
        made = replace(made, thin=rng.choice(THIN))
    if Kind.FEED in chosen:
        made = replace(made, comes_late=rng.random() < LATE_FEED)
    if Kind.CLOCKS in chosen:
        made = replace(made, clock=rng.uniform(-5.0, 5.0))
    if Kind.APART in chosen:
        made = replace(made, apart=rng.uniform(-APART, APART), set_after=rng.choice((0.0, rng.uniform(5.0, 60.0))))
    if Kind.WINDOWS in chosen:
        limits = limits_of({"second": 2, "minute": rng.randint(2, 8), "day": rng.randint(3, 12)})
        made = replace(made, limits=(*limits.items(),))
    if Kind.POLICIES in chosen:
        made = replace(made, on_abort=rng.choice([*AbortPolicy]))
    if Kind.DELIVERY in chosen:
        made = replace(made, product=Product.DELIVERY)
    return made
