"""Every way a call to Kite Connect v3 can fail, in one table, and what an error answer of it proves. Pure.

Source: kite.trade/docs/connect/v3/exceptions. Dispatches on the raw `error_type`: the official client folds some
of them together. An answer without one is not the broker's (a proxy's page, a login portal) and proves nothing.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from broker_connector.kite_words import LONGEST_REASON, legible
from broker_connector.verdicts import DOUBT, WIRE, Ending, Verdict, of_answer
from engine.domain.broker import Outcome, RejectCause, Reply

#: The one table: exceptions of `requests` and HTTP statuses, then the raw error types; one that is not here proves
#: nothing.
VERDICTS: Mapping[Ending, Verdict] = {
    **WIRE,
    "TokenException": Verdict(Outcome.TOKEN_INVALID),
    "MarginException": Verdict(Outcome.REJECTED, RejectCause.MARGIN),
    "InputException": Verdict(Outcome.REJECTED, RejectCause.INPUT),
    "OrderException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    "UserException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    # Shares whose sale the depository has not been authorised for.
    "HoldingException": Verdict(Outcome.REJECTED, RejectCause.AUTHORISATION),
    # A live token without the right to this call, from an unregistered address say: HTTP 403 as well.
    "PermissionException": Verdict(Outcome.REJECTED, RejectCause.OTHER),
    "NetworkException": DOUBT,
    "DataException": DOUBT,
    "GeneralException": DOUBT,
}

#: What is said of an error answer that is not in the broker's own form.
NOT_ITS_OWN = "an answer that is not the broker's own, of a proxy perhaps"

#: The longest pause a broker's answer may ask for, seconds: an exit waits for it.
LONGEST_PAUSE = 30.0

# Such a 400 was answered while the order went through seconds later. A refusal for want of margin sends its
# reader to the order book too, to look "for open orders".
_PERHAPS_PLACED = re.compile(
    r"tim(ed?|ing)[\s-]*out|check\s+the\s+order\s*book(?!\s+for\s+open\s+orders)", re.IGNORECASE
)


def verdict_of(status: int, error_type: str, message: str) -> Verdict:
    """What an HTTP error answer proves; doubt wherever it does not clearly say no."""
    verdict = of_answer(VERDICTS, status, error_type)
    if verdict.outcome is Outcome.REJECTED and _PERHAPS_PLACED.search(message):
        return DOUBT
    return verdict


def error_type_of(body: Mapping[str, Any]) -> str:
    """The broker's word for an error; "" where `body` is not an error as the broker writes them."""
    told = body.get("error_type")
    # A slice of an order has no `status` of its own.
    return told if isinstance(told, str) and body.get("status", "error") == "error" else ""


def error_reply(status: int, body: Mapping[str, Any] | None, retry_after: str | None) -> Reply:
    """The reply for an HTTP error; `body` is None where it could not be parsed."""
    fields = body or {}
    error_type = error_type_of(fields)
    message = legible(str(fields.get("message") or ""))[:LONGEST_REASON] if error_type else NOT_ITS_OWN
    verdict = verdict_of(status, error_type, message)
    return Reply(
        verdict.outcome,
        cause=verdict.cause,
        message=f"HTTP {status}: {message}".rstrip(": "),
        retry_after=_seconds(retry_after),
    )


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else -1.0
    except ValueError:
        return None
    # What is no number of seconds, or endless, tells nothing.
    return min(seconds, LONGEST_PAUSE) if 0 <= seconds < math.inf else None
