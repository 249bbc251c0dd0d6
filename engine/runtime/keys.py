"""Every key of the live state, named once. `lua/_prelude.lua` says what each holds."""

EPOCH = "engine:epoch"
#: What is written only to know that the server takes writes.
WRITTEN = "engine:written"
DUE = "due"
LEDGER = "ledger"
MARKETS = "markets"
MARKET_CLOCK = "market:clock"
ACCOUNTS = "accounts"
#: What the operator says of the calendar, as it was last read.
CALENDAR = "engine:calendar"

#: Patterns of the keys that live runs are made of.
OF_RUNS = (
    "runtime:*", "lock_state:*", "symbol:*:strategies", "latched:*", "holding:*", "traded:*", "account:*:runs",
    "account:*:slots:*", "account:*:held", "account:*:pool", "account:*:fills", "account:*:reading",
    "account:*:book", "account:*:awaits", "symbols:*", "feed:*", "runs_of:*", DUE,
)  # fmt: skip


def strategy(strategy_id: int) -> str:
    """The standing instruction."""
    return f"strategy:{strategy_id}"


def runs_of(strategy_id: int) -> str:
    """The live runs of a strategy."""
    return f"runs_of:{strategy_id}"


def waiting(queue: str) -> str:
    """What each worker of a queue has taken off it and not begun, by priority."""
    return f"waiting:{queue}"


def runtime(run: str) -> str:
    """The live state of one run."""
    return f"runtime:{run}"


def tombstone(run: str) -> str:
    """What is left of a run that ended."""
    return f"tombstone:{run}"


def lock(run: str) -> str:
    """The run's lock."""
    return f"lock_state:{run}"


def symbols(market: str) -> str:
    """The symbols of a market that have a run."""
    return f"symbols:{market}"


def price(market: str, symbol: str) -> str:
    """The last good price of a symbol."""
    return f"price:{market}:{symbol}"


def traded(market: str, symbol: str) -> str:
    """When each price of a symbol was last traded."""
    return f"traded:{market}:{symbol}"


def armed(market: str, symbol: str) -> str:
    """Runs of a symbol by their stop."""
    return f"symbol:{market}:{symbol}:strategies"


def latched(market: str, symbol: str) -> str:
    """Runs of a symbol whose stop was breached."""
    return f"latched:{market}:{symbol}"


def feed(market: str) -> str:
    """When each symbol's line was last proven alive."""
    return f"feed:{market}"


def carriers(market: str) -> str:
    """The account that carries each listener's feed."""
    return f"carriers:{market}"


def holding(market: str) -> str:
    """The runs of a market that hold something."""
    return f"holding:{market}"


def looked(market: str) -> str:
    """When a market's feeds were last looked at, and from when on that may be judged."""
    return f"looked:{market}"


def outage(market: str) -> str:
    """What each tenant was last told of being blind."""
    return f"outage:{market}"


def account(account_id: int) -> str:
    """What an order needs to know of its account."""
    return f"account:{account_id}"


def health(account_id: int) -> str:
    """What is known of an account's line to its broker."""
    return f"account:{account_id}:health"


def account_runs(account_id: int) -> str:
    """The live runs of an account."""
    return f"account:{account_id}:runs"


def held(account_id: int) -> str:
    """What an account was last seen to hold."""
    return f"account:{account_id}:held"


def pool(account_id: int) -> str:
    """What an account's runs hold and may still sell, by symbol and product."""
    return f"account:{account_id}:pool"


def fills(account_id: int) -> str:
    """What an account's runs have learned of their orders' fills."""
    return f"account:{account_id}:fills"


def reading(account_id: int) -> str:
    """Who reads an account's order book, and what is known of the last reading."""
    return f"account:{account_id}:reading"


def book(account_id: int) -> str:
    """What an account's order book said of each of its runs."""
    return f"account:{account_id}:book"


def awaits(account_id: int) -> str:
    """The runs that wait for a reading of their account's book."""
    return f"account:{account_id}:awaits"


def process(name: str) -> str:
    """A process's sign of life."""
    return f"process:{name}"


def timers(bucket: int) -> str:
    """The timed trades of one second, told as seconds since the epoch."""
    return f"timers:{bucket}"


def timers_of(run: str) -> str:
    """Which bucket each timer of a run is in."""
    return f"timers_of:{run}"
