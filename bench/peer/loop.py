"""The loop the engine's first draft had: take an event, serve it; where there is none, sleep. `loop.py SECONDS`."""

import os
import sys
import time

from redis.client import Redis

from bench.peer.work import serve

QUEUE = "peer:loop"
READY = "loop ready"


def main(pause: float) -> None:
    """Serve for ever."""
    redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    redis.ping()
    print(READY, flush=True)
    while True:
        run = redis.rpop(QUEUE)
        if run is None:
            time.sleep(pause)
        else:
            serve(str(run))


if __name__ == "__main__":
    main(float(sys.argv[1]))
