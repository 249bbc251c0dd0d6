"""What a human is told before an account's login ends, and when it has."""

from datetime import datetime, timedelta

from engine.domain.routing import Alert

#: How long before its end, and before the trade it is missed by, somebody is told.
AHEAD = timedelta(hours=1)


def word_on(ends: datetime, needed_in: timedelta, now: datetime, tenant: str, account: str) -> Alert | None:
    """What to tell of the token of `tenant`/`account` at real time `now`; None while it has long enough to live.

    `needed_in`: how long until the account's first trade, zero or less where it holds. At Kite every token ends at six
    in the morning, hours before the session: no more than a warning until it is about to be missed.
    """
    if now < ends - AHEAD:
        return None
    login = f"`engine account login {tenant} {account}`"
    if now < ends:
        said = f"the access token of {tenant}/{account} ends at {ends.isoformat()}, and it has strategies to trade"
        return Alert("warning", "token_ends", f"{said}; {login} after that")
    if needed_in > AHEAD:
        return Alert("warning", "token_ended", f"the access token of {tenant}/{account} has ended; {login}")
    said = f"{tenant}/{account} has no living access token and trades now or within the hour"
    return Alert("critical", "token_missing", f"{said}: nothing is bought, exits wait; {login}")
