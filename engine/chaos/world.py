"""How a bad world is put in: feeds, logins, readings that lie, owners who trade by hand, nights.

Courses as in `engine.chaos.courses`. Where a trial must end while its fault lasts, the course itself demands it.
"""

import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from engine.chaos.courses import Put
from engine.chaos.field import Course, Field, pause, send, until
from engine.chaos.judge import tag_by_hand
from engine.chaos.trial import Trial
from models.repositories.accounts import Accounts

#: How soon trials must be over whose fault goes on, seconds.
MEANWHILE = 40.0
#: How soon somebody must be told who is to log in again, seconds.
TOLD_WITHIN = 30.0
#: Ticker connections the broker grants an account.
CONNECTIONS = 3
#: How old a last trade is that proves nothing, seconds.
LONG_AGO = 3600


def faults(*scripts: dict[str, Any], lasts: float, meanwhile: bool = False) -> Put:
    """Scripted faults of the paper broker on every account of the trials, for `lasts` seconds.

    `meanwhile`: the trials must be over while they last.
    """

    def put(field: Field) -> Course:
        for tenant in field.tenants:
            for script in scripts:
                field.paper.fault(account=tenant, lasts=lasts, **script)
        field.strike()
        if meanwhile:
            yield from over_meanwhile(field.trials, lasts)
        else:
            yield from pause(lasts)
        field.paper.clear_faults()

    return put


def over_meanwhile(trials: Iterable[Trial], within: float = MEANWHILE) -> Course:
    """Wait until `trials` are over, and hold it against them where they are not."""
    wanted = list(trials)
    yield from until(lambda: all(trial.mono_done is not None for trial in wanted), within)
    for trial in wanted:
        if trial.mono_done is None:
            trial.violations.append(f"not over within {within:.0f} s while the fault lasted")


def carriers(field: Field) -> list[str]:
    """The tenants whose logins carry the feeds."""
    carrying = {*field.remote.store.carry(field.stack.paper_market, "", None).values()}
    return [each.tenant for each in Accounts(field.stack.sessions).list() if each.id in carrying]


def carriers_dead(field: Field) -> Course:
    """The logins that carry the feed die; every other account's stop must fire meanwhile."""
    dead = carriers(field)
    for tenant in dead:
        log_out(field, tenant)
    field.strike()
    yield from over_meanwhile(trial for trial in field.trials if trial.tenant not in dead)
    log_in_all(field, dead)


def carriers_crowded_out(field: Field) -> Course:
    """Programs of its owner take every ticker connection of the accounts that carry the feed."""
    taken: list[ClientConnection] = []

    def leave() -> None:
        for each in taken:
            each.close()

    field.undo.append(leave)
    for tenant in carriers(field):
        values = field.account(tenant).credentials.values
        url = f"{field.paper.ws_url}?api_key={values['api_key']}&access_token={values['access_token']}"
        field.paper.disconnect(tenant)
        for _ in range(CONNECTIONS):
            # One that the engine was quicker to take leaves the account with fewer for us.
            with suppress(WebSocketException, OSError):
                taken.append(connect(url, proxy=None))
    field.strike()
    field.remarks.append(f"{len(taken)} ticker connections taken")
    yield from over_meanwhile(field.trials)
    leave()


def all_logins_dead(field: Field) -> Course:
    """Every login ends while something is held: no feed, no exit, until the owners, who were told, log in."""
    tenants = [each.tenant for each in Accounts(field.stack.sessions).list()]
    for tenant in tenants:
        log_out(field, tenant)
    field.strike()
    yield from until(lambda: all(trial.is_told for trial in field.trials), TOLD_WITHIN)
    log_in_all(field, tenants)


def many_held_dead(field: Field) -> Course:
    """The login of an account with many held runs dies, all their stops are reached, and it comes back."""
    (tenant,) = field.tenants
    log_out(field, tenant)
    field.strike()
    yield from pause(20.0)
    log_in_all(field, [tenant])


def paper_restarted(field: Field) -> Course:
    """The broker is killed and comes back with its book."""
    pid = field.pid("paper")
    send(pid, signal.SIGKILL)
    field.strike()
    yield from until(lambda: field.pid("paper") not in (None, pid), MEANWHILE)


def night(field: Field) -> Course:
    """The trading day ends at the broker: its book is empty, and what was bought is a holding."""
    field.paper.night()
    field.strike()
    yield


def sold_by_hand(quantity: int, of: int = 1) -> Put:
    """The owner sells `quantity` of the position of each of the first `of` trials; afterwards each is resolved."""

    def put(field: Field) -> Course:
        for trial in field.trials[:of]:
            field.paper.trade(trial.tenant, trial.symbol, "sell", quantity, tag=tag_by_hand(trial.run))
        field.strike()
        yield from until(lambda: all(trial.mono_done is not None for trial in field.trials), MEANWHILE)
        for trial in field.trials:
            yield from field.resolve_closed(trial)

    return put


def paused_entry(field: Field) -> Course:
    """The broker asks the account's entries for a pause while another run of it holds: its stop does not wait."""
    holder, lasts = field.trials[0], 18.0
    field.paper.fault("rate_limit", account=holder.tenant, side="BUY", seconds=lasts, lasts=lasts)
    field.strike()
    # The other's entry is refused by then; its own time to sell lies behind the pause.
    yield from pause(lasts / 2)
    breach(field, holder)
    yield from over_meanwhile([holder], lasts / 2)
    yield from pause(lasts)


def hung_account(field: Field) -> Course:
    """Nothing that one account asks is answered; the bystander is another tenant."""
    lasts = 15.0
    field.paper.fault("hang", account=field.trials[0].tenant, operation="any", seconds=lasts, lasts=lasts)
    field.strike()
    yield from pause(2 * lasts)


def old_trade(field: Field) -> Course:
    """Packets of now tell of a trade at the stop that is older than the entry: it proves nothing."""
    for trial in field.trials:
        field.paper.idle(trial.symbol, LONG_AGO)
        field.undo.append(partial(field.paper.idle, trial.symbol, 0))
        field.paper.price(trial.symbol, str(trial.breach))
    field.strike()
    yield from pause(2.0)
    for trial in field.trials:
        field.paper.idle(trial.symbol, 0)
        field.paper.price(trial.symbol, str(trial.calm))


def mistyped(field: Field) -> Course:
    """The strategies are stored with a stop above the price."""
    field.strike()
    yield


def instruments(kind: str, readings: int) -> Put:
    """The dump is sick the first `readings` times that processes read it which have just been started."""

    def put(field: Field) -> Course:
        field.paper.fault(kind, operation="instruments", times=readings)
        _restart(field, READERS)
        yield from until(lambda: any(each["kind"] == kind and each["met"] for each in field.pending()), MEANWHILE)
        field.strike()
        yield from until(lambda: all(each["kind"] != kind for each in field.pending()), MEANWHILE)
        field.paper.clear_faults()

    return put


def renamed(field: Field) -> Course:
    """The symbol is called otherwise since last night."""
    for trial in field.trials:
        name = trial.symbol.rpartition(":")[2]
        field.paper.relist(trial.symbol, name=f"{name}-BE")
        field.undo.append(partial(field.paper.relist, f"{trial.symbol}-BE", name=name))
    field.strike()
    _restart(field, READERS)
    yield from pause(1.0)


def retokened(field: Field) -> Course:
    """The symbol has another token since last night."""
    for trial in field.trials:
        field.paper.relist(trial.symbol, token=field.paper.relist(trial.symbol) + _ANOTHER)
    field.strike()
    _restart(field, READERS)
    yield from pause(1.0)


#: What makes another token of one; the segment, its last byte, stays.
_ANOTHER = 1 << 24
#: Processes that read what the broker lists.
READERS = ("recoverer", "listener", "listener-2")


def breach(field: Field, trial: Trial) -> None:
    """Let the price reach the stop of `trial` now: its exit is due from here on."""
    trial.exit_at = field.remote.real.now()
    trial.mono_exit = field.now()
    field.paper.price(trial.symbol, str(trial.breach))


def _restart(field: Field, processes: Sequence[str]) -> None:
    for name in processes:
        send(field.pid(name), signal.SIGKILL)
        field.killed.append(name)


def log_out(field: Field, tenant: str) -> None:
    field.log_out(tenant)
    field.paper.disconnect(tenant)


def log_in_all(field: Field, tenants: Iterable[str]) -> None:
    for tenant in tenants:
        field.log_in(tenant)
