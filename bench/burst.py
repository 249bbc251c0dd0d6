"""One tick breaches many strategies at once, at a broker that takes its time: how soon all their orders are there."""

import time
from collections.abc import Sequence

from bench.feed import Feed, frame_of
from bench.figures import Figures, percentile
from bench.stand import wait
from bench.tick import SYMBOL, Say, bare, stops
from bench.trading import OPENS_AT, trading
from broker_connector.paper.process import PaperControl

#: Strategies of one symbol that one tick breaches, and connections of the floor.
BREACHES, CONNECTIONS = 1000, 256
#: Seconds the broker takes for an order, on both sides; it is then that the order stands in its book.
BROKER_TAKES = 0.15


def burst(say: Say, breaches: int = BREACHES, connections: int = CONNECTIONS) -> Figures:
    """ms from the frame to the last order, the engine's and the floor's; raises where one was lost or doubled."""
    with bare(breaches, connections, say) as least:
        _slow_down(least.desk.paper, breaches)
        _fall(least.feed, least.token, breaches)
        floor = least.ms()
    with trading(say) as engine:
        runs = engine.hold([(SYMBOL, stop) for stop in stops(breaches)], say)
        wait(lambda: engine.feed.listeners > 0, 20, "nobody listens to the feed")
        _slow_down(engine.stack.paper, breaches)
        _fall(engine.feed, engine.tokens[SYMBOL], breaches)
        found = engine.exits(runs, within=60)
    ours = [each.ms for each in found.values()]
    return {"all_sent_ms": round(max(ours), 1), "p50_ms": round(percentile(ours, 0.5), 1), **_floor(floor)}


def _floor(ms: Sequence[float]) -> Figures:
    return {"floor_ms": round(max(ms), 1), "floor_p50_ms": round(percentile(ms, 0.5), 1)}


def _slow_down(paper: PaperControl, orders: int) -> None:
    paper.fault("slow", seconds=BROKER_TAKES, times=orders)


def _fall(feed: Feed, token: int, breaches: int) -> None:
    """The market opens, and falls through every stop in one tick."""
    feed.send(frame_of([(token, OPENS_AT)]))
    time.sleep(1)
    feed.send(frame_of([(token, min(stops(breaches)))]))
