"""What a human is told before an account's login ends, and when it has."""

from datetime import datetime, timedelta

from engine.domain.routing import Alert

#: How long before its end somebody is told.
AHEAD = timedelta(hours=1)


def word_on(ends: datetime, now: datetime, tenant: str, account: str) -> Alert | None:
    """What to tell of the token of `tenant`/`account` at real time `now`; None while it has long enough to live."""
    login = f"`engine account login {tenant} {account}`"
    if now >= ends:
        said = f"the access token of {tenant}/{account} ended at {ends.isoformat()}: nothing is bought, exits wait"
        return Alert("critical", "token_ended", f"{said}; {login}")
    if now >= ends - AHEAD:
        said = f"the access token of {tenant}/{account} ends at {ends.isoformat()}, and it has strategies to trade"
        return Alert("warning", "token_ends", f"{said}; {login}")
    return None
