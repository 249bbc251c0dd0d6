"""The operator's word on the calendar where whoever must not depend on PostgreSQL reads it."""

from collections.abc import Iterable
from datetime import date, time

import orjson
from redis.client import Redis

from engine.calendar import Calendar, Override, OverrideKind
from engine.runtime import keys


class CalendarWord:
    """Kept by the recoverer. Without the epoch: it is true of any. Every call raises RedisError."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._is_known = False

    def keep(self, calendar: Calendar) -> None:
        """Write the word `calendar` has learned."""
        overrides, confirmed = calendar.word
        said = [
            [each.exchange, each.date, each.kind, each.opens, each.closes, each.note]
            for each in sorted(overrides, key=lambda each: (each.exchange, each.date))
        ]
        self._redis.set(keys.CALENDAR, orjson.dumps({"overrides": said, "confirmed": sorted(confirmed)}))

    def teach(self, calendar: Calendar) -> bool:
        """Have `calendar` follow it; where it is lost or cannot be read, what was known. Whether any ever was."""
        stored = self._redis.get(keys.CALENDAR)
        if stored is not None:
            try:
                told = orjson.loads(str(stored))
                confirmed = [(str(exchange), int(year)) for exchange, year in told["confirmed"]]
                calendar.learn(_overrides(told["overrides"]), confirmed)
            except (KeyError, TypeError, ValueError):
                return self._is_known
            self._is_known = True
        return self._is_known


def _overrides(said: Iterable[list[str]]) -> list[Override]:
    return [
        Override(exchange, date.fromisoformat(day), OverrideKind(kind), _time(opens), _time(closes), note)
        for exchange, day, kind, opens, closes, note in said
    ]


def _time(text: str | None) -> time | None:
    return time.fromisoformat(text) if text else None
