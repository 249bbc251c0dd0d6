"""Celery's configuration, and the only place that names queues, routes and priorities.

Messages are wake-ups, never truth: the runtime in Redis says what must happen, the sweeper repeats what is lost.
"""

import os

from kombu import Exchange, Queue

#: On Redis 0 is the highest priority, and the default; only these steps get a list of their own.
PRIORITY_STEPS = [0, 3, 6, 9]

broker_url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
broker_connection_retry_on_startup = True
# For as long as it takes: a worker that gave up would only be started again.
broker_connection_max_retries = None
# A Redis that answers with an error (full, read-only, busy ...) is away like one that does not answer.
broker_channel_error_retry = True
worker_consumer = "tasks.consumer:PromptConsumer"
broker_transport_options = {
    # A message lost with its worker is repeated by the sweeper within two seconds; the transport's own bookkeeping
    # takes two round trips a message and brings it back after a timeout.
    "ack_emulation": False,
    "priority_steps": PRIORITY_STEPS,
    "sep": ":",
    "queue_order_strategy": "priority",
    "socket_timeout": 5,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "health_check_interval": 5,
    # One more try and no pause where a publisher finds no connection: kombu's own would hold the listener for 6 s.
    # Workers reconnect by `tasks.consumer`, beat by the supervisor.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}

# Each bound under its own name: Celery binds a queue that names no exchange to the default queue's, all of them alike.
task_queues = [
    Queue(name, Exchange(name), routing_key=name) for name in ("stoploss", "orders", "safety", "maintenance")
]
task_default_queue = "maintenance"
task_create_missing_queues = False
#: Exits before retries before entries, within one queue. STOPLOSS shares its queue with nothing.
task_routes = {
    "execution.stoploss": {"queue": "stoploss", "priority": 0},
    "execution.sell": {"queue": "orders", "priority": 0},
    "execution.retry": {"queue": "orders", "priority": 3},
    "execution.buy": {"queue": "orders", "priority": 6},
    "execution.safety_abort": {"queue": "safety", "priority": 0},
    "execution.force_stop": {"queue": "safety", "priority": 3},
    "execution.order_update": {"queue": "maintenance", "priority": 3},
}
#: Served by `tasks.direct`, in the worker that takes from no other queue.
direct_queue = "stoploss"
#: An account holds at most one in so many of a worker's threads: one whose broker hangs leaves the others to the rest.
account_share = 8
#: Tasks that may open a position; they leave one in so many of their worker's threads to exits.
entry_tasks = ("execution.buy", "execution.retry")
exit_share = 4

imports = ("tasks.execution",)
accept_content = ["json"]
task_serializer = "json"
enable_utc = True
timezone = "UTC"

# A second publish would be a second message: the sweeper repeats what was not published.
task_publish_retry = False
task_ignore_result = True
task_store_errors_even_if_ignored = False
# Everything is taken off the queue at once: `tasks.lane` puts it in order, exits before entries.
worker_prefetch_multiplier = 0
worker_hijack_root_logger = False
worker_send_task_events = True
task_send_sent_event = False

beat_scheduler = "tasks.beat:Beat"
#: Buckets of timers are fired seconds ahead; a beat that has just taken over looks as soon, seconds.
beat_max_loop_interval = 0.5
redbeat_key_prefix = "redbeat:"
redbeat_redis_url = broker_url
redbeat_redis_options = {"socket_timeout": 5, "socket_keepalive": True, "health_check_interval": 5}
# Of several beats one fires: `tasks.beat` keeps the lock.
redbeat_lock_key = None
