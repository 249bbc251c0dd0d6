"""Alerts that are told once, whoever looks and however often."""

from typing import Protocol

from engine.domain.routing import Alert
from engine.domain.strategy import UnconfirmedYear
from engine.ports import Log


class Once(Protocol):
    """Where alerts go."""

    def alert_once(self, tenant: str, alert: Alert, name: str) -> bool:
        """As `engine.ports.Store.alert_once`."""


class Told:
    """What somebody was told of already: once for each name, whoever asks and however often it is looked at."""

    def __init__(self, store: Once, log: Log) -> None:
        self._store = store
        self._log = log
        self._names: set[tuple[object, ...]] = set()

    def once(self, what: tuple[object, ...], tenant: str, alert: Alert) -> None:
        """Record `alert`, once for each `what`. Raises StoreClosed."""
        if what in self._names:
            return
        if self._store.alert_once(tenant, alert, ":".join(map(str, what))):
            self._log("alert", tenant=tenant, severity=alert.severity, code=alert.code, message=alert.message)
        self._names.add(what)

    def of_year(self, error: UnconfirmedYear) -> None:
        """Record that nobody vouches for a year, once, for the operator. Raises StoreClosed."""
        alert = Alert("critical", "year_unconfirmed", str(error))
        self.once((alert.code, error.exchange, error.year), "", alert)
