"""The broker's refusals, as it words them: an HTTP status, an `error_type` and a message."""

from http import HTTPStatus


class BrokerError(Exception):
    """Raised when a request is refused; the server turns it into the broker's JSON error."""

    def __init__(
        self, error_type: str, message: str, status: int = HTTPStatus.BAD_REQUEST, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.status = int(status)
        self.retry_after = retry_after


def bad_input(message: str) -> BrokerError:
    """The refusal of a form that no retry can make good."""
    return BrokerError("InputException", message)


def bad_token() -> BrokerError:
    """The refusal of a dead or foreign access token."""
    return BrokerError("TokenException", "Incorrect `api_key` or `access_token`.", HTTPStatus.FORBIDDEN)


def too_many(retry_after: float) -> BrokerError:
    """The refusal of a request over the account's rate."""
    return BrokerError("NetworkException", "Too many requests", HTTPStatus.TOO_MANY_REQUESTS, retry_after)
