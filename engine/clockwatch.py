"""Whether this process's clock can be traded by: it is held against others' time, and entries wait while it is doubted.

What may open a position waits; what protects one goes on by the only clock there is.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from redis.client import Redis
from redis.exceptions import RedisError

from broker_connector.http import newest_date
from engine.clock import RealTime
from engine.domain.routing import Alert
from engine.ports import Log, Store, StoreClosed

#: How far two clocks may be apart.
APART = timedelta(milliseconds=500)
#: Seconds between two looks at other clocks.
EVERY = 1.0
#: How old a broker's Date may be as it is told (whole seconds, which servers keep for one more), and how long one that
#: was heard counts, seconds.
DATE_AGE, DATE_KEPT = timedelta(seconds=2), 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """What another clock said, and ours at that instant; `age` is how old what it says may be."""

    theirs: datetime
    ours: datetime
    age: timedelta = timedelta(0)

    @property
    def off_by(self) -> timedelta:
        """How far ours is from it, beyond what its age explains; positive where ours is ahead."""
        ahead = self.ours - self.theirs
        return ahead - self.age if ahead > self.age else min(ahead, timedelta(0))


#: A clock to ask; None where it has nothing to say.
Witness = Callable[[], Told | None]


def of_broker(real: RealTime) -> Told | None:
    """What the broker's server put on its newest answer."""
    newest, before, now, after = newest_date(), time.monotonic(), real.now(), time.monotonic()
    if newest is None or after - newest.heard_at > DATE_KEPT:
        return None
    # An answer that was long under way, or a pause of ours just now, is no difference between clocks.
    age = DATE_AGE + timedelta(seconds=newest.took + after - before)
    return Told(newest.date, now - timedelta(seconds=before - newest.heard_at), age)


def of_redis(real: RealTime, redis: Redis) -> Told | None:
    """What Redis' host says."""
    before = real.now()
    try:
        seconds, micros = redis.time()
    except RedisError:
        return None
    told, after = datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(micros)), real.now()
    # It was read at any moment between: an answer that was long under way is no difference between clocks.
    return Told(told, after, after - before)


class ClockWatch:
    """Holds our clock against each witness. One that a weightier one disproves says nothing.

    The host's wall is none of them: where it alone has jumped, nothing is wrong with the clock we carry.
    """

    def __init__(self, clock: RealTime, witnesses: Mapping[str, Witness], store: Store, log: Log) -> None:
        """`witnesses` by name, the weightiest first."""
        self._clock = clock
        self._witnesses = witnesses
        self._store = store
        self._log = log

    def start(self) -> None:
        """Look now, and from now on in a thread of its own."""
        self.look()
        threading.Thread(target=self._go_on, name="clock-watch", daemon=True).start()

    def look(self) -> None:
        """Trust the clock or doubt it; a change is told. Where the host was set right meanwhile, follow it."""
        doubt = self._doubt()
        if doubt and not self._doubt(self._clock.wall_ahead):
            self._clock.follow_wall()
            doubt = ""
        was, self._clock.doubt = self._clock.doubt, doubt
        if doubt and not was:
            message = f"this host's clock is {doubt}: nothing is bought until they agree; set the clock right"
            self._tell(Alert("critical", "clock_disagrees", message))
        elif was and not doubt:
            self._tell(Alert("info", "clock_agrees", "this host's clock agrees with the others again"))

    def _doubt(self, shift: timedelta = timedelta(0)) -> str:
        """Why our clock, moved by `shift`, is not to be trusted."""
        #: How far off ours can be at most, by the finest of those that agreed.
        proven = timedelta.max
        for name, witness in self._witnesses.items():
            told = witness()
            if told is None:
                continue
            told = replace(told, ours=told.ours + shift)
            if abs(told.off_by) <= APART:
                proven = min(proven, told.age + APART)
            elif abs(told.off_by) <= proven:
                return f"{told.off_by.total_seconds():+.1f} s off {name}"
        return ""

    def _tell(self, alert: Alert) -> None:
        self._log("alert", severity=alert.severity, code=alert.code, message=alert.message)
        try:
            self._store.alert("", alert)
        except StoreClosed as error:
            self._log("store_closed", reason=str(error))

    def _go_on(self) -> None:
        while True:
            time.sleep(EVERY)
            self.look()
