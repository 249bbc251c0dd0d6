"""What each way a call over HTTP can end proves about the request: one row an exception and a status.

Knows no broker. A connector adds rows for its broker's own words of error, see `kite_errors`. A status alone proves
nothing: proxies, firewalls and login pages answer in the broker's place with any of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

from requests import exceptions as wire
from urllib3 import exceptions as pool

from engine.domain.broker import Outcome, RejectCause

#: How a call can end without a clear yes: an exception, a status, a broker's own word of error.
Ending: TypeAlias = type[Exception] | HTTPStatus | str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is proven of a request. `yields`: a definite error in the answer's body says it better."""

    outcome: Outcome
    cause: RejectCause | None = None
    yields: bool = False


DOUBT = Verdict(Outcome.TIMEOUT)
NOTHING_SENT = Verdict(Outcome.SERVER_DOWN)
#: A refusal whose status says nothing of its cause: the body does, and without it nothing is proven.
ASK_THE_BODY = Verdict(Outcome.TIMEOUT, yields=True)

#: Every exception of `requests`, once a request was begun: NOTHING_SENT only where its class alone says so.
#: Beside it the connection's own mark decides, see `http.outcome_of`.
EXCEPTIONS: Mapping[Ending, Verdict] = {
    # Raised while the request or its URL is built, or before the connection stands.
    wire.ConnectTimeout: NOTHING_SENT,
    wire.URLRequired: NOTHING_SENT,
    wire.MissingSchema: NOTHING_SENT,
    wire.InvalidSchema: NOTHING_SENT,
    wire.InvalidURL: NOTHING_SENT,
    wire.InvalidProxyURL: NOTHING_SENT,
    wire.InvalidHeader: NOTHING_SENT,
    wire.InvalidJSONError: NOTHING_SENT,
    # A refused connection and a reset one share these classes.
    wire.RequestException: DOUBT,
    wire.ConnectionError: DOUBT,
    wire.ProxyError: DOUBT,
    wire.SSLError: DOUBT,
    wire.Timeout: DOUBT,
    wire.ReadTimeout: DOUBT,
    wire.HTTPError: DOUBT,
    wire.TooManyRedirects: DOUBT,
    wire.ChunkedEncodingError: DOUBT,
    wire.ContentDecodingError: DOUBT,
    wire.StreamConsumedError: DOUBT,
    wire.RetryError: DOUBT,
    wire.UnrewindableBodyError: DOUBT,
    wire.JSONDecodeError: DOUBT,
    # Of the pool below `requests`, which orders go out on.
    pool.ConnectTimeoutError: NOTHING_SENT,
    pool.NewConnectionError: NOTHING_SENT,
    pool.LocationValueError: NOTHING_SENT,
    pool.HTTPError: DOUBT,
}


def _of_class(status: int) -> Verdict:
    """The verdict of a status by its hundred."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        # Only together with an order id in the body, see the connector.
        return Verdict(Outcome.ACCEPTED)
    # No redirect is followed, and a gateway's 5xx may hide an order that went through.
    return ASK_THE_BODY if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR else DOUBT


_BY_CLASS: dict[Ending, Verdict] = {status: _of_class(status) for status in HTTPStatus}

#: Every status HTTP knows, in an answer of the broker's own; `of_status` answers for the numbers it does not.
STATUSES: Mapping[Ending, Verdict] = _BY_CLASS | {
    HTTPStatus.TOO_MANY_REQUESTS: Verdict(Outcome.REJECTED, RejectCause.RATE_LIMITED),
}

#: Both: the rows every broker's table begins with.
WIRE: Mapping[Ending, Verdict] = {**EXCEPTIONS, **STATUSES}


def of_status(status: int) -> Verdict:
    """What the status of a broker's own answer proves; numbers nobody registered count by their hundred."""
    try:
        return STATUSES[HTTPStatus(status)]
    except ValueError:
        return _of_class(status)


def of_answer(table: Mapping[Ending, Verdict], status: int, error_type: str) -> Verdict:
    """What an error answer proves by its status and, by a connector's `table`, its broker's own word of error.

    `error_type` is "" where the body is not the broker's: then nothing is proven, whatever the status.
    """
    verdict = of_status(status)
    if not error_type or verdict.outcome is Outcome.ACCEPTED:
        return DOUBT
    told = table.get(error_type, DOUBT)
    return told if verdict.yields and told is not DOUBT else verdict
