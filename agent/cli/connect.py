"""`check-config --connect`: tries the broker and the stores of the settings. Nothing is written."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

import structlog

from agent.base.errors import JobError, NoRepository
from agent.base.refusals import Refused
from agent.base.text import counted
from agent.cli.opened import known_device
from agent.formats.archive_names import OwnArchives, device_tag
from agent.jobs.admission import Admission
from agent.jobs.filesystem_probe import ThreadedCall
from agent.jobs.formats import read_format
from agent.jobs.requests.storage import store_storage
from agent.mqtt.hono import COMMANDS
from agent.mqtt.link import Link, LinkEvents, broker_of
from agent.settings import Settings
from agent.transfer.connections import Connections
from providers.api import Capability
from providers.errors import NoBucket, NotFound, StorageError, TargetAbsent

LIMIT_S = 30.0
"""The longest time for all tries together: each has a thread."""
READ_S = 15.0
_UNNAMED = "check-config"
"""Stands for the name of an archive: no archive has it, unless the address says the name."""


class Try(NamedTuple):
    """The result for the broker or a store, in words for people."""

    name: str
    good: bool
    text: str


def tries(settings: Settings) -> Iterator[Try]:
    """Try all at once, and yield the result for each, in the order of the settings, within `LIMIT_S`."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # the results say all
    calls = {f"broker {settings.broker}": ThreadedCall("broker", partial(_broker, settings))}
    device_id, known = known_device(settings)
    own = OwnArchives(device_tag(device_id), known)
    for name in settings.stores:
        calls[f"stores.{name}"] = ThreadedCall("store", partial(_store, settings, name, device_id, own))
    end_s = time.monotonic() + LIMIT_S
    for name, call in calls.items():
        yield _result(name, call, end_s)


def _result(name: str, call: ThreadedCall[str], end_s: float) -> Try:
    if not call.done(end_s - time.monotonic()):
        return Try(name, False, f"failed: no answer within {LIMIT_S:.0f} s")
    try:
        return Try(name, True, f"good: {call.result()}")
    except (_NotUsable, Refused, JobError, StorageError) as error:
        return Try(name, False, f"failed: {error}")


class _NotUsable(Exception):
    """The broker refuses, or cannot be reached."""


def _broker(settings: Settings) -> str:
    """Connect and subscribe as the agent does, under an id that no running agent has. Raises `_NotUsable`."""
    posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
    ended: SimpleQueue[str] = SimpleQueue()
    events = LinkEvents(
        up=lambda: link.subscribe(COMMANDS),
        down=ended.put,
        message=lambda _delivery: None,
        sent=lambda _number: None,
        refused=lambda: ended.put(f"it does not allow to subscribe to {COMMANDS}"),
        granted=lambda: ended.put(""),
    )
    link = Link(broker_of(settings, f"edge-backup-check-{secrets.token_hex(6)}"), events, posted.put)
    link.start()
    end_s = time.monotonic() + LIMIT_S
    with suppress(Empty):
        while ended.empty():
            posted.get(timeout=max(0.0, end_s - time.monotonic()))()
    link.stop(timeout_s=1)
    if ended.empty():
        raise _NotUsable("it does not answer")
    if reason := ended.get():
        raise _NotUsable(reason)
    return "connected, and may subscribe to commands"


def _store(settings: Settings, name: str, device_id: str, own: OwnArchives) -> str:
    """Look at the store as a restore on this device does. Raises `Refused`, `JobError` and `StorageError`."""
    chosen = store_storage(settings, name)
    connections = Connections(settings.transfer.connect_timeout.total_seconds())
    source = Admission(_impatient(settings)).source(chosen, connections, device_id, _UNNAMED)
    with closing(connections), closing(source.storage):
        try:
            if Capability.LIST in source.storage.capabilities:
                listed = read_format(chosen, settings).listed(source, own)
                return f"{counted(len(listed), 'archive')} of this device"
            if Capability.READ_RANGE in source.storage.capabilities:
                source.storage.read_range(_UNNAMED, 0, 1)
                return "it answers, and has an archive"
        except (TargetAbsent, NoBucket):
            raise
        except (NotFound, NoRepository) as error:
            if isinstance(error.__cause__, NoBucket):
                raise error.__cause__ from None
            return "it answers, and has nothing yet"
    return "its options are right; this provider cannot look"


def _impatient(settings: Settings) -> Settings:
    """Return the settings with one attempt for each request, and short waits."""
    given = settings.transfer
    read = min(given.read_timeout, timedelta(seconds=READ_S))
    return settings.model_copy(
        update={"transfer": given.model_copy(update={"attempts": 1, "read_timeout": read})}
    )
