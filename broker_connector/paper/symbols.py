"""What the paper broker lists: real NSE tokens where known, stable synthetic ones elsewhere. Pure."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from broker_connector.ticker import INDEX_SEGMENT

EXCHANGE = "NSE"
#: Integer price units in 1 of money at this exchange.
SCALE = 100
#: Step of prices, units; the recorded days are older than the price-dependent steps.
TICK_UNITS = 5
_NSE_SEGMENT = 1

#: Instrument tokens at NSE. BAJAJ_AUTO and MM are names recorders give to BAJAJ-AUTO and M&M.
TOKENS: dict[str, int] = {
    "ASIANPAINT": 60417,
    "AXISBANK": 1510401,
    "BAJAJFINSV": 4268801,
    "BAJAJ_AUTO": 4267265,
    "BAJFINANCE": 81153,
    "BHARTIARTL": 2714625,
    "EICHERMOT": 232961,
    "HCLTECH": 1850625,
    "HDFC": 340481,
    "HDFCBANK": 341249,
    "HDFCLIFE": 119553,
    "HEROMOTOCO": 345089,
    "HINDUNILVR": 356865,
    "ICICIBANK": 1270529,
    "INDUSINDBK": 1346049,
    "INFY": 408065,
    "ITC": 424961,
    "KOTAKBANK": 492033,
    "LT": 2939649,
    "MARUTI": 2815745,
    "MM": 519937,
    "NTPC": 2977281,
    "RELIANCE": 738561,
    "SBILIFE": 5582849,
    "SBIN": 779521,
    "TATAMOTORS": 884737,
    "TCS": 2953217,
    "TECHM": 3465729,
    "TITAN": 897537,
    "WIPRO": 969473,
}

#: Where a synthetic day opens, units; other symbols open at a price drawn from the seed.
OPENING_UNITS: dict[str, int] = {
    "AXISBANK": 112_000,
    "HDFCBANK": 168_000,
    "ICICIBANK": 124_000,
    "INFY": 155_000,
    "ITC": 43_500,
    "LT": 362_000,
    "RELIANCE": 289_000,
    "SBIN": 82_000,
    "TCS": 398_000,
    "WIPRO": 48_500,
}


#: The index a market can list besides its stocks, and its token.
INDEX, INDEX_TOKEN = "NIFTY 50", 256265


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol; all are tradable but an index."""

    name: str
    token: int

    @property
    def is_index(self) -> bool:
        """Whether it only has a price."""
        return self.token & 0xFF == INDEX_SEGMENT

    @property
    def key(self) -> str:
        """EXCHANGE:TRADINGSYMBOL."""
        return f"{EXCHANGE}:{self.name}"

    @property
    def tick_units(self) -> int:
        """Step of prices, units; an index, which has none, moves by the smallest unit."""
        return 1 if self.is_index else TICK_UNITS

    @property
    def tick_size(self) -> Decimal:
        """Step of prices, money."""
        return money(self.tick_units)


def listings(names: Iterable[str]) -> list[Listing]:
    """A listing for each of `names`, tokens unique; the same names give the same tokens in every process."""
    taken = set(TOKENS.values())
    listed = []
    for name in sorted(set(names)):
        token = TOKENS.get(name) or _synthetic_token(name, taken)
        taken.add(token)
        listed.append(Listing(name, token))
    return listed


def money(units: int) -> Decimal:
    """Money for integer `units`."""
    return Decimal(units) / SCALE


def _synthetic_token(name: str, taken: set[int]) -> int:
    # Exchange tokens of this size are not in use, so no real instrument is met by chance.
    number = 0x400000 | zlib.crc32(name.encode()) & 0x3FFFFF
    while (number << 8 | _NSE_SEGMENT) in taken:
        number += 1
    return number << 8 | _NSE_SEGMENT
