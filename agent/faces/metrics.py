"""Metrics of the backups, as a text file for Prometheus' node exporter (`metrics.textfile`).

Source: "Exposition formats" and "Metric and label naming" of the Prometheus documentation: gauges in seconds
and bytes. Belongs to the main thread.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import structlog

from agent import __version__
from agent.base.durable import replace_in
from agent.base.job import State
from agent.base.times import format_time, parse_time
from agent.jobs.queries.health import Health
from agent.jobs.queries.history import History
from agent.jobs.schedule_record import ScheduleState
from agent.mailbox import Mailbox, Timer
from providers.directory import open_resolved

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
"""The file is written at most this often, and only when it changes."""

_OF_THE_LAST_BACKUP = {
    "archive_bytes": "The archive of",
    "content_bytes": "What was saved by",
    "added_bytes": "What was sent by",
    "files_new": "New files in",
    "files_changed": "Changed files in",
    "files_unmodified": "Unmodified files in",
}
"""Facts, and the first words of their descriptions. Only snapshots have facts about changes."""

Sample = tuple[Mapping[str, str], float]


class Metrics:
    def __init__(
        self,
        path: Path | None,
        mailbox: Mailbox,
        health: Health,
        history: History,
        schedules: Callable[[], Mapping[str, ScheduleState]],
    ) -> None:
        """Without a `path` nothing is ever written."""
        # Follow links once, here: a user who replaces one later does not change where the agent writes.
        self._path = path and Path(os.path.realpath(path.parent)) / path.name
        self._mailbox, self._health, self._history = mailbox, health, history
        self._schedules = schedules
        self._written, self._failed = "", False
        self._timer: Timer | None = None

    def changed(self) -> None:
        """Write the state at the end of the interval: something may have changed."""
        if self._path and self._timer is None:
            self._timer = self._mailbox.call_later(INTERVAL_S, self.write)

    def text(self) -> str:
        return "".join(
            f"# HELP edge_backup_{name} {about}\n# TYPE edge_backup_{name} gauge\n"
            + "".join(f"edge_backup_{name}{_labels(labels)} {value:.16g}\n" for labels, value in samples)
            for name, about, samples in self._gauges()
        )

    def _gauges(self) -> Iterator[tuple[str, str, Iterable[Sample]]]:
        health = self._health.facts()
        success, verified = (
            when.timestamp() if when else 0 for when in (health.last_success, health.last_verified)
        )
        yield "info", "The agent.", [({"version": __version__}, 1)]
        yield "last_success_timestamp_seconds", "End of the last good backup, 0 for never.", [({}, success)]
        yield "last_verified_timestamp_seconds", "Last check of an archive, 0 for never.", [({}, verified)]
        yield (
            "rpo_violated",
            "1 when the last good backup is older than it may be.",
            [({}, health.rpo_violated)],
        )
        yield "missed_backups", "Periodic backups in a row that were missed.", [({}, health.missed)]
        yield from self._of_schedules()
        yield from self._of_jobs()

    def _of_schedules(self) -> Iterator[tuple[str, str, Iterable[Sample]]]:
        """Yield the metrics of each schedule, and of each of its stores when it has several."""
        due, ends, good, late, missed = (list[Sample]() for _ in range(5))
        for name, schedule in self._schedules().items():
            due.append(({"schedule": name}, schedule.next_due.timestamp() if schedule.next_due else 0))
            for store, state in schedule.stores.items():
                labels = {"schedule": name} | ({"store": store} if store else {})
                late.append((labels, state.is_late))
                missed.append((labels, state.missed))
                if state.last:
                    ends.append((labels, parse_time(state.last.ended).timestamp()))
                    good.append((labels, state.last.state == State.FINISHED))
        yield "schedule_next_timestamp_seconds", "When the next backup is due, 0 for never.", due
        yield "schedule_last_end_timestamp_seconds", "When the last backup of the schedule ended.", ends
        yield "schedule_last_success", "1 when it ended well.", good
        yield "schedule_late", "1 while a backup that was due is tried again.", late
        yield "schedule_missed_backups", "Backups of the schedule in a row that were missed.", missed

    def _of_jobs(self) -> Iterator[tuple[str, str, Iterable[Sample]]]:
        """Yield the metrics of the newest job of each kind, and of the newest good backup."""
        good, ends, took = list[Sample](), list[Sample](), list[Sample]()
        for job in self._history.newest():
            if job["endTime"] == format_time(None):
                continue  # a preview that waits
            kind = {"kind": job["kind"]}
            good.append((kind, job["state"] == State.FINISHED))
            ends.append((kind, parse_time(job["endTime"]).timestamp()))
            if "seconds" in job:  # a job that was cut off has none: nobody saw its end
                took.append((kind, job["seconds"]))
        yield "last_job_success", "1 when the last job of this kind ended well.", good
        yield "last_job_end_timestamp_seconds", "When it ended.", ends
        yield "last_job_duration_seconds", "How long it took.", took
        for fact, about in _OF_THE_LAST_BACKUP.items():
            size = self._history.last_size(fact)
            yield f"last_{fact}", f"{about} the last good backup.", [] if size is None else [({}, size)]

    def write(self) -> None:
        self._timer = None
        text = self.text()
        if text == self._written or self._path is None:
            return
        try:
            _replace(self._path, text)
        except OSError as error:
            if not self._failed:  # said once: the write is tried again with every change
                log.warning("metrics not written", file=str(self._path), errno=error.errno)
            self._failed = True
        else:
            self._written, self._failed = text, False


def _labels(labels: Mapping[str, str]) -> str:
    """Return the labels as in `{kind="backup"}`; an empty text for none."""
    escaped = (
        (name, text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, text in labels.items()
    )
    listed = ",".join(f'{name}="{text}"' for name, text in escaped)
    return f"{{{listed}}}" if listed else ""


def _replace(path: Path, text: str) -> None:
    """Replace the file in one step; all may read it. Not synced: after a power cut it is written again.

    Raises OSError, also when `path` is no regular file, or a directory above it is a link.
    """
    directory = open_resolved(path.parent, os.O_PATH)
    try:
        replace_in(directory, path.name, text, 0o644, synced=False)
    finally:
        os.close(directory)
