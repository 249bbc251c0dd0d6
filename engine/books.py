"""Order books as one pass needs them: each account's read once, and not again where it cannot be read."""

from collections.abc import Mapping, Sequence

from engine.domain.broker import BookEntry, BrokerUnreachable, TokenInvalid
from engine.ports import AccountState, Brokers, Log


class Books:
    """The order books of one pass, each read at most once."""

    def __init__(self, brokers: Brokers, accounts: Mapping[int, AccountState], log: Log) -> None:
        self._brokers = brokers
        self._accounts = accounts
        self._log = log
        self._read: dict[int, Sequence[BookEntry] | None] = {}

    def of(self, account_id: int) -> Sequence[BookEntry] | None:
        """The account's whole book; None where it cannot be read."""
        if account_id not in self._read:
            self._read[account_id] = self._ask(account_id)
        return self._read[account_id]

    def _ask(self, account_id: int) -> Sequence[BookEntry] | None:
        try:
            return self._brokers.of(account_id, self._accounts[account_id].version).orders()
        except (BrokerUnreachable, TokenInvalid) as error:
            self._log("account_down", account=account_id, reason=str(error))
            return None
