"""The broker's forms as checked values: orders and their changes. Pure; what is wrong raises its InputException."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from broker_connector.paper.errors import bad_input
from broker_connector.paper.orders import STOPS, Change, Ticket
from broker_connector.paper.symbols import EXCHANGE, Listing

Form = Mapping[str, str]

#: Words a form may use, by field.
CHOICES: Mapping[str, frozenset[str]] = {
    "transaction_type": frozenset({"BUY", "SELL"}),
    "product": frozenset({"CNC", "MIS", "NRML", "MTF"}),
    "order_type": frozenset({"MARKET", "LIMIT", "SL", "SL-M"}),
    "validity": frozenset({"DAY", "IOC", "TTL"}),
}
#: Varieties that trade here; an auction has rules, and days, of its own.
VARIETIES = frozenset({"regular", "amo", "co", "iceberg"})
#: Longest tag, characters; longest life of a TTL order, minutes; most legs of an iceberg order.
TAG_LENGTH, LONGEST_TTL, MOST_LEGS = 20, 360, 50
#: Decimals a price is kept with: a client's floating point carries noise beyond them.
_PRICE_STEP = Decimal("0.0001")
#: What no number of a form exceeds.
_LARGEST = Decimal(10) ** 12
_WITH_PRICE, _WITH_PROTECTION = frozenset({"LIMIT", "SL"}), frozenset({"MARKET", "SL-M"})
#: Percent a market order may be protected by at most; -1 leaves it to the broker.
_AUTOMATIC, _MOST_PROTECTION = Decimal(-1), Decimal(100)


def ticket_of(
    variety: str, form: Form, listed: Mapping[str, Listing], *, protected: bool = True, last: Decimal | None = None
) -> Ticket:
    """The order a form asks for. `protected`: whether market orders need protection. `last`: the symbol's price."""
    if variety not in VARIETIES:
        raise bad_input(f"Invalid `variety`: {variety}.")
    fields = {"validity": "DAY"} | dict(form)
    _check_words(fields, CHOICES)
    listing = listing_of(fields, listed)
    order_type = fields["order_type"]
    protection = _protection(fields)
    if protected and protection == 0 and order_type in _WITH_PROTECTION:
        raise bad_input("Market orders without market protection are not allowed via API.")
    quantity = whole_of(fields, "quantity")
    return Ticket(
        exchange=EXCHANGE,
        tradingsymbol=listing.name,
        token=listing.token,
        tick_size=listing.tick_size,
        transaction_type=fields["transaction_type"],
        quantity=quantity,
        product=_product(variety, fields["product"]),
        order_type=order_type,
        price=_limit(variety, fields, listing, last),
        trigger_price=price_of(fields, "trigger_price", listing) if _has_trigger(variety, order_type) else Decimal(0),
        validity=fields["validity"],
        variety=variety,
        market_protection=protection,
        tag=_tag(fields),
        validity_ttl=_ttl(fields),
        disclosed_quantity=whole_of(fields, "disclosed_quantity", least=0),
        iceberg_legs=_legs(variety, fields, quantity),
    )


def change_of(form: Form, listing: Listing) -> Change:
    """What a form asks an order to become; a price of 0 says nothing."""
    given = {name: value for name, value in form.items() if value not in {"", "0", "0.0"}}
    _check_words(given, {name: CHOICES[name] for name in ("order_type", "validity") if name in given})
    change = Change(
        quantity=whole_of(given, "quantity") if "quantity" in given else None,
        price=price_of(given, "price", listing) if "price" in given else None,
        trigger_price=price_of(given, "trigger_price", listing) if "trigger_price" in given else None,
        order_type=given.get("order_type"),
        validity=given.get("validity"),
        validity_ttl=_ttl(given) if given.get("validity") == "TTL" else None,
        disclosed_quantity=whole_of(given, "disclosed_quantity") if "disclosed_quantity" in given else None,
    )
    if change == Change():
        raise bad_input("Nothing to modify: give a price, trigger_price, quantity, order_type or validity.")
    return change


def listing_of(form: Form, listed: Mapping[str, Listing]) -> Listing:
    """The tradable symbol a form names by `exchange` and `tradingsymbol`."""
    listing = listed.get(form.get("tradingsymbol", ""))
    if listing is None or listing.is_index or form.get("exchange") != EXCHANGE:
        raise bad_input("The instrument you are placing an order for has either expired or does not exist.")
    return listing


def word_of(form: Form, name: str) -> str:
    """One of the words CHOICES has for `name`."""
    _check_words(form, {name: CHOICES[name]})
    return form[name]


def number_of(form: Form, name: str) -> Decimal:
    """A number of the form, 0 where absent."""
    try:
        number = Decimal(form.get(name) or 0)
    except InvalidOperation:
        raise bad_input(f"Invalid `{name}`.") from None
    # Compared before anything is computed with it: a number of three characters can have a billion digits.
    if not (number.is_finite() and -_LARGEST <= number <= _LARGEST):
        raise bad_input(f"Invalid `{name}`.")
    return number


def price_of(form: Form, name: str, listing: Listing) -> Decimal:
    """A price of the form, positive and on the symbol's steps."""
    price = number_of(form, name)
    rounded = price.quantize(_PRICE_STEP)
    if rounded <= 0 or rounded % listing.tick_size:
        raise bad_input(f"Invalid `{name}`: not a positive multiple of the tick size {listing.tick_size}.")
    return price if price == rounded else rounded


def whole_of(form: Form, name: str, least: int = 1) -> int:
    """A whole number of the form, at least `least`."""
    number = number_of(form, name)
    if number < least or number != int(number):
        raise bad_input(f"Invalid `{name}`.")
    return int(number)


def _check_words(form: Form, choices: Mapping[str, frozenset[str]]) -> None:
    for name, words in choices.items():
        if form.get(name) not in words:
            raise bad_input(f"Missing or invalid `{name}`.")


def _product(variety: str, product: str) -> str:
    # A cover order is sent as an intraday one and shown as what it is.
    if variety != "co":
        return product
    if product != "MIS":
        raise bad_input("Cover orders are only allowed with product MIS.")
    return "CO"


def _has_trigger(variety: str, order_type: str) -> bool:
    if variety == "co" and order_type in STOPS:
        raise bad_input("Cover orders are MARKET or LIMIT.")
    return variety == "co" or order_type in STOPS


def _limit(variety: str, form: Form, listing: Listing, last: Decimal | None) -> Decimal:
    if form["order_type"] not in _WITH_PRICE:
        return Decimal(0)
    if variety == "co" and number_of(form, "price") == 0 and last is not None:
        # The broker takes a cover order's entry without a price; it is then bid at the market's.
        return last
    return price_of(form, "price", listing)


def _protection(form: Form) -> Decimal:
    protection = number_of(form, "market_protection")
    if protection != _AUTOMATIC and not 0 <= protection <= _MOST_PROTECTION:
        raise bad_input("Invalid `market_protection`: -1, or a percentage above 0 and up to 100.")
    return protection


def _tag(form: Form) -> str:
    tag = form.get("tag", "")
    if len(tag) > TAG_LENGTH or not ((tag.isascii() and tag.isalnum()) or not tag):
        raise bad_input("Invalid `tag`: alphanumeric, at most 20 characters.")
    return tag


def _ttl(form: Form) -> int:
    if form.get("validity") != "TTL":
        return 0
    minutes = whole_of(form, "validity_ttl")
    if minutes > LONGEST_TTL:
        raise bad_input("Invalid `validity_ttl`: minutes, at most 360.")
    return minutes


def _legs(variety: str, form: Form, quantity: int) -> int:
    if variety != "iceberg":
        return 1
    if form["order_type"] not in {"LIMIT", "MARKET"}:
        raise bad_input("Iceberg orders are LIMIT or MARKET.")
    legs = whole_of(form, "iceberg_legs")
    if not 1 < legs <= MOST_LEGS or legs > quantity:
        raise bad_input(f"Invalid `iceberg_legs`: 2 to {MOST_LEGS}, and no more than the quantity.")
    return legs
