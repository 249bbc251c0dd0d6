"""Credentials at rest: encrypted in the row with Fernet, hidden from every repr. Knows no broker's key names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Text, TypeDecorator
from sqlalchemy.engine import Dialect


class SecretsUnavailable(Exception):
    """Raised when credentials are read or written without the key that fits them."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an account logs in with, by the broker's own key names. Its repr shows nothing of it."""

    values: Mapping[str, str] = field(repr=False, default_factory=dict)


class Encrypted(TypeDecorator[Credentials]):
    """A column of `Credentials`; plain only in memory. `use` must have named the keys first.

    Keys belong to the process: a column type is shared by every session of it.
    """

    impl = Text
    cache_ok = True
    _cipher: MultiFernet | None = None

    @classmethod
    def use(cls, *keys: str) -> None:
        """Encrypt with the first of `keys` (Fernet, url-safe base64); decrypt with any, so keys can rotate."""
        cls._cipher = MultiFernet([Fernet(key) for key in keys])

    def process_bind_param(self, value: Credentials | None, _dialect: Dialect) -> str | None:
        if value is None:
            return None
        plain = json.dumps(dict(value.values), sort_keys=True)
        return self._ready().encrypt(plain.encode()).decode()

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> Credentials | None:
        if value is None:
            return None
        try:
            return Credentials(json.loads(self._ready().decrypt(value)))
        except InvalidToken:
            raise SecretsUnavailable("stored credentials do not fit the secret key in use") from None

    @classmethod
    def _ready(cls) -> MultiFernet:
        if cls._cipher is None:
            raise SecretsUnavailable("no secret key is set; credentials can be neither stored nor read")
        return cls._cipher
