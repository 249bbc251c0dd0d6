"""What every connector does with an answer: a read is tried again, and what cannot be translated was not answered.

Knows no broker's paths, words or errors.
"""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from broker_connector.http import Answer, Failure
from engine.domain.broker import BrokerUnreachable, Outcome, RejectCause, Reply, TokenInvalid

#: Tries of a read, and the bounds of the random pause between them, seconds.
READ_ATTEMPTS, READ_PAUSE, READ_PAUSE_MAX = 4, 0.2, 1.0
#: Seconds after which a read is not tried again: a broker that hangs holds a thread for one try more at most.
READ_WITHIN = 4.0
#: The longest pause between two tries a broker may ask for, seconds: its windows for reads last one.
READ_PAUSE_ASKED = 2.0
#: Characters that are kept of why data could not be read.
LONGEST_REASON = 500

T = TypeVar("T")


class Unanswered(Exception):
    """Raised when one try of a read gave nothing; another may, `after` so many seconds where the broker said so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _pause(state: RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    asked = failed.after or 0.0 if isinstance(failed, Unanswered) else 0.0
    return max(wait_random_exponential(READ_PAUSE, READ_PAUSE_MAX)(state), min(asked, READ_PAUSE_ASKED))


def retried(read: Callable[[], T]) -> T:
    """What `read` gives in one of its tries; raises BrokerUnreachable where none gave anything."""
    retrying = Retrying(
        retry=retry_if_exception_type(Unanswered),
        stop=stop_after_attempt(READ_ATTEMPTS) | stop_after_delay(READ_WITHIN),
        wait=_pause,
        reraise=True,
    )
    try:
        return retrying(read)
    except Unanswered as error:
        raise BrokerUnreachable(str(error)) from error


def body_of(answer: Answer | Failure, error_reply: Callable[[Answer], Reply]) -> bytes:
    """The body of a read's good answer; raises Unanswered, TokenInvalid or BrokerUnreachable.

    `error_reply`: what an error answer of this broker proves.
    """
    if isinstance(answer, Failure):
        raise Unanswered(answer.message)
    if answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer.body
    reply = error_reply(answer)
    if reply.outcome is Outcome.TOKEN_INVALID:
        raise TokenInvalid(reply.message)
    if reply.outcome is Outcome.REJECTED and reply.cause is not RejectCause.RATE_LIMITED:
        raise BrokerUnreachable(reply.message)
    raise Unanswered(reply.message, reply.retry_after)


def parsed(body: bytes) -> Any:
    """The JSON of a read, its fractions as Decimal; raises Unanswered."""
    try:
        return json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise Unanswered(f"unreadable answer: {type(error).__name__}") from error


def fields_of(answer: Answer) -> Mapping[str, Any] | None:
    """The JSON object of an answer that changes something; None where there is none."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def translated(translate: Callable[[], T]) -> T:
    """What `translate` makes of the broker's data; raises BrokerUnreachable where it cannot be read."""
    try:
        return translate()
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise BrokerUnreachable(f"unreadable data: {error}"[:LONGEST_REASON]) from error
