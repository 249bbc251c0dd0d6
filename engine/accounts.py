"""What is heard of an account's broker, kept where all workers look, and told to a human where it changes."""

from datetime import timedelta

from engine.domain.broker import Reply
from engine.domain.health import Heard, alert_of, heard_of
from engine.domain.orders import Leg
from engine.ports import Log, Store, StoreClosed


class AccountWatch:
    """Hears calls for every account."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store = store
        self._log = log

    def placed(self, account_id: int, version: str, leg: Leg, reply: Reply) -> None:
        """What placing an order of `leg` told; never raises, for the order's own commit must follow."""
        after = timedelta(seconds=reply.retry_after) if reply.retry_after is not None else None
        try:
            self.hear(account_id, version, heard_of(reply), leg, after)
        except StoreClosed as error:
            self._log("store_closed", reason=str(error))

    def read(self, account_id: int, version: str) -> None:
        """A read was answered: whoever took the account's token for dead was mistaken. Raises StoreClosed."""
        self.hear(account_id, version, Heard.TOKEN_LIVES)

    def hear(
        self,
        account_id: int,
        version: str,
        heard: Heard,
        leg: Leg = Leg.EXIT,
        retry_after: timedelta | None = None,
    ) -> None:
        """Keep what was heard under the account's details of `version`. Raises StoreClosed."""
        changes = self._store.heard(account_id, version, heard, leg, retry_after)
        account = self._store.account(account_id) if changes else None
        if account is None:
            return
        for change in changes:
            alert = alert_of(change, account.tenant, account.name)
            self._log("alert", tenant=account.tenant, severity=alert.severity, code=alert.code, message=alert.message)
            self._store.alert(account.tenant, alert)
