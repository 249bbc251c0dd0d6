"""Whether any news of a run is lost in the live state, judged at each call: what came is looked at, and once."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from engine.domain.routing import Alert
from engine.ports import Holding, Note, Refused
from engine.runtime import codec, keys
from engine.simulation.invariants import Violation
from engine.simulation.livestate import LiveState
from engine.simulation.scenario import Seed

#: How soon a run that was found held is looked at again, after its holder's lease.
RETRIED_WITHIN = timedelta(seconds=0.3)
#: The longest a run is let alone that does not answer.
LONGEST = timedelta(seconds=30)
#: The same words about a run are no news within this.
SAID_AGAIN = timedelta(seconds=5)


class News:
    """Counts what each run was told, and what its holders have seen of that."""

    def __init__(self, seed: Seed, store: LiveState, engine_now: Callable[[], datetime]) -> None:
        """`engine_now`: the time by the engine's clock, which `due` is told by."""
        self._seed = seed
        self._store = store
        self._engine_now = engine_now
        self._epoch: str | None = None
        #: How often each run was given news, and hints among them; how many of both its holder has seen.
        self._news: Counter[str] = Counter()
        self._hints: Counter[str] = Counter()
        self._seen: dict[str, tuple[int, int]] = {}
        #: How much news each run had when it was latched last: its worker is told the run as it was then.
        self._breached: Counter[str] = Counter()
        #: When each run was nudged last, and which nudge that was.
        self._nudged: dict[str, tuple[datetime, int]] = {}
        #: What was last said of each run, run by run and word by word.
        self._said: dict[tuple[str, str, str], datetime] = {}
        #: What was told once.
        self._once: set[str] = set()
        self._judges: dict[str, Callable[[tuple[Any, ...], Mapping[str, Any], Any], None]] = {
            "claim": lambda given, _named, reply: self._claimed(str(given[0].run_id), reply),
            "intend": lambda given, _named, reply: self._intended(given[0], is_granted=reply is None),
            "commit": lambda given, named, reply: self._committed(
                str(given[0].run.id), given[4], is_over=bool(named.get("finished")), is_released=reply is None
            ),
            "signal": lambda given, _named, reply: self._signaled(given, reply, is_hint="dirty" in given[1]),
            "tell": lambda given, _named, reply: self._signaled(given, reply, is_hint=False),
            "sweep": lambda _given, _named, reply: self._swept(reply),
            # It may have any run of its account looked at.
            "cover": lambda _given, _named, _reply: self._nudged.clear(),
            "alert": lambda given, _named, _reply: self._told_of_an_account(given[1]),
            "alert_once": lambda given, _named, reply: self._alerted(given[2], is_new=reply),
        }

    def called(self, name: str, given: tuple[Any, ...], named: Mapping[str, Any], reply: Any) -> None:
        """A call of the store has answered `reply`."""
        epoch = self._store.server.keys.do_get(keys.EPOCH)
        if epoch != self._epoch:
            self._epoch = epoch
            for kept in (self._news, self._hints, self._seen, self._breached, self._nudged, self._said, self._once):
                kept.clear()
        if name in self._judges:
            self._judges[name](given, named, reply)

    def told(self, run: str, due: datetime, *, is_hint: bool = False) -> None:
        """A run was given news: whoever holds it looks again, and it is looked at by `due` in any case."""
        self._news[run] += 1
        self._hints[run] += is_hint
        self._nudged.pop(run, None)
        score = self._store.server.keys.call("ZSCORE", [keys.DUE, run])
        if score is None or float(score) > codec.to_us(due):
            raise Violation(f"{run} has news to be looked at by {due:%M:%S.%f}, and is due at {score}")

    def latched(self, run: str, due: datetime) -> None:
        """A run was latched, and told as it is to whoever serves the breach."""
        self.told(run, due)
        self._breached[run] = self._news[run]

    def _signaled(self, given: tuple[Any, ...], reply: Any, *, is_hint: bool) -> None:
        if reply == "ok":
            self.told(str(given[0]), given[2], is_hint=is_hint)

    def _claimed(self, run: str, reply: Any) -> None:
        if isinstance(reply, Holding):
            self._look(run)
        elif reply is Refused.BUSY:
            left = timedelta(milliseconds=max(0, self._store.server.keys.do_pttl(keys.lock(run))))
            self.told(run, self._engine_now() + left + RETRIED_WITHIN)
        else:
            # Where its account has no free slot, it is looked at again at once.
            self._nudged.pop(run, None)

    def _intended(self, holding: Holding, *, is_granted: bool) -> None:
        run = str(holding.run.id)
        news, _ = self._seen.get(run, (0, 0))
        if is_granted and holding.glanced_at and self._news[run] > max(news, self._breached[run]):
            raise Violation(f"{run} was granted an order by what was read before its last news")
        # An order that goes out is looked at by its own time.
        self._nudged.pop(str(holding.run.id), None)
        if holding.glanced_at:
            # It was granted as it was read, so that nothing can have come since.
            self._look(str(holding.run.id))

    def _committed(self, run: str, note: Note | None, *, is_over: bool, is_released: bool) -> None:
        for alert in note.alerts if note else ():
            self._said_of(run, alert)
        news, hints = self._seen.get(run, (0, 0))
        if not is_over and self._hints[run] > hints and not self._is_dirty(run):
            raise Violation(f"a hint that came while {run} was held is gone")
        if not is_over and self._news[run] > news and is_released:
            raise Violation(f"{run} was let go with news that nobody has looked at")
        self._nudged.pop(run, None)
        self._look(run)

    def _said_of(self, run: str, alert: Alert) -> None:
        """Whoever is told the same again and again reads none of it."""
        words, now = (run, alert.code, alert.message), self._engine_now()
        before = self._said.get(words)
        if before is not None and now - before < SAID_AGAIN:
            raise Violation(f"{run}: {alert.code} was told twice within {now - before}: {alert.message}")
        self._said[words] = now

    def _told_of_an_account(self, alert: Alert) -> None:
        """A token that lived in between, and is refused again, is news."""
        if alert.code == "token_lives":
            for words in [words for words in self._said if words[1] == "token_invalid"]:
                del self._said[words]

    def _is_dirty(self, run: str) -> bool:
        return bool(self._store.server.keys.call("HGET", [keys.runtime(run), "dirty"]))

    def _look(self, run: str) -> None:
        """Whoever holds a run knows all its news now."""
        self._seen[run] = (self._news[run], self._hints[run])

    def _swept(self, found: Any) -> None:
        """Each nudge without an answer lets a run alone for longer."""
        now = self._engine_now()
        for each, nudges in found:
            run = str(each.id)
            before, number = self._nudged.get(run, (None, 0))
            # In a hard world much makes a run due besides.
            is_plain = not self._seed.hard.kinds
            if is_plain and before is not None and now - before < min(timedelta(seconds=2 ** (number - 1)), LONGEST):
                raise Violation(f"{run} was nudged {now - before} after nudge {number}")
            self._nudged[run] = (now, nudges)

    def _alerted(self, name: str, *, is_new: bool) -> None:
        if is_new and name in self._once:
            raise Violation(f"{name} was told twice")
        self._once.add(name)
