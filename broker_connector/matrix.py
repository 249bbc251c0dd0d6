"""The behaviours every connector must show, numbered: one table, tested on a real wire by `tests/contract`.

`python -m broker_connector.matrix` writes `docs/connectors.md` from it and from the connectors' profiles.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from broker_connector import template
from broker_connector.registry import BROKERS
from engine.domain.broker import BrokerProfile

#: Where it is committed.
PAGE = Path(__file__).parent.parent / "docs" / "connectors.md"

#: Row -> what a connector does. A row of the port keeps money safe; one of a tool serves people.
ROWS: Mapping[str, str] = {
    # Placing and filling.
    "B01": "a market order is accepted, and its fill is evidence in the book",
    "B02": "an order's trades tell when, how much and at which price it filled",
    "B03": "a limit order away from the market rests, and fills when the price comes",
    "B04": "a partly filled order says so",
    "B05": "a market order carries the protection its broker demands, and may rest unfilled for it",
    "B06": "times are aware UTC",
    "B07": "a tag of the profile's full length comes back whole",
    "B08": "an order's history tells its states, oldest first",
    # Canceling and changing.
    "B10": "a resting order is canceled on request",
    "B11": "a cancel is refused because the order filled",
    "B12": "a canceled order keeps what filled",
    "B13": "canceling an unknown order is refused",
    "B14": "a resting order is changed to another limit, and fills there",
    "B15": "a change is refused because the order filled",
    "B16": "a change whose answer was lost is in doubt",
    # Refusals, by cause.
    "B20": "a definite no is rejected with its cause, and nothing is in the book",
    "B21": "an order refused after acceptance is rejected in the book",
    "B22": "too many orders are rejected, and say how long to wait",
    "B23": "a symbol that does not exist is an input error",
    "B24": "a price between two ticks is an input error",
    # Doubt.
    "B30": "an order whose answer was lost, or denied it by a 400, is in doubt and found by its id",
    "B31": "an order that never arrived is in doubt too, and absent from the book",
    "B32": "an error that proves nothing is doubt",
    "B33": "a doubtful order may come late",
    "B34": "a repeated id makes no second order where the profile says idempotent; elsewhere both are found",
    "B35": "a slow answer within the timeout is an answer",
    "B36": "a cancel whose answer was lost is in doubt",
    "B37": "after a restart mid-order another connector finds the order by its id and cancels it",
    # Nothing was sent.
    "B40": "a server that does not listen got nothing",
    "B41": "without permission nothing is sent",
    "B42": "permission is asked once an order, right before the write, and not for reads",
    "B43": "a connection the peer closed is replaced before the order is written",
    "B44": "connections opened ahead are counted, and orders go out on them",
    # The account.
    "B50": "a dead token is told apart, in orders and in reads",
    "B51": "the account has a name",
    "B52": "positions follow the fills",
    "B53": "instruments are listed with token, tick size, lot and scale, and nothing of another exchange",
    "B54": "quotes carry price, band and time, and leave unknown symbols out",
    "B55": "a token that dies in between places nothing, and a live one goes on",
    "B56": "every fill of the account is among its trades",
    "B57": "the account's money is told by segment",
    "B58": "what settled is sellable together with today's trades, and a sale of it counts once",
    # Reads.
    "B60": "a read is tried again",
    "B61": "a book that cannot be read says so, and is not empty",
    "B62": "a read over the rate is tried again, not before the broker said",
    # Many threads.
    "B70": "orders of many threads all arrive, once each",
}

#: Connector -> the rows it lacks, and why. A connector that trades lacks none.
LACKING: Mapping[str, Mapping[str, str]] = {"kite": {}, "template": template.MISSING}


def page() -> str:
    """The text of docs/connectors.md."""
    return "\n".join([*_head(), *_profiles(), *_rows(), *_gaps()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Connectors"
    yield ""
    yield "Written by `python -m broker_connector.matrix` from the table the contract tests are held to; do not edit."
    yield "How to add a broker: [write-a-connector.md](write-a-connector.md)."
    yield ""


def _profiles() -> Iterator[str]:
    profiles = [*(entry.profile for entry in BROKERS.values()), template.PROFILE]
    yield "## What each broker promises"
    yield ""
    yield "| broker | idempotent | grace | answer timeout | longest tag | orders a second, minute, day |"
    yield "|---|---|---|---|---|---|"
    yield from map(_profile, profiles)
    yield ""


def _profile(profile: BrokerProfile) -> str:
    rates = ", ".join(str(profile.rates.get(window, "any")) for window in ("second", "minute", "day"))
    answers = "yes" if profile.idempotent else "no"
    facts = (profile.name, answers, f"{profile.grace:g} s", f"{profile.answer_timeout:g} s", profile.tag_length, rates)
    return f"| {' | '.join(map(str, facts))} |"


def _rows() -> Iterator[str]:
    yield "## What each connector does"
    yield ""
    yield "`kite` also speaks to the paper broker, where its rows are tested."
    yield ""
    yield f"| row | behaviour | {' | '.join(LACKING)} |"
    yield f"|---|---|{'---|' * len(LACKING)}"
    for number, says in ROWS.items():
        marks = ("missing" if number in lacking else "yes" for lacking in LACKING.values())
        yield f"| {number} | {says} | {' | '.join(marks)} |"
    yield ""


def _gaps() -> Iterator[str]:
    for name, lacking in LACKING.items():
        if lacking:
            yield f"## What `{name}` lacks"
            yield ""
            yield from (f"- **{number}** {reason}" for number, reason in lacking.items())


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
