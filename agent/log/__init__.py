"""Logging: JSON lines to a rotating file, and to stderr in the form for the journal, a terminal or a pipe.

A job's thread binds its correlation id with
`structlog.contextvars`, and every line of that thread carries it. Libraries are logged from WARNING upwards:
their lower levels print requests with the secrets in them.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from agent.base.redaction import redact
from agent.base.text import clipped, printable
from agent.log.file import RotatingLogFile
from agent.settings import Settings

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
}
_KANTO_LEVELS = {"TRACE": logging.DEBUG, "DEBUG": logging.DEBUG, "INFO": logging.INFO}
_KANTO_LEVELS |= {"WARN": logging.WARNING, "ERROR": logging.ERROR}
"""Kanto has one level more; nothing here is logged there."""
# sd-daemon(3): a line that begins with <N> has the syslog priority N in the journal.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_LEAST_JUMP_S = 60.0
"""A smaller jump of the clock is not worth a word."""
_OUR_PACKAGES = ("agent", "providers")
_HANDLER_NAMES = ("edge-backup console", "edge-backup file")


def setup(settings: Settings, stream: TextIO | None = None) -> None:
    """Begin to log as `settings` say; `stream` is stderr unless given. May be called again.

    Never raises: when the log file cannot be opened, an error line on stderr says so.
    """
    logging.raiseExceptions = False  # a broken stderr is no reason to write more to it
    _configure(structlog.contextvars.merge_contextvars, *_COMMON, ProcessorFormatter.wrap_for_formatter)
    level = _KANTO_LEVELS[settings.log_level]
    for package in _OUR_PACKAGES:
        logging.getLogger(package).setLevel(level)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for old in [handler for handler in root.handlers if handler.name in _HANDLER_NAMES]:
        root.removeHandler(old)
        old.close()
    root.addHandler(_console(stream or sys.stderr, os.environ))
    _add_file(root, settings)


def reopen() -> None:
    """Open the log file again by its name: a program has moved it away."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RotatingLogFile):
            handler.reopen()


def use_logging_of_host() -> None:
    """Log to the loggers of `logging`, as the program that embeds the agent has set them up."""
    if not structlog.is_configured():
        _configure(*_COMMON, _as_text)


def _as_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    text, traceback = _key_value(event)
    return "\n".join([text, *traceback])


def _configure(*processors: Processor) -> None:
    structlog.configure(
        processors=[_drop_below_level, *processors],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _console(stream: TextIO, environ: Mapping[str, str]) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.name = _HANDLER_NAMES[0]
    if _is_journal(stream, environ):
        handler.setFormatter(_formatter(_journal_lines))
    else:
        handler.setFormatter(_formatter(_terminal_lines if stream.isatty() else _json_line))
    return handler


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True when the stream is the journal's: JOURNAL_STREAM has device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file below, or closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _add_file(root: logging.Logger, settings: Settings) -> None:
    if settings.log_file is None:
        return
    try:
        handler = RotatingLogFile(
            settings.log_file,
            size_bytes=settings.log_file_size * 1_000_000,
            count=settings.log_file_count,
            max_age_days=settings.log_file_max_age,
        )
    except OSError as error:
        reason = error.strerror or "no reason given"
        structlog.get_logger(__name__).error(
            "log file cannot be opened; logging to stderr only", file=settings.log_file, reason=reason
        )
        return
    handler.name = _HANDLER_NAMES[1]
    handler.setFormatter(_formatter(_json_line))
    root.addHandler(handler)


def _formatter(render: Callable[[EventDict], str]) -> logging.Formatter:
    def last(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        return render(event)

    return ProcessorFormatter(
        processors=[ProcessorFormatter.remove_processors_meta, last],
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, *_COMMON],
    )


def _drop_below_level(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if not logger.isEnabledFor(_LEVELS[method]):
        raise structlog.DropEvent
    return event


_LONGEST_TEXT, _LONGEST_TRACEBACK = 2_000, 20_000
"""Characters. Foreign texts may be long; ten commands must not fill the log."""


def _clipped(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {
        key: clipped(value, _LONGEST_TRACEBACK if key == "exception" else _LONGEST_TEXT)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # Keys with an underscore are structlog's own and are gone before anything is written.
    return {key: value if key.startswith("_") else redact(value, key) for key, value in event.items()}


class ClockJumps:
    """A processor that adds `clock_set_by_s` to the first line after the wall clock was set.

    It explains the times of the lines.
    """

    def __init__(self) -> None:
        self._offset_s = _offset_s()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        offset_s = _offset_s()
        jump_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(jump_s) >= _LEAST_JUMP_S:
            event["clock_set_by_s"] = round(jump_s)
        return event


def _offset_s() -> float:
    """Return the time when the device would have booted by its wall clock; time asleep counts."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


_COMMON: tuple[Processor, ...] = (
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ClockJumps(),
    structlog.processors.format_exc_info,
    _without_secrets,
    _clipped,
)
_FIRST_KEYS = ("time", "level", "logger", "event")


def _json_line(event: EventDict) -> str:
    ordered = {key: event[key] for key in _FIRST_KEYS if key in event}
    return json.dumps(ordered | dict(event), default=str)


def _terminal_lines(event: EventDict) -> str:
    text, traceback = _key_value(event)
    return "\n".join([f"{event['time']} {event['level'].upper():7} {text}", *traceback])


def _journal_lines(event: EventDict) -> str:
    """Write the priority before each line, since the journal takes lines one by one; it adds the time."""
    text, traceback = _key_value(event)
    priority = _PRIORITIES.get(event["level"], 6)
    return "\n".join(f"<{priority}>{line}" for line in [text, *traceback])


def _key_value(event: EventDict) -> tuple[str, list[str]]:
    """Return `event key=value …`, and the lines of the traceback."""
    fields = [
        f"{key}={_quoted(value)}" for key, value in event.items() if key not in (*_FIRST_KEYS, "exception")
    ]
    traceback = str(event.get("exception", "")).splitlines()
    return " ".join([printable(str(event["event"])), *fields]), [printable(line) for line in traceback]


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    needs_quotes = not text or any(char.isspace() or char in '"=' for char in text)
    return printable(
        json.dumps(text, ensure_ascii=False) if needs_quotes and isinstance(value, str) else text
    )
