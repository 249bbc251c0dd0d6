"""The work of every peer: claim the run with one script, send its order, commit with another.

The least an order can be: what the engine does beyond it (a third script, decisions, evidence, log lines) is left out.
"""

import os
import secrets
import threading
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

from redis.client import Redis

#: Lock a run and load it. KEYS lock, run. ARGV token. Reply the run's fields, or false where it is locked.
CLAIM = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', 5000) then return false end
return redis.call('HGETALL', KEYS[2])
"""
#: Apply, record, unlock. KEYS lock, run, ledger. ARGV token, run. Reply whether the lock was still ours.
COMMIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('HSET', KEYS[2], 'position', 'bought', 'order', ARGV[2], 'updated_at', redis.call('TIME')[1])
redis.call('XADD', KEYS[3], '*', 'run', ARGV[2])
redis.call('DEL', KEYS[1])
return true
"""
LEDGER = "peer:ledger"
#: An order as the engine sends it.
FORM = {
    "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": "10", "product": "MIS",
    "order_type": "MARKET", "validity": "DAY", "market_protection": "-1",
}  # fmt: skip
HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "X-Kite-Version": "3"}


class Work:
    """Serves events. One a process, safe to call from many threads."""

    def __init__(self, redis: Redis, sink: str) -> None:
        self._claim, self._commit = redis.register_script(CLAIM), redis.register_script(COMMIT)
        self._host = urlsplit(sink).netloc
        self._own = threading.local()

    def serve(self, run: str) -> None:
        """One event, once: it does nothing where the run is locked."""
        token, names = secrets.token_hex(8), [f"peer:lock:{run}", f"peer:run:{run}"]
        if self._claim(keys=names, args=[token]) is None:
            return
        self._post(run)
        self._commit(keys=[*names, LEDGER], args=[token, run])

    def _post(self, run: str) -> None:
        line = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = HTTPConnection(self._host)
        line.request("POST", "/orders/regular", urlencode({**FORM, "tag": run}), HEADERS)
        line.getresponse().read()


_work: Work | None = None
_lock = threading.Lock()


def serve(run: str) -> None:
    """One event, by the server and the sink of the environment."""
    global _work  # noqa: PLW0603 - one a process is the point
    with _lock:
        if _work is None:
            _work = Work(Redis.from_url(os.environ["REDIS_URL"], decode_responses=True), os.environ["BENCH_SINK"])
    _work.serve(run)
