"""The repositories: what the engine stores and asks for, as domain values over a session factory."""

from models.repositories.accounts import Account, Accounts, Tenants
from models.repositories.bookkeeping import CalendarTable, EngineEpoch, Epoch
from models.repositories.history import Alert, Alerts, History, HistoryEntry, StoredDeadLetter
from models.repositories.runs import Runs
from models.repositories.strategies import Refused, Strategies

__all__ = [
    "Account",
    "Accounts",
    "Alert",
    "Alerts",
    "CalendarTable",
    "EngineEpoch",
    "Epoch",
    "History",
    "HistoryEntry",
    "Refused",
    "Runs",
    "StoredDeadLetter",
    "Strategies",
    "Tenants",
]
