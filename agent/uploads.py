"""Uploads of staged archives: one at a time, beside a job; further ones wait in line."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from agent.admission import Admission, Admitted, metadata
from agent.backup.job import Upload, UploadState, parse_time
from agent.backup.pipeline import UploadOrder, upload
from agent.journal import Journal, Staged
from agent.mailbox import Post
from agent.messaging.ditto import EXECUTION_FAILED, PARAMETER_INVALID, CommandError
from agent.parameters import Parameters
from agent.runner import INTERRUPTED
from agent.settings import Settings
from agent.worker import Outcome, Task, Tools, Workers
from providers.api import Stored

log = structlog.get_logger(__name__)

UPDATE_INTERVAL_S = 1.0


class UploadListener(Protocol):
    """Whoever tells the world. Called inside the journal's transaction, `settled` after it."""

    def check_upload_fits(self, upload: Upload) -> None:
        """Raise `CommandError` 400 when what must be said of it could not be sent."""

    def upload_changed(self, upload: Upload) -> None: ...
    def settled(self) -> None: ...


@dataclass(slots=True)
class _Entry:
    """An upload that runs or waits for its turn."""

    state: Upload
    staged: Staged
    tools: Tools
    order: UploadOrder


class Uploads:
    """Belongs to the main thread."""

    def __init__(
        self, settings: Settings, journal: Journal, workers: Workers, listener: UploadListener, post: Post
    ) -> None:
        self._settings, self._journal, self._workers = settings, journal, workers
        self._listener, self._post = listener, post
        self._admission = Admission(settings)
        self._line: deque[_Entry] = deque()

    @property
    def idle(self) -> bool:
        return not self._line

    def stop(self, message: str) -> None:
        """Ask all uploads to end; they will be reported as interrupted, the archives stay."""
        for entry in self._line:
            entry.tools.token.cancel(message, INTERRUPTED)

    def start(self, parameters: Parameters, device_id: str) -> Admitted:
        """Admit the upload of a staged archive. Raises `CommandError` 400, 404 or 409."""
        child_id = parameters.correlationid
        staged = self._journal.staged().get(child_id)
        if staged is None or not staged.path.exists():
            raise CommandError(404, PARAMETER_INVALID, f"no archive waits for an upload with id '{child_id}'")
        if any(entry.staged.child_id == child_id for entry in self._line):
            raise CommandError(409, EXECUTION_FAILED, f"upload '{child_id}' is already in progress")
        tools = Tools(self._settings.transfer.connect_timeout.total_seconds())
        facts = metadata(staged.parent_id, device_id) | {"sha256": staged.sha256}
        place = self._admission.place(parameters, tools.connections, staged.path.name, facts)
        state = Upload(child_id, staged.parent_id, parameters.prefixed("info."), datetime.now(UTC))
        self._listener.check_upload_fits(state)
        entry = _Entry(state, staged, tools, UploadOrder(staged.path, place, self._settings.checksum))
        return Admitted(None, partial(self._listener.upload_changed, state), partial(self._enqueue, entry))

    def _enqueue(self, entry: _Entry) -> None:
        self._line.append(entry)
        if len(self._line) == 1:
            self._begin(entry)

    def _begin(self, entry: _Entry) -> None:
        staged = entry.staged
        log.info("upload started", correlation_id=staged.child_id, bytes=staged.size_bytes)
        progress = _Throttled(
            staged.size_bytes, lambda percent: self._post(partial(self._moved, entry, percent))
        )
        self._workers.start(
            Task(
                owner=staged.child_id,
                correlation_id=staged.child_id,
                tools=entry.tools,
                place=entry.order.place,
                work=partial(upload, entry.order),
                ended=partial(self._ended, entry),
                progress=progress,
            )
        )

    def _moved(self, entry: _Entry, percent: int) -> None:
        if entry.state.state is UploadState.UPLOADING and percent > entry.state.progress:
            entry.state = entry.state.moved(percent)
            self._listener.upload_changed(entry.state)
            self._listener.settled()

    def _ended(self, entry: _Entry, outcome: Outcome[Stored]) -> None:
        now, staged = datetime.now(UTC), entry.staged
        if outcome.result is None:
            entry.state = entry.state.failed(now, outcome.code, outcome.message)
            log.error(
                "upload failed", correlation_id=staged.child_id, code=outcome.code, reason=outcome.message
            )
        else:
            entry.state = entry.state.succeeded(now)
            log.info("upload finished", correlation_id=staged.child_id, place=outcome.result.place)
        with self._journal.transaction():
            self._listener.upload_changed(entry.state)
            if outcome.result is not None:
                self._journal.unstage(staged.child_id)
        if outcome.result is not None and not self._settings.keep_uploaded:
            _remove(staged.path)
        self._line.popleft()
        self._listener.settled()
        if self._line:
            self._begin(self._line[0])

    def report_interrupted(self) -> None:
        """After a restart: an upload that the twin still believes in has failed; its archive waits on."""
        value = self._journal.last_value("lastUpload")
        if not isinstance(value, dict) or value.get("state") != UploadState.UPLOADING:
            return
        started = parse_time(value["startTime"])
        upload = Upload("", value["correlationId"], value["info"], started, progress=value["progress"])
        message = "the agent was stopped during the upload: send 'start' again"
        self._listener.upload_changed(upload.failed(datetime.now(UTC), INTERRUPTED, message))


class _Throttled:
    """Passes progress on in whole percent, at most once in `UPDATE_INTERVAL_S`. Runs in the worker."""

    def __init__(self, size_bytes: int, tell: Callable[[int], None]) -> None:
        self._size_bytes, self._tell = max(1, size_bytes), tell
        self._percent, self._told_s = 0, time.monotonic()

    def __call__(self, bytes_done: int) -> None:
        percent = min(100 * bytes_done // self._size_bytes, 99)
        now = time.monotonic()
        if percent > self._percent and now - self._told_s >= UPDATE_INTERVAL_S:
            self._percent, self._told_s = percent, now
            self._tell(percent)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        log.exception("could not remove the uploaded archive", file=path.name)
