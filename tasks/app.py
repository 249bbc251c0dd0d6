"""The Celery app. Imports nothing of ours, so that anything may publish without loading the engine."""

from celery import Celery

app = Celery("execution-engine")
app.config_from_object("celeryconfig")
