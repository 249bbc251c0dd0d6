"""The order stream's process: one connection an account, its updates into its runs, and its book asked in between."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count

from sqlalchemy.exc import SQLAlchemyError

from broker_connector.feed import Connected, Disconnected, Malformed, OrderUpdate
from broker_connector.registry import open_feed
from engine import bootstrap
from engine.bootstrap import Parts
from engine.brokers import credentials_of
from engine.clock import ClockNotAnnounced
from engine.orderstream import OrderStream, Unjudged
from engine.ports import AccountState, StoreClosed
from engine.processes.loop import PATIENCE, Stop, first_line, show_life
from engine.reconcile import Reconciler
from models.durable import DurableState

#: Seconds between two looks for new accounts.
LOOK_EVERY = 1.0
#: Seconds between two readings of an account's positions, well within `Policy.square_off_trust`, and how many of them
#: come to one of its book, which can be long.
COVER_EVERY, COVERS_A_BOOK = 2.0, 5


def main() -> None:
    """Follow every account until told to stop."""
    shared = bootstrap.parts("orderstream")
    durable = DurableState(bootstrap.database(shared.settings))
    asyncio.run(_run(shared, durable, Stop()))


async def _run(shared: Parts, durable: DurableState, stop: Stop) -> None:
    updates = bootstrap.orderstream(shared, durable)
    reconciler = Reconciler(shared.store, updates, shared.clock, shared.log)
    following: dict[int, tuple[str, asyncio.Task[None]]] = {}
    connected: set[int] = set()
    accounts: Sequence[AccountState] = []
    while not stop:
        try:
            accounts = await asyncio.to_thread(durable.accounts)
        except SQLAlchemyError as error:
            # Running strategies go on without PostgreSQL: so do the streams that are open.
            shared.log("waits", reason=first_line(error))
        for account in accounts:
            known = following.get(account.id)
            if known is None or known[0] != account.version or known[1].done():
                if known is not None:
                    _let_go(shared, account, known[1])
                    connected.discard(account.id)
                task = asyncio.create_task(_attend(shared, account, updates, reconciler, connected))
                following[account.id] = (account.version, task)
        if following and len(connected) == len(following):
            show_life(shared, "orderstream")
        await asyncio.sleep(LOOK_EVERY)
    for _, task in following.values():
        task.cancel()
    await asyncio.gather(*(task for _, task in following.values()), return_exceptions=True)


async def _attend(
    shared: Parts, account: AccountState, updates: OrderStream, reconciler: Reconciler, connected: set[int]
) -> None:
    """Follow an account and reconcile it, until told to stop."""
    async with asyncio.TaskGroup() as both:
        both.create_task(_follow(shared, account, updates, connected))
        both.create_task(_reconcile(shared, account, reconciler))


async def _reconcile(shared: Parts, account: AccountState, reconciler: Reconciler) -> None:
    # A thread of its own: those of a shared pool would all wait for the accounts whose brokers hang.
    own, loop = ThreadPoolExecutor(1, f"account-{account.id}"), asyncio.get_running_loop()
    try:
        for look in count():
            with suppress(StoreClosed, ClockNotAnnounced):
                await loop.run_in_executor(own, _read, shared, account, reconciler, look % COVERS_A_BOOK == 0)
            await asyncio.sleep(COVER_EVERY)
    finally:
        own.shutdown(wait=False, cancel_futures=True)


def _read(shared: Parts, account: AccountState, reconciler: Reconciler, with_book: bool) -> None:
    broker = shared.brokers.of(account.id, account.version)
    reconciler.cover(account, broker)
    if with_book:
        reconciler.reconcile(account, broker)


async def _follow(shared: Parts, account: AccountState, updates: OrderStream, connected: set[int]) -> None:
    feed = open_feed(account.broker, account.ws_url, credentials_of(account, shared.decrypt))
    async for event in feed.events():
        match event:
            case OrderUpdate():
                await _deliver(shared, partial(updates.on_update, event.entry, account.id))
            case Malformed(reason, payload):
                shared.log("order_update_malformed", account=account.id, reason=reason)
                await _deliver(shared, partial(shared.store.dead_letter, "order_update", reason, payload))
            case Connected():
                connected.add(account.id)
                shared.log("order_stream_up", account=account.id)
            case Disconnected(reason):
                connected.discard(account.id)
                shared.log("order_stream_down", account=account.id, reason=reason)
            case _:
                continue


def _let_go(shared: Parts, account: AccountState, task: asyncio.Task[None]) -> None:
    """End a following, whose account changed or which ended by itself; say why it did."""
    if not task.cancel() and not task.cancelled() and (error := task.exception()):
        shared.log("order_stream_failed", account=account.id, reason=f"{type(error).__name__}: {error}")


async def _deliver(shared: Parts, hand_over: Callable[[], object]) -> None:
    """Hand one update over; while the store is closed it waits, for the broker will not say it again."""
    while True:
        try:
            hand_over()
            return
        except Unjudged as error:
            # The book says it again.
            shared.log("not_judged", reason=str(error))
            return
        except (StoreClosed, ClockNotAnnounced) as error:
            shared.log("waits", reason=str(error))
            await asyncio.sleep(PATIENCE)
