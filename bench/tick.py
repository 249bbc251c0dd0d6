"""From tick to order: from the frame a listener holds to the exit at the broker, beside the least there is."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import floor
from bench.feed import Feed, frame_of
from bench.figures import told
from bench.recorded import names_of, record
from bench.stand import Stand, stand, wait
from bench.trading import OPENS_AT, Exit, Trading, trading
from broker_connector.paper.process import paper_broker
from broker_connector.paper.symbols import listings
from engine import bootstrap
from engine.domain.events import EventType
from engine.domain.orders import Leg
from engine.domain.run import Run, parse_client_order_id
from tests.desk import CREDENTIALS, PAPER, Desk, event_of, open_desk

SYMBOL = "NSE:INFY"
#: One breach at a time: how many, and seconds between two ticks.
BREACHES, EVERY = 1000, 0.05
#: Units between two stops.
STEP = 5

Figures = dict[str, Any]
Say = Callable[[str], None]


def idle(say: Say, breaches: int = BREACHES) -> Figures:
    """One breach at a time on an idle machine."""
    with bare(breaches, 1, say) as least:
        play(least.feed, least.token, breaches, say)
        ms = least.ms()
    with trading(say) as engine:
        exits = one_by_one(engine, breaches, say)
    under = {f"floor_{name}": value for name, value in told(ms).items()}
    return told([each.ms for each in exits]) | under | {"stages": stages_of(exits)}


def one_by_one(engine: Trading, breaches: int, say: Say) -> list[Exit]:
    """Each tick breaches one more of `breaches` strategies."""
    runs = engine.hold([(SYMBOL, stop) for stop in stops(breaches)], say)
    wait(lambda: engine.feed.listeners > 0, 20, "nobody listens to the feed")
    play(engine.feed, engine.tokens[SYMBOL], breaches, say)
    found = engine.exits(runs, within=30 + breaches / 50)
    return [found[each] for each in runs]


def stops(breaches: int) -> list[int]:
    """The stops of strategies that are breached one after the other, units."""
    return [OPENS_AT - STEP * (number + 1) for number in range(breaches)]


def play(feed: Feed, token: int, breaches: int, say: Say) -> None:
    """A tick through each of so many stops, every so often."""
    # The first tick of a symbol is only the beginning of its prices.
    feed.send(frame_of([(token, OPENS_AT)]))
    time.sleep(1)
    say(f"{breaches} breaches, one each {EVERY * 1e3:.0f} ms")
    begun = time.monotonic()
    for number, stop in enumerate(stops(breaches)):
        time.sleep(max(0.0, begun + number * EVERY - time.monotonic()))
        feed.send(frame_of([(token, stop)]))
    time.sleep(1)


def stages_of(exits: Sequence[Exit]) -> dict[str, Figures]:
    """Each stage's p50 and p99."""
    names = dict.fromkeys(name for each in exits for name in each.stages)
    return {name: told([each.stages[name] for each in exits if name in each.stages]) for name in names}


@dataclass(frozen=True, slots=True)
class Least:
    """The two bare processes at work."""

    feed: Feed
    token: int
    runs: list[Run]
    desk: Desk
    held: Path

    def ms(self) -> list[float]:
        """Tick to order, of every run; each must have been sold once."""
        # Asked seldom: the broker answers this, too.
        wait(lambda: len(self.desk.sent("sell")) == len(self.runs), 60, "the floor did not sell everything", every=1)
        # Written after the last of a frame has been sent on its way.
        wait(lambda: len(self.held.read_text().splitlines()) == len(self.runs), 10, "the floor noted too little")
        at = dict(line.split() for line in self.held.read_text().splitlines())
        found = []
        for row in self.desk.sent("sell"):
            ours = parse_client_order_id(self.desk.parts.settings.deployment, row["tag"])
            assert ours is not None
            found.append(datetime.fromisoformat(row["received_at"]).timestamp() * 1e3 - int(at[str(ours[0])]) / 1e3)
        assert len(found) == len(self.runs)
        return found


@contextmanager
def bare(breaches: int, threads: int, say: Say) -> Iterator[Least]:
    """The floor's processes, at so many bought positions, with so many connections."""
    with stand() as at, Feed() as feed, paper_broker(*PAPER) as paper, open_desk(at.url, paper) as desk:
        (listing,) = listings([SYMBOL.split(":")[1]])
        say(f"floor: {breaches} positions are bought")
        # The model is never breached.
        model, *runs = bought(desk, [STEP, *stops(breaches)])
        paths = at.directory / "plan.json", at.directory / "held"
        paths[0].write_text(json.dumps(_plan(at, feed, desk, model, runs, paths[1], listing.token)))
        at.start("listener", floor.arguments("listener", paths[0]), ready=floor.READY)
        at.start("worker", floor.arguments("worker", paths[0], threads), ready=floor.READY)
        wait(lambda: feed.listeners > 0, 20, "the floor's listener does not listen")
        yield Least(feed, listing.token, runs, desk, paths[1])


def bought(desk: Desk, at: Sequence[int]) -> list[Run]:
    """Runs that hold, with these stops."""
    pipeline, store, clock = bootstrap.pipeline(desk.parts), desk.parts.store, desk.parts.clock
    runs = [replace(desk.run(buy_in=0, quantity=1), stop_units=stop) for stop in at]
    for each in runs:
        store.arm(each, clock.now().when(each.buy_at), buying=False)

    def serve(kind: EventType) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: pipeline.process(event_of(each, kind).as_wire()), runs))

    serve(EventType.BUY)
    wait(lambda: all(row["status"] == "filled" for row in desk.sent("buy")), 20, "not every order was filled")
    desk.hear()
    serve(EventType.ORDER_UPDATE)
    assert all(desk.live(each).held == 1 for each in runs)
    return runs


def _plan(at: Stand, feed: Feed, desk: Desk, model: Run, runs: Sequence[Run], held: Path, token: int) -> Figures:
    # The model is sold by the engine itself, to be looked over its shoulder.
    desk.ask(model, latch_price=str(OPENS_AT), latch_time="1", latch_event="model")
    recorded, *_ = record(desk, model, EventType.STOPLOSS)
    desk.paper.reset()
    return {
        "redis": at.url,
        "feed": feed.url,
        "broker": desk.paper.base_url,
        "headers": {"X-Kite-Version": "3", "Authorization": "token {api_key}:{access_token}".format(**CREDENTIALS)},
        "epoch": recorded.before[0][2][0],
        "market": desk.market,
        "symbols": {token: SYMBOL},
        "held": str(held),
        "orders": {
            str(each.id): [again.before, again.form, again.after]
            for each in runs
            for again in [recorded.renamed(names_of(desk, model, each, Leg.EXIT))]
        },
    }
