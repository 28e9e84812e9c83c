"""Recognises redelivered commands by what the journal keeps of earlier ones.

A redelivery equals an earlier command in device level, request id, subject, correlation-id header and
payload, and came while that one's window or job lasted, or carries MQTT's dup flag. Its answer is
repeated and nothing runs. The payload is kept as a keyed digest only: it may hold credentials.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum

from agent.base.clock import BootClock
from agent.journal import Journal
from agent.journal.commands import CommandId, SeenCommand


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
        self._key = journal.notes.random("digest_key").encode()
        self._clock = BootClock()

    def judge(self, command: CommandId, payload: bytes, *, short: bool, dup: bool) -> Verdict | Repeated:
        """Return the verdict on this delivery. `short` is the topic's form, `dup` MQTT's flag."""
        digest = self.digest(payload)
        conflict = False
        for seen, running in self._journal.commands.seen(command):
            recent = self._clock.age_s(seen.boot_id, seen.boot_s) < self._window_s
            if seen.digest != digest:
                conflict = conflict or (recent and bool(command.request_id))
            elif seen.short is not short and recent:
                return Verdict.OTHER_FORM
            elif dup or recent or running:
                return Repeated(seen.reply_topic, seen.reply)
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
        seen = SeenCommand(self.digest(payload), short, *self._clock.now(), *(reply or (None, None)))
        self._journal.commands.keep(command, seen, job_id)

    def digest(self, payload: bytes) -> bytes:
        """Return the keyed digest that stands for a payload on the disk."""
        return hashlib.blake2b(payload, key=self._key, digest_size=16).digest()
