"""The warm connection of each account, made on first use and made anew when the account's details change."""

import json
import threading
from collections.abc import Callable

from cryptography.fernet import InvalidToken

from broker_connector.registry import Credentials, Reading, connect
from engine.ports import AccountState, Broker, StoreClosed


class BrokerPool:
    """The `Brokers` port: one connector an account in this process, shared by its threads."""

    def __init__(
        self,
        account: Callable[[int], AccountState | None],
        decrypt: Callable[[str], str],
        around: Callable[[Broker], Broker] = lambda broker: broker,
        reading: Callable[[AccountState], Reading] = lambda _: Reading(),
    ) -> None:
        """`around`: what is put around every connector. `reading`: how an account's rows are read."""
        self._account = account
        self._decrypt = decrypt
        self._around = around
        self._reading = reading
        self._lock = threading.Lock()
        self._open: dict[int, tuple[str, Broker]] = {}

    def of(self, account_id: int, version: str) -> Broker:
        """The account's broker; raises StoreClosed where the live state knows no such account."""
        known = self._open.get(account_id)
        if known is not None and known[0] == version:
            return known[1]
        with self._lock:
            known = self._open.get(account_id)
            if known is None or known[0] != version:
                known = self._open[account_id] = self._connect(account_id)
            return known[1]

    def _connect(self, account_id: int) -> tuple[str, Broker]:
        account = self._account(account_id)
        if account is None:
            raise StoreClosed(f"account {account_id} is not in the live state: the recoverer writes it")
        credentials = credentials_of(account, self._decrypt)
        connector = connect(account.broker, account.base_url, credentials, self._reading(account))
        return account.version, self._around(connector)

    def close(self) -> None:
        """Close every connection."""
        for _, broker in self._open.values():
            broker.close()
        self._open.clear()


def credentials_of(account: AccountState, decrypt: Callable[[str], str]) -> Credentials:
    """What proves `account` to its broker; nothing where the secret key in use does not open it."""
    try:
        plain = json.loads(decrypt(account.secrets))
    except InvalidToken:
        # Sealed with a key that is not in use: it is as good as none, and a login stores it anew.
        return Credentials("", "")
    return Credentials(plain["api_key"], plain["access_token"])
