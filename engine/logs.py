"""Structured logs: one JSON object a line, a stable `action` first; to CloudWatch too where a group is named."""

import logging
import sys
from importlib import import_module
from typing import Any

import orjson
import structlog

from engine.config import Settings
from engine.ports import Log

#: Libraries whose every step is not worth a line.
LIBRARIES = ("celery", "kombu", "redbeat", "urllib3", "websockets", "alembic")
#: Never written, whatever a caller passes.
SECRET_NAMES = frozenset({"access_token", "api_secret", "api_key", "password", "secrets", "credentials"})


def _without_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: "***" if name in SECRET_NAMES else value for name, value in event.items()}


def configure(settings: Settings, process: str) -> Log:
    """Set logging up for this process; returns the function that writes a line."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if settings.cloudwatch_group:
        handlers.append(_cloudwatch(settings.cloudwatch_group, process))
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.EventRenamer("action"),
        _without_secrets,
    ]
    # The libraries' own lines, Celery's among them, leave as the same JSON.
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=handlers, force=True)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    # Straight to standard output where nobody else listens: an order has two lines, and the way round costs it a tenth.
    is_alone = len(handlers) == 1
    line = structlog.processors.JSONRenderer(serializer=orjson.dumps)
    last = line if is_alone else structlog.stdlib.ProcessorFormatter.wrap_for_formatter
    structlog.configure(
        processors=[*shared, last],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer)
        if is_alone
        else structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        cache_logger_on_first_use=True,
    )
    bound = structlog.get_logger("engine").bind(process=process)

    def log(action: str, /, **facts: object) -> None:
        bound.info(action, **facts)

    return log


def _cloudwatch(group: str, process: str) -> logging.Handler:
    handler: logging.Handler = import_module("watchtower").CloudWatchLogHandler(
        log_group_name=group, log_stream_name=process
    )
    return handler
