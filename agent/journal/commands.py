"""Commands that were received, with their answers: a redelivery is recognised after a restart, too."""

from dataclasses import dataclass

from agent.base.job import State
from agent.journal.unit import Table

KEPT_COMMANDS = 1000


@dataclass(frozen=True, slots=True)
class CommandId:
    """The ids by which a backend tells its commands apart."""

    device: str
    request_id: str
    subject: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class SeenCommand:
    """A command that was received; only a digest of its payload is kept."""

    digest: bytes
    short: bool
    """True when it came on the short form of the topic."""
    boot_id: str
    boot_s: float
    """The time of its arrival, on the clock of that boot."""
    reply_topic: str | None
    reply: bytes | None
    """The answer; None when none was due."""


class Commands(Table):
    def seen(self, command: CommandId) -> list[tuple[SeenCommand, bool]]:
        """Return the commands with these ids, newest first, each with True when its job still runs."""
        rows = self._database.read(
            "SELECT c.digest, c.short, c.boot_id, c.boot_s, c.reply_topic, c.reply, j.state"
            " FROM commands c LEFT JOIN jobs j ON j.id = c.job_id"
            " WHERE c.request_id = ? AND c.subject = ? AND c.device = ? AND c.correlation_id = ?"
            " ORDER BY c.id DESC",
            (command.request_id, command.subject, command.device, command.correlation_id),
        )
        return [
            (SeenCommand(digest, bool(short), *rest), state == State.STARTED)
            for digest, short, *rest, state in rows
        ]

    def keep(self, command: CommandId, seen: SeenCommand, job_id: str | None) -> None:
        """Keep a command and the job that it started, if any; forget the oldest commands."""
        with self._database.unit():
            self._database.write(
                "INSERT INTO commands (device, request_id, subject, correlation_id, digest, short, boot_id,"
                " boot_s, reply_topic, reply, job_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (command.device, command.request_id, command.subject, command.correlation_id,
                 seen.digest, seen.short, seen.boot_id, seen.boot_s, seen.reply_topic, seen.reply, job_id),
            )  # fmt: skip
            self._database.write(
                "DELETE FROM commands WHERE id <= (SELECT max(id) FROM commands) - ?"
                " AND (job_id IS NULL OR job_id NOT IN (SELECT id FROM jobs WHERE state = ?))",
                (self._database.room_for(KEPT_COMMANDS), State.STARTED),
            )
