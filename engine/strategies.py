"""The strategies file: reads it strictly into drafts and names everything that is wrong with it, or nothing.

Knows the file's format and the domain's rules; stores nothing and asks no broker.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from functools import cache, partial
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from engine.calendar import Calendar
from engine.domain.broker import Instrument
from engine.domain.orders import OrderType, Product
from engine.domain.recurrence import DAILY, Recurrence, Weekday
from engine.domain.strategy import AbortPolicy, Session, Strategy, UnconfirmedYear, problems

#: The largest quantity taken for meant, units, and the dearest price, money a unit.
MAX_QUANTITY = 10_000_000
MAX_PRICE = Decimal(10_000_000)

_SYMBOL = r"^[A-Z0-9][A-Z0-9&_-]{0,39}$"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_PRICE = r"^[0-9]{1,8}(\.[0-9]{1,4})?$"
#: Printable to both ends: no control characters, no blank at an end.
_LABEL = r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?$"

#: Digits of the longest whole number read as one.
_MAX_DIGITS = 18
#: Characters of a wrong value that a message shows.
_SHOWN = 60


class StrategyFileError(Exception):
    """Raised when a strategies file is refused; `problems` is one line each, and nothing of it was taken."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__("\n".join((f"{source} is refused:", *(f"  {problem}" for problem in problems))))
        self.source = source
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Draft:
    """A strategy nobody has stored yet. `account` is the tenant's account by name, "" for its only one."""

    name: str
    tenant: str
    account: str
    symbol: str
    quantity: int
    buy_time: time
    sell_time: time
    stop_loss: Decimal
    product: Product = Product.INTRADAY
    order_type: OrderType = OrderType.MARKET
    on_abort: AbortPolicy = AbortPolicy.PROTECT
    trading_date: date | None = None
    repeat: Recurrence | None = None
    #: Where it stands in its file, for messages.
    where: str = field(default="", compare=False)

    @property
    def exchange(self) -> str:
        """The exchange of its symbol."""
        return self.symbol.partition(":")[0]

    def strategy(self, strategy_id: int = 0, account_id: int = 0) -> Strategy:
        """The strategy it becomes under these ids."""
        return Strategy(
            id=strategy_id,
            name=self.name,
            tenant=self.tenant,
            account_id=account_id,
            symbol=self.symbol,
            quantity=self.quantity,
            buy_time=self.buy_time,
            sell_time=self.sell_time,
            stop_loss=self.stop_loss,
            product=self.product,
            order_type=self.order_type,
            on_abort=self.on_abort,
            trading_date=self.trading_date,
            repeat=self.repeat,
        )


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as it was written, where Python's own reading of it would lose something."""

    text: str

    def __repr__(self) -> str:
        return self.text


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys were given twice."""

    repeated: tuple[str, ...] = ()


def _time(value: Any) -> time:
    if not isinstance(value, str) or not re.fullmatch(_TIME, value):
        raise ValueError('must be a time such as "09:40" or "09:40:00"')
    return time.fromisoformat(value)


def _date(value: Any) -> date | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(_DATE, value):
        raise ValueError('must be a date such as "2026-01-05"')
    return date.fromisoformat(value)


def _days(value: Any) -> frozenset[Weekday] | None:
    if value is None:
        return None
    if value == DAILY:
        return frozenset(Weekday)
    names = value if isinstance(value, list) and value else [None]
    if not all(isinstance(name, str) and name in set(Weekday) for name in names) or len(set(names)) < len(names):
        raise ValueError('must be "daily" or different weekdays such as ["mon", "wed", "fri"]')
    return frozenset(map(Weekday, names))


def _price(value: Any) -> Decimal:
    if isinstance(value, _Number) and re.fullmatch(_PRICE, value.text):
        raise ValueError(f'{value.text} is a bare number, which cannot be exact; quote it: "{value.text}"')
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_whole else value
    if not isinstance(text, str) or not re.fullmatch(_PRICE, text):
        raise ValueError('must be a price above 0 such as "622.70", with up to 4 decimals')
    price = Decimal(text)
    if not 0 < price <= MAX_PRICE:
        raise ValueError(f"must be above 0 and at most {MAX_PRICE}")
    return price


def _symbol(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_SYMBOL, value):
        raise ValueError('must be a trading symbol in capitals such as "INFY", or "NSE:INFY" if exchange says the same')
    return value


def _one_of(*allowed: StrEnum) -> Callable[[Any], StrEnum]:
    def read(value: Any) -> StrEnum:
        for each in allowed:
            if value == each.value:
                return each
        raise ValueError(f"must be one of {', '.join(allowed)}")

    return read


def _spelt(*allowed: StrEnum) -> WithJsonSchema:
    return WithJsonSchema({"enum": [each.value for each in allowed]})


Symbol = Annotated[
    str, BeforeValidator(_symbol), WithJsonSchema({"type": "string", "pattern": _SYMBOL.replace("^", "^([A-Z]+:)?")})
]
Label = Annotated[str, Field(pattern=_LABEL, max_length=64)]
WallTime = Annotated[time, BeforeValidator(_time), WithJsonSchema({"type": "string", "pattern": _TIME})]
TradingDate = Annotated[
    date | None,
    BeforeValidator(_date),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}),
]
Days = Annotated[
    frozenset[Weekday] | None,
    BeforeValidator(_days),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": DAILY},
                {
                    "type": "array",
                    "items": {"enum": [day.value for day in Weekday]},
                    "minItems": 1,
                    "uniqueItems": True,
                },
                {"type": "null"},
            ]
        }
    ),
]
Price = Annotated[
    Decimal,
    BeforeValidator(_price),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _PRICE},
                {"type": "integer", "exclusiveMinimum": 0, "maximum": int(MAX_PRICE)},
            ]
        }
    ),
]
#: A strategy has no limit price, so a limit order cannot be asked for.
MarketOnly = Annotated[OrderType, BeforeValidator(_one_of(OrderType.MARKET)), _spelt(OrderType.MARKET)]
AnyProduct = Annotated[Product, BeforeValidator(_one_of(*Product)), _spelt(*Product)]
AnyPolicy = Annotated[AbortPolicy, BeforeValidator(_one_of(*AbortPolicy)), _spelt(*AbortPolicy)]


class StrategyItem(BaseModel):
    """Buy this symbol at this time, sell it at that time, never hold it below this price."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Strategy")

    name: Label = Field(description="Unique within the tenant and trading date.")
    tenant: Label
    account: Label | None = Field(None, description="The tenant's account by name; needed where it has several.")
    symbol: Symbol = Field(description='Such as "INFY"; "NSE:INFY" names the exchange, too.')
    exchange: Literal["NSE", "BSE"] = "NSE"
    quantity: int = Field(gt=0, le=MAX_QUANTITY, description="Units.")
    buy_time: WallTime = Field(description="The exchange's wall time, HH:MM or HH:MM:SS.")
    sell_time: WallTime = Field(description="The exchange's wall time, after buy_time.")
    stop_loss: Price = Field(description="Money a unit, a quoted decimal; mandatory.")
    product: AnyProduct = Product.INTRADAY
    order_type: MarketOnly = OrderType.MARKET
    on_abort: AnyPolicy = AbortPolicy.PROTECT
    trading_date: TradingDate = Field(
        None, description="The one date it trades, if not the next it is armed for; with repeat the first it may trade."
    )
    repeat: Days = Field(
        None, description='"daily" for every trading day, or weekdays such as ["mon", "wed"]; absent, it trades once.'
    )
    until: TradingDate = Field(None, description="The last date it may trade; needs repeat.")

    @field_validator("until")
    @classmethod
    def _ends_what_repeats(cls, until: date | None, item: ValidationInfo) -> date | None:
        if until is None or "repeat" not in item.data:
            return until
        if item.data["repeat"] is None:
            raise ValueError('needs repeat, such as "daily"')
        first = item.data.get("trading_date")
        if first is not None and until < first:
            raise ValueError(f"must not be before trading_date {first}")
        return until

    def draft(self, where: str) -> Draft:
        """The draft it asks for."""
        fields = self.model_dump(exclude={"exchange", "symbol", "account", "repeat", "until"})
        return Draft(
            symbol=f"{self.exchange}:{self.symbol}",
            account=self.account or "",
            repeat=Recurrence(self.repeat, self.until) if self.repeat else None,
            where=where,
            **fields,
        )


class StrategyFile(BaseModel):
    """The long form of a strategies file; the short form is the bare list."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Strategies")

    strategies: list[StrategyItem]


def parse(text: str, source: str) -> list[Draft]:
    """The drafts of the strategies file `text`, read from `source`; raises StrategyFileError."""
    found: list[Draft] = []
    wrong: list[str] = []
    for index, item in enumerate(_items(text, source)):
        where = _where(index, item)
        wrong.extend(f"{where}: {key}: is given twice" for key in getattr(item, "repeated", ()))
        try:
            found.append(StrategyItem.model_validate(_with_exchange(item)).draft(where))
        except ValidationError as error:
            wrong.extend(f"{where}: {line}" for line in _explain(error))
    wrong.extend(_repeats(found))
    if wrong:
        raise StrategyFileError(source, wrong)
    return found


def check(
    drafts: Iterable[Draft], instruments: Mapping[str, Instrument], calendar: Calendar, trading_date: date
) -> list[str]:
    """Every rule of the market the drafts break, one line each; [] where all can be stored.

    `instruments` by canonical symbol; `trading_date` is meant where a draft names none. Of one that repeats, it is the
    first of its dates that has to fit.
    """
    session_of = cache(partial(_session, calendar))
    wrong: list[str] = []
    for draft in drafts:
        exchange = draft.exchange
        day = first_date(draft, calendar, trading_date)
        if day is None:
            wrong.append(f"{draft.where}: repeat: none of its dates is known to be a trading day of {exchange}")
            continue
        session = session_of(draft.symbol, day)
        if isinstance(session, str):
            wrong.append(f"{draft.where}: trading_date: {session}")
            continue
        buy_at, sell_at = (calendar.to_utc(exchange, day, wall) for wall in (draft.buy_time, draft.sell_time))
        found = problems(draft.strategy(), instruments.get(draft.symbol), session, buy_at, sell_at)
        wrong.extend(f"{draft.where}: {problem}" for problem in found)
    return wrong


def first_date(draft: Draft, calendar: Calendar, next_day: date) -> date | None:
    """The first date `draft` trades, `next_day` being the next session's; None where it repeats on none we know."""
    if draft.repeat is None:
        return draft.trading_date or next_day
    return next_date(draft.strategy(), calendar, next_day)


def next_date(strategy: Strategy, calendar: Calendar, since: date) -> date | None:
    """The first date from `since` on that `strategy` trades; None where it has none, or none in a confirmed year."""
    try:
        return next((day for day in strategy.dates(since) if calendar.session(strategy.symbol, day) is not None), None)
    except UnconfirmedYear:
        return None


def _session(calendar: Calendar, symbol: str, day: date) -> Session | str:
    """The session of `day`, or why there is none."""
    try:
        return calendar.session(symbol, day) or f"{day} is not a trading day of {symbol.partition(':')[0]}"
    except UnconfirmedYear as error:
        return str(error)


def _items(text: str, source: str) -> list[Any]:
    try:
        content = json.loads(
            text, object_pairs_hook=_object, parse_float=_Number, parse_int=_whole, parse_constant=_Number
        )
    except json.JSONDecodeError as error:
        raise StrategyFileError(source, [f"line {error.lineno}, column {error.colno}: {error.msg}"]) from None
    except RecursionError:
        raise StrategyFileError(source, ["is nested too deeply to be a list of strategies"]) from None
    if isinstance(content, dict) and content.keys() == {"strategies"}:
        content = content["strategies"]
    if not isinstance(content, list):
        raise StrategyFileError(source, ['must be a list of strategies, or {"strategies": [...]}'])
    if not content:
        raise StrategyFileError(source, ["holds no strategies"])
    return content


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    item = _Object(pairs)
    item.repeated = tuple(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return item


def _whole(text: str) -> int | _Number:
    return int(text) if len(text) <= _MAX_DIGITS else _Number(text)


def _with_exchange(item: Any) -> Any:
    """`item` with a symbol such as "NSE:INFY" taken apart, where that agrees with its exchange."""
    symbol = item.get("symbol") if isinstance(item, dict) else None
    if not isinstance(symbol, str) or ":" not in symbol:
        return item
    exchange, _, bare = symbol.partition(":")
    return {**item, "exchange": exchange, "symbol": bare} if item.get("exchange", exchange) == exchange else item


def _where(index: int, item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return f"strategies[{index}] ({_shown(name)})" if isinstance(name, str) and name else f"strategies[{index}]"


def _explain(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        name = ".".join(map(str, each["loc"])) or "item"
        match each["type"]:
            case "missing":
                yield f"{name}: is missing"
            case "extra_forbidden":
                yield f"{_shown(name)}: is not a field; fields are {', '.join(StrategyItem.model_fields)}"
            case "string_pattern_mismatch":
                yield f"{name}: must be 1 to 64 printable characters, no blank at an end; got {_shown(each['input'])}"
            case "value_error":
                yield f"{name}: {each['ctx']['error']}; got {_shown(each['input'])}"
            case _:
                yield f"{name}: {each['msg']}; got {_shown(each['input'])}"


def _shown(value: Any) -> str:
    """`value` short enough for a line, on one line."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _repeats(drafts: Iterable[Draft]) -> Iterator[str]:
    first: dict[tuple[str, str, date | None], str] = {}
    for draft in drafts:
        earlier = first.setdefault((draft.tenant, draft.name, draft.trading_date), draft.where)
        if earlier != draft.where:
            yield f"{draft.where}: name: {draft.tenant} has it in {earlier} already"
