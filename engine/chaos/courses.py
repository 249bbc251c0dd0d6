"""How each kind of fault is put in: a course a kind, advanced at every look until the fault is over.

Placed by points, by the broker's own scripted faults, or by what was seen; a pause is only ever how long a fault lasts.
"""

import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

from broker_connector.paper.faults import REFUSE, SCRAMBLE
from engine.chaos.field import Course, Field, pause, send, until
from engine.chaos.tap import Blow
from engine.domain.events import EventType
from engine.domain.run import RunId

Put = Callable[[Field], Course]

#: The beats: one fires, the other is ready to.
BEATS = ("beat", "beat-2")
#: How long a stopped worker stays stopped, seconds: past the lease of a claim, and of an intent with its send_by.
STOPPED_FOR = 9.0
#: How long PostgreSQL is down, and a token dead, seconds.
POSTGRES_DOWN, TOKEN_DEAD = 30.0, 6.0
#: How much of Redis' last writing is lost, seconds.
LOST = 1.0
#: Repeats of one message, messages before a STOPLOSS, and how many are published between two looks.
REPEATS, BACKLOG, AT_ONCE = 10_000, 5_000, 250
#: Strategy ids no strategy has.
NOBODY = count(10_000_000_000)


def kill(processes: Sequence[str], point: str, *, afresh: bool = False) -> Put:
    """SIGKILL of whichever of `processes` reaches `point` first; `afresh`: of one that has just been started."""

    def put(field: Field) -> Course:
        if afresh:
            yield from _restarted(field, processes[0])
        for process in processes:
            field.orders.place(process, point, Blow.KILL)
            field.undo.append(partial(field.orders.withdraw, process, point))
        yield from until(lambda: not all(field.orders.is_open(process, point) for process in processes))
        field.strike()
        field.killed.extend(process for process in processes if not field.orders.withdraw(process, point))

    return put


def stop(process: str, point: str) -> Put:
    """SIGSTOP of `process` at `point`, and SIGCONT when every lease has run out."""

    def put(field: Field) -> Course:
        pid = field.pid(process)
        field.orders.place(process, point, Blow.STOP)
        field.undo.append(lambda: field.orders.withdraw(process, point))
        yield from until(lambda: not field.orders.is_open(process, point))
        field.strike()
        field.undo.append(lambda: send(pid, signal.SIGCONT))
        yield from pause(STOPPED_FOR)
        send(pid, signal.SIGCONT)

    return put


def after(first: Put, then: Put) -> Put:
    """`then` armed before `first` is put in, so that it meets what `first` leads to."""

    def put(field: Field) -> Course:
        second = then(field)
        next(second, None)
        yield from first(field)
        field.struck_at = None
        yield from second

    return put


def broker(kind: str, side: str = "", *, lasts: float = 0.0, **fields: Any) -> Put:
    """A scripted fault of the paper broker on the account of the first trial."""

    def put(field: Field) -> Course:
        tenant = field.trials[0].tenant
        field.paper.fault(kind, account=tenant, side=side, **fields)
        yield from _spent(field, kind, tenant)
        field.strike()
        yield from pause(lasts)

    return put


def scrambled(field: Field) -> Course:
    """The account's order updates come newest first, and each twice."""
    tenant = field.trials[0].tenant
    field.paper.fault(SCRAMBLE, account=tenant)
    yield from _spent(field, SCRAMBLE, tenant)
    field.strike()


def line_cut(field: Field) -> Course:
    """The account's WebSocket connections end."""
    field.paper.disconnect(field.trials[0].tenant)
    field.strike()
    yield


def not_listening(field: Field) -> Course:
    """The broker accepts no connection."""
    field.paper.fault(REFUSE, seconds=8.0)
    field.strike()
    yield from pause(8.0)


def token_dead(field: Field) -> Course:
    """The account's token dies, and a user logs in again."""
    tenant = field.trials[0].tenant
    field.log_out(tenant)
    field.strike()
    yield from pause(TOKEN_DEAD)
    field.log_in(tenant)


def token_dead_in_doubt(field: Field) -> Course:
    """The token dies while it is unknown what became of the exit."""
    yield from broker("hang", "SELL", seconds=4.0)(field)
    yield from token_dead(field)


def redis_killed(field: Field) -> Course:
    """SIGKILL of Redis, and a restart from its append-only file."""
    field.redis_server.kill()
    field.strike()
    field.redis_server.start()
    yield


def redis_flushed(field: Field) -> Course:
    """FLUSHALL: queues, timers and live state are gone, the server is the same."""
    field.stack.redis.flushall()
    field.strike()
    yield


def last_second_lost(field: Field) -> Course:
    """Redis comes back as it was a second before: what was not yet on its disk is gone."""
    server = field.redis_server
    files = server.data_dir / "appendonlydir"
    older = server.data_dir / "older"
    shutil.rmtree(older, ignore_errors=True)
    shutil.copytree(files, older)
    yield from pause(LOST)
    server.kill()
    field.strike()
    shutil.rmtree(files)
    older.rename(files)
    server.start()


def postgres_down(field: Field) -> Course:
    """PostgreSQL is killed and stays away."""
    server = field.postgres_server
    server.kill()
    field.undo.append(server.start)
    field.strike()
    yield from pause(POSTGRES_DOWN)
    server.start()


def beats_dead(field: Field) -> Course:
    """Both beats do nothing from before the buy times to after them, and are then killed and started anew."""
    pids = [field.pid(name) for name in BEATS]
    for pid in pids:
        send(pid, signal.SIGSTOP)
    field.undo += [partial(send, pid, signal.SIGKILL) for pid in pids]
    last = max(trial.buy_at for trial in field.trials)
    yield from until(lambda: field.remote.real.now() >= last)
    field.strike()
    yield from pause(1.0)
    for pid in pids:
        send(pid, signal.SIGKILL)


def repeated(field: Field) -> Course:
    """One message delivered ten thousand times."""
    trial = field.trials[0]
    field.strike()
    for number in range(REPEATS):
        field.publish(trial, EventType.BUY, f"buy:{trial.run}")
        if number % AT_ONCE == 0:
            yield


def all_at_once(field: Field) -> Course:
    """SELL, STOPLOSS and FORCE_STOP of one run in the same instant, each with its cause."""
    trial = field.trials[0]
    yield from until(lambda: (trial.exit_at - field.remote.real.now()).total_seconds() < 0.2)  # noqa: PLR2004
    field.remote.real.sleep_until(trial.exit_at)
    field.paper.price(trial.symbol, str(trial.breach))
    field.signal_stop(trial)
    within = field.publish_together(trial, (EventType.SELL, EventType.STOPLOSS, EventType.FORCE_STOP))
    field.strike()
    field.remarks.append(f"three messages within {within:.2f} ms")


def backlog(field: Field) -> Course:
    """Five thousand order messages of runs nobody knows wait in front of a worker that has just been let go."""
    pid = field.pid("worker-orders")
    send(pid, signal.SIGSTOP)
    field.undo.append(lambda: send(pid, signal.SIGCONT))
    for number in range(BACKLOG):
        run = RunId(next(NOBODY), field.trials[0].run.trading_date)
        field.publish_to(run, EventType.BUY, f"buy:{run}")
        if number % AT_ONCE == 0:
            yield
    send(pid, signal.SIGCONT)
    field.strike()


def _spent(field: Field, kind: str, account: str) -> Course:
    """Wait until the fault has met its calls; what is pending was read before each look."""
    yield
    yield from until(lambda: not any((each["kind"], each["account"]) == (kind, account) for each in field.pending()))


def _restarted(field: Field, process: str) -> Course:
    """End the process and wait for the one that takes its place."""
    pid = field.pid(process)
    send(pid, signal.SIGKILL)
    yield from until(lambda: field.pid(process) not in (None, pid))
