"""Verifications: a command, or a periodic drill, becomes an order for `agent.restore.verify`.

Belongs to the main thread.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.base.errors import ArchiveError, EncryptionBroken, ManifestBroken, RepositoryBroken
from agent.base.job import Job, Kind, State
from agent.base.refusals import Refused
from agent.base.sources import Verdicts
from agent.base.times import format_time
from agent.formats.archive_names import OwnArchives, parse_archive_name
from agent.jobs.admission import Admission, Admitted
from agent.jobs.formats import archive_limits, read_format, unlock_for
from agent.jobs.foundation import Foundation
from agent.jobs.recurring import Recurring
from agent.jobs.requests.restore import VerifyRequest
from agent.jobs.requests.storage import store_storage
from agent.jobs.running_job import Runner
from agent.jobs.task import INTERRUPTED, Outcome
from agent.journal import LAST_VERIFIED, Journal
from agent.journal.jobs import JobRecord
from agent.mailbox import Action
from agent.transfer.archive_files import Fetch
from providers.errors import Corrupted, Unreachable

if TYPE_CHECKING:
    from agent.restore.verify import Verified

log = structlog.get_logger(__name__)

DAMAGED = tuple(
    error.code for error in (ArchiveError, ManifestBroken, EncryptionBroken, RepositoryBroken, Corrupted)
)
"""Status codes of a verification that found a damaged archive."""


class Verifications:
    def __init__(self, base: Foundation, runner: Runner) -> None:
        self._settings, self._journal, self._staging = base.settings, base.journal, base.staging
        self._device, self._runner, self._admission = base.device, runner, Admission(base.settings)

    def verify(self, request: VerifyRequest, max_bytes: int = 0, put_off: Action = lambda: None) -> Admitted:
        """Admit the verification of the archive that a restore would fetch. Raises `Refused`.

        `put_off` is called when the archive could not be reached: a later attempt may succeed.
        """
        from agent.restore.verify import VerifyOrder, verify

        settings = self._settings
        own = self._device.archives
        job, tools = self._runner.new_job(Kind.VERIFY, request.correlation_id)
        unlock = unlock_for(request.key, settings.encryption)
        device_id = request.wanted.device_id or self._device.id
        destination = self._admission.source(request.source, tools.connections, device_id)
        download = self._staging.download(job.id)
        order = VerifyOrder(
            Fetch(destination, download, settings.storage_reserve, max_bytes),
            request.wanted.search(own, request.wanted.source),
            read_format(request.source, settings),
            unlock,
            archive_limits(settings),
            known_hashes(self._journal, own),
        )
        return self._runner.admitted(
            job,
            tools,
            directory=download,
            destination=destination,
            work=partial(verify, order),
            ended=partial(self._ended, job, request.source.facts(), put_off),
        )

    def _ended(
        self, job: Job, facts: Mapping[str, str], put_off: Action, outcome: "Outcome[Verified]"
    ) -> None:
        now, found = datetime.now(UTC), outcome.result
        if found is None:
            if outcome.code in (Unreachable.code, INTERRUPTED):
                put_off()
            self._runner.end(job.failed(now, outcome.code, outcome.message), facts)
            return
        about: dict[str, object] = {"archive": found.stored.name, "place": found.stored.place, **facts}
        about |= {"archive_bytes": found.stored.size_bytes, "sha256": found.sha256}
        if found.damage:
            self._runner.end(job.failed(now, found.damage.code, str(found.damage)), about)
            return
        note = json.dumps({"time": format_time(now), **about})
        if survey := found.survey:
            about |= {"files": survey.files, "content_bytes": survey.size_bytes}

        def also() -> None:
            self._journal.notes.keep(LAST_VERIFIED, note)

        self._runner.end(job.finished(now, _extent(found)), about, also=also)


def _extent(found: "Verified") -> str:
    """Return how much of a sound archive was looked at; empty for all of it."""
    if not found.survey:
        return "only its hash was compared: it is encrypted, and nothing was given to open it"
    size_bytes, looked_at_bytes = found.stored.size_bytes, found.looked_at_bytes
    if looked_at_bytes == size_bytes:
        return ""
    return (
        f"a sample was read: {looked_at_bytes} of the {size_bytes} bytes that the snapshot takes in the"
        " repository (verify.maxSize)"
    )


class Drills:
    """Verifies the newest archive in the store `verify.store` periodically."""

    def __init__(
        self, base: Foundation, verifications: Verifications, carry_out: Callable[[Admitted], None]
    ) -> None:
        """`carry_out` records an admitted job and begins it."""
        self._settings, self._verifications, self._carry_out = base.settings, verifications, carry_out
        period = base.settings.verify.period
        self._recurring = (
            Recurring("verify", period, base.journal, base.mailbox, self.drill) if period else None
        )

    def begin(self) -> None:
        """Look now, and from now on."""
        if self._recurring:
            self._recurring.begin()

    def drill(self) -> bool:
        """Begin a verification; return False when that is not possible now."""
        assert self._recurring
        try:
            request = VerifyRequest(source=store_storage(self._settings, self._settings.verify.store))
            max_bytes, put_off = self._settings.verify.max_size, self._recurring.put_off
            self._carry_out(self._verifications.verify(request, max_bytes, put_off))
        except Refused as error:
            log.info("periodic verification postponed", reason=error.message)
            return False
        return True


def known_hashes(journal: Journal, own: OwnArchives) -> Mapping[tuple[str, str], str]:
    """Return the SHA-256 of every archive in the history, by destination and name.

    An archive whose name is its own has a second entry, for destinations that it was uploaded to.
    """
    from agent.restore.verify import ANYWHERE

    known = {}
    for record in journal.jobs.ended_of(Kind.BACKUP):
        facts = record.facts
        if record.state == State.FINISHED and facts.get("sha256"):
            name = facts.get("archive", "")
            known[facts.get("place", ""), name] = facts["sha256"]
            if own.parse(name):  # also where it came to by an upload
                known[ANYWHERE, name] = facts["sha256"]
    return known


def verdicts(journal: Journal) -> Verdicts:
    """Return the results of the verifications that the history keeps."""
    return verdicts_of(journal.jobs.ended_of(Kind.VERIFY))


def verdicts_of(verifications: Iterable[JobRecord]) -> Verdicts:
    """Return the result of the last verification of each archive; leave out inconclusive ones."""
    found = {}
    for record in verifications:
        archive, sound = record.facts.get("archive"), record.state == State.FINISHED
        if archive and (sound or record.status_code in DAMAGED):
            found[archive, record.facts.get("place", "") if parse_archive_name(archive) else ""] = sound
    return Verdicts(found)
