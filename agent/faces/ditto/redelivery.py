"""Was this command here before? WIRE's rule, decided on what the journal kept of earlier commands.

A redelivery equals an earlier command in device level, request id, subject, correlation-id header and
payload, and came while that one's window or job lasted, or carries MQTT's dup flag. Its answer is
repeated and nothing runs. The payload is kept as a keyed digest only: it may hold credentials.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum

from agent.base.clock import BootClock
from agent.base.job import State
from agent.journal import KEPT_COMMANDS, Journal


@dataclass(frozen=True, slots=True)
class CommandId:
    """What a backend sends along to tell its commands apart."""

    device: str
    request_id: str
    subject: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """The answer that the earlier delivery got; None when none was due."""

    reply_topic: str | None
    reply: bytes | None


class Verdict(Enum):
    NEW = "new"
    OTHER_FORM = "the same command on the other form of the topic: it has been answered"
    CONFLICT = "another payload under the same request id"


class Redeliveries:
    """Commands that were seen, in the journal. The window counts on the boot clock, which never jumps."""

    def __init__(self, journal: Journal, window_s: float) -> None:
        self._journal, self._window_s = journal, window_s
        self._key = journal.remembered("digest_key").encode()
        self._clock = BootClock()

    def judge(self, command: CommandId, payload: bytes, *, short: bool, dup: bool) -> Verdict | Repeated:
        """What this delivery is. `short` is the topic's form, `dup` MQTT's flag."""
        digest = self.digest(payload)
        conflict = False
        with self._journal.transaction() as db:
            rows = db.execute(
                "SELECT c.digest, c.short, c.boot_id, c.boot_s, c.reply_topic, c.reply, j.state"
                " FROM commands c LEFT JOIN jobs j ON j.id = c.job_id"
                " WHERE c.request_id = ? AND c.subject = ? AND c.device = ? AND c.correlation_id = ?"
                " ORDER BY c.id DESC",
                (command.request_id, command.subject, command.device, command.correlation_id),
            ).fetchall()
        for known, known_short, boot_id, boot_s, reply_topic, reply, job_state in rows:
            recent = self._clock.age_s(boot_id, boot_s) < self._window_s
            if known != digest:
                conflict = conflict or (recent and bool(command.request_id))
            elif bool(known_short) is not short and recent:
                return Verdict.OTHER_FORM
            elif dup or recent or job_state == State.STARTED:
                return Repeated(reply_topic, reply)
        return Verdict.CONFLICT if conflict else Verdict.NEW

    def remember(
        self,
        command: CommandId,
        payload: bytes,
        short: bool,
        reply: tuple[str, bytes] | None,
        job_id: str | None,
    ) -> None:
        """Keep the command with its answer (topic and payload) and the job that it started, if any."""
        with self._journal.transaction() as db:
            db.execute(
                "INSERT INTO commands (device, request_id, subject, correlation_id, digest, short, boot_id,"
                " boot_s, reply_topic, reply, job_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (command.device, command.request_id, command.subject, command.correlation_id,
                 self.digest(payload), short, *self._clock.now(),
                 *(reply or (None, None)), job_id),
            )  # fmt: skip
            db.execute(
                "DELETE FROM commands WHERE id <= (SELECT max(id) FROM commands) - ?"
                " AND (job_id IS NULL OR job_id NOT IN (SELECT id FROM jobs WHERE state = ?))",
                (self._journal.room_for(KEPT_COMMANDS), State.STARTED),
            )

    def digest(self, payload: bytes) -> bytes:
        """What stands for a payload on the disk."""
        return hashlib.blake2b(payload, key=self._key, digest_size=16).digest()
