"""Huey on Redis as it comes, doing the peers' work."""

import os

from huey import RedisHuey

from bench.peer.work import serve

#: What its consumer says before it takes tasks.
READY = "commands:"

huey = RedisHuey("peer", url=os.environ["REDIS_URL"])


buy = huey.task()(serve)
