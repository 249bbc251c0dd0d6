"""Which accounts may trade at any moment now, as the live state tells."""

from collections.abc import Callable
from datetime import timedelta

from redis.client import Redis

from engine.domain.moment import Moment
from engine.runtime import codec, keys

#: How long before its first trade an account counts.
AHEAD = timedelta(seconds=60)
#: Live runs of an account that are looked at: those of one account have mostly the same hours.
SAMPLE = 5


class AtWork:
    """Reads without the epoch: what it tells is a hint."""

    def __init__(self, redis: "Redis", now: Callable[[], Moment]) -> None:
        self._redis = redis
        self._now = now

    def accounts(self) -> list[tuple[int, str]]:
        """(account, version of its details) of those that trade now or soon. Raises RedisError."""
        ids: list[int] = sorted(int(name) for name in self._redis.smembers(keys.ACCOUNTS))
        with self._redis.pipeline(transaction=False) as pipe:
            for account in ids:
                pipe.srandmember(keys.account_runs(account), SAMPLE)
            sampled: list[list[str]] = pipe.execute()
            for account, runs in zip(ids, sampled, strict=True):
                pipe.hget(keys.account(account), "version")
                for run in runs:
                    pipe.hmget(keys.runtime(run), "buy_at", "closes_at")
            replies = iter(pipe.execute())
        found = []
        for account, runs in zip(ids, sampled, strict=True):
            version = next(replies)
            hours = [next(replies) for _ in runs]
            if version is not None and any(self._is_now(*each) for each in hours):
                found.append((account, version))
        return found

    def _is_now(self, buy_at: str | None, closes_at: str | None) -> bool:
        # A run may end between the two questions.
        if buy_at is None or closes_at is None:
            return False
        return codec.from_us(buy_at) - AHEAD <= self._now().market <= codec.from_us(closes_at)
