"""How a session at the paper broker begins, is renewed and ends. Pure; refusals are raised as the broker's errors."""

from collections.abc import Callable, Mapping
from typing import Any

from broker_connector.paper.accounts import Account, Accounts
from broker_connector.paper.wire import session_json

#: Accounts, the form, the time as the broker writes it -> JSON data.
Act = Callable[[Accounts, Mapping[str, str], str], Any]


def log_in(accounts: Accounts, form: Mapping[str, str], at: str) -> Any:
    """POST /session/token."""
    return _session(accounts.log_in(*_words(form, "api_key", "request_token", "checksum")), at)


def renew(accounts: Accounts, form: Mapping[str, str], at: str) -> Any:
    """POST /session/refresh_token."""
    return _session(accounts.renew(*_words(form, "api_key", "refresh_token", "checksum")), at)


def log_out(accounts: Accounts, form: Mapping[str, str], _at: str) -> Any:
    """DELETE /session/token."""
    accounts.log_out(*_words(form, "api_key", "access_token", "refresh_token"))
    return True


def _words(form: Mapping[str, str], first: str, second: str, third: str) -> tuple[str, str, str]:
    return form.get(first, ""), form.get(second, ""), form.get(third, "")


def _session(opened: tuple[Account, str, str], at: str) -> dict[str, Any]:
    return session_json(*opened, login_time=at)


SESSIONS: tuple[tuple[str, str, Act], ...] = (
    ("POST", "/session/token", log_in),
    ("POST", "/session/refresh_token", renew),
    ("DELETE", "/session/token", log_out),
)
