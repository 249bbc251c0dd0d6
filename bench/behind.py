"""Breaches while thousands of trades wait for a slow broker: the queue of exits stands behind no other."""

from datetime import timedelta

from bench.figures import told
from bench.stand import sleep_until, wait
from bench.tick import SYMBOL, Figures, Say, play, stages_of, stops
from bench.trading import trading

#: Trades that wait, and breaches one at a time meanwhile.
WAITING, BREACHES = 5000, 500
#: Seconds the broker takes for each of the trades: longer than the breaches together need to make a dent in them.
BROKER_TAKES = 1.0
#: What they are of: no tick of it comes.
OTHER = "NSE:TCS"


def behind(say: Say, waiting: int = WAITING, breaches: int = BREACHES) -> Figures:
    """Tick to order, ms, and how many trades still waited at its end; raises where none did."""
    with trading(say, names=("INFY", "TCS")) as engine:
        runs = engine.hold([(SYMBOL, stop) for stop in stops(breaches)], say)
        wait(lambda: engine.feed.listeners > 0, 20, "nobody listens to the feed")
        engine.stack.paper.fault("slow", seconds=BROKER_TAKES, side="BUY", times=waiting)
        _, due = engine.add([(OTHER, 5)] * waiting, timedelta(seconds=8 + waiting / 250))
        say(f"{waiting} trades become due")
        sleep_until(due + timedelta(seconds=2))
        play(engine.feed, engine.tokens[SYMBOL], breaches, say)
        left = waiting - sum(row["symbol"] == OTHER for row in engine.stack.paper.ledger())
        if left < 1:
            raise TimeoutError("no trade was left waiting: the breaches were behind nothing")
        found = engine.exits(runs, within=60)
    exits = [*found.values()]
    return told([each.ms for each in exits]) | {"still_waiting": left, "stages": stages_of(exits)}
