"""The whole engine on a paper broker, with a ticker of the bench's own: strategies that hold, and what they came to."""

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import sleep
from typing import Any

from sqlalchemy import select

from bench.feed import Feed
from bench.stand import SECRET_KEY, wait
from broker_connector.kite_words import IST
from broker_connector.paper.symbols import listings
from engine.config import CalendarKind
from engine.domain.market import market_of
from engine.domain.run import Position, RunId, parse_client_order_id
from engine.runtime import codec, keys
from engine.strategies import Draft
from engine.trading import Market, TradingStack, paper_account
from models.history_tables import RecordRow
from models.repositories.accounts import Accounts
from models.repositories.strategies import Strategies

#: Price units in 1 of money, and the price everything begins at, units.
SCALE, OPENS_AT = 100, 200_000
QUANTITY = 1
#: Orders an account may send: the engine is measured, not its caution.
UNLIMITED = {"second": 100_000, "minute": 1_000_000, "day": 9_000_000}
#: The account whose ticker the listener hears: the first.
FEED_TENANT = "market"
#: As long as a bench lasts, and what it buys is held. A strategy's times are of one date.
LONGEST, HELD = timedelta(minutes=10), timedelta(minutes=45)


@dataclass(frozen=True, slots=True)
class Exit:
    """One sale: when the listener held the frame, when the request stood at the broker, and the order's stages, ms."""

    seen_at: datetime
    received_at: datetime
    stages: dict[str, float]

    @property
    def ms(self) -> float:
        """Tick to order."""
        return (self.received_at - self.seen_at) / timedelta(milliseconds=1)


class Trading:
    """A started engine. Symbols are "NSE:" and one of `names`."""

    def __init__(self, stack: TradingStack, feed: Feed, names: Sequence[str], tenants: Sequence[str]) -> None:
        self.stack, self.feed = stack, feed
        self._tenants = tenants
        #: Symbol -> instrument token.
        self.tokens = {listing.key: listing.token for listing in listings(names)}
        self._added = 0

    @property
    def market(self) -> str:
        """The market its accounts trade in."""
        return market_of("paper", self.stack.paper.base_url, self.feed.url)

    def hold(self, stops: Sequence[tuple[str, int]], say: Callable[[str], None]) -> list[RunId]:
        """A bought position for each (symbol, stop in units), tenants taking turns; the runs, in order."""
        runs, _ = self.add(stops, timedelta(seconds=8 + len(stops) / 400))
        say(f"{len(runs)} positions are bought")
        self._wait_held(runs)
        return runs

    def add(self, stops: Sequence[tuple[str, int]], lead: timedelta) -> tuple[list[RunId], datetime]:
        """A strategy for each (symbol, stop in units), tenants taking turns; the runs, and when all buy: in `lead`."""
        buys = (datetime.now(IST) + lead).replace(microsecond=0)
        sells = min(buys + HELD, datetime.combine(buys, time.max, IST).replace(microsecond=0))
        drafts = [
            Draft(
                name=f"B{self._added + number}",
                tenant=self._tenants[number % len(self._tenants)],
                account="",
                symbol=symbol,
                quantity=QUANTITY,
                buy_time=buys.time(),
                sell_time=sells.time(),
                stop_loss=Decimal(stop) / SCALE,
                trading_date=buys.date(),
            )
            for number, (symbol, stop) in enumerate(stops)
        ]
        self._added += len(drafts)
        return [RunId(each.id, buys.date()) for each in Strategies(self.stack.sessions).add(drafts)], buys

    def _wait_held(self, runs: Sequence[RunId]) -> None:
        left = set(runs)

        def all_hold() -> bool:
            with self.stack.redis.pipeline(transaction=False) as pipe:
                ordered = sorted(left, key=str)
                for run in ordered:
                    pipe.hget(keys.runtime(str(run)), "position")
                for run, position in zip(ordered, pipe.execute(), strict=True):
                    if position == Position.BOUGHT:
                        left.discard(run)
            return not left

        wait(all_hold, 60 + len(runs) / 20, "not every position was bought", every=0.3)
        self._wait_covered(datetime.now(UTC))

    def _wait_covered(self, since: datetime) -> None:
        """Until the engine has asked every broker what is held: else the first exit would."""
        redis: Any = self.stack.redis
        held = [keys.held(account.id) for account in Accounts(self.stack.sessions).list()]

        def is_known() -> bool:
            return all(int(redis.hget(key, "at") or 0) > codec.to_us(since) for key in held)

        wait(is_known, 30, "not every account was asked what it holds", every=0.3)

    def exits(self, runs: Sequence[RunId], within: float) -> dict[RunId, Exit]:
        """What became of `runs`, once each has been sold and recorded."""
        wanted = {str(run): run for run in runs}
        # Not by asking the broker, which has other things to do just then.
        wait(lambda: not self._live(runs), within, "not every breach was sold", every=0.5)
        wait(lambda: len(self._stages(wanted)) == len(wanted), within, "not every sale was recorded", every=0.5)
        seen, sold, stages = self._seen(wanted), self._sales(), self._stages(wanted)
        return {run: Exit(seen[name], sold[run], stages[name]) for name, run in wanted.items()}

    def _live(self, runs: Sequence[RunId]) -> int:
        found: Any = self.stack.redis.exists(*(keys.runtime(str(run)) for run in runs))
        return int(found)

    def _seen(self, wanted: Collection[str]) -> dict[str, datetime]:
        rows = select(RecordRow.run, RecordRow.body).where(RecordRow.kind == "latched")
        with self.stack.sessions() as session:
            found = {run: body["latch"] for run, body in session.execute(rows) if run in wanted}
        return {run: codec.from_us(latch["seen_at"]) for run, latch in found.items()}

    def _sales(self) -> dict[RunId, datetime]:
        """When each run's sale stood at the broker; two sales of one are an error."""
        found: dict[RunId, datetime] = {}
        for row in self.stack.paper.ledger():
            ours = parse_client_order_id(self.stack.settings.deployment, row["tag"])
            if ours is None or row["side"] != "sell":
                continue
            assert ours[0] not in found, f"run {ours[0]} was sold twice"
            found[ours[0]] = datetime.fromisoformat(row["received_at"])
        return found

    def _stages(self, wanted: Collection[str]) -> dict[str, dict[str, float]]:
        rows = select(RecordRow.run, RecordRow.body).where(RecordRow.kind.like("exit_%"))
        found: dict[str, dict[str, float]] = {}
        with self.stack.sessions() as session:
            for run, body in session.execute(rows):
                for order in body["orders"]:
                    if run in wanted and order.get("stages"):
                        found[run] = order["stages"]
        return found


@contextmanager
def trading(
    say: Callable[[str], None],
    *,
    names: Sequence[str] = ("INFY",),
    tenants: int = 10,
    without: Sequence[str] = ("flower", "listener-2"),
) -> Iterator[Trading]:
    """A started engine; everything ends with it."""
    options = f"--market manual --always-open --unlimited --symbols {','.join(names)}"
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Feed(f"key-{FEED_TENANT}", OPENS_AT) as feed:
        market = Market(options, calendar=CalendarKind.ALWAYS_OPEN)
        with TradingStack(Path(directory), market, SECRET_KEY, without=without, say=say) as stack:
            feed.elsewhere = stack.paper.ws_url
            # The market is whose addresses are the same.
            first = replace(paper_account(FEED_TENANT, stack.paper.base_url), ws_url=feed.url)
            accounts = Accounts(stack.sessions)
            accounts.add(first)
            stack.paper.add_account(account_id=FEED_TENANT, limits={}, **first.credentials.values)
            traders = [f"tenant{number}" for number in range(tenants)]
            for trader in traders:
                account = replace(paper_account(trader, stack.paper.base_url, UNLIMITED), ws_url=feed.url)
                accounts.add(account)
                stack.paper.add_account(account_id=trader, limits={}, **account.credentials.values)
            stack.wait_ready()
            clear_of_midnight(say)
            yield Trading(stack, feed, names, traders)


def clear_of_midnight(say: Callable[[str], None]) -> None:
    """Wait until a whole bench fits before midnight at the exchange."""
    while (now := datetime.now(IST)).date() != (now + LONGEST).date():
        say("waiting for midnight at the exchange to pass")
        sleep(min(60.0, (datetime.combine(now + LONGEST, time.min, IST) - now).total_seconds()))
