"""The Celery app. Imports nothing of ours, so that anything may publish without loading the engine."""

from celery import Celery

app = Celery("execution-engine")
app.config_from_object("celeryconfig")


def app_at(broker_url: str) -> Celery:
    """An app like this one whose queue is at `broker_url`, whatever the environment says: for commands and tests."""
    other = Celery("execution-engine", set_as_current=False)
    other.config_from_object("celeryconfig")
    other.conf.update(broker_url=broker_url, redbeat_redis_url=broker_url)
    return other
