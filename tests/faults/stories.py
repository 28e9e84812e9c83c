"""Stories for an agent while something goes wrong, and the promises that hold afterwards.

A story goes on whatever happens to the agent: when it has died, it is started again, and only what the
backend has not sent yet is sent.
"""

import json
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.backend import LAST_OPERATION, LAST_UPLOAD, REQUEST, Backend, Message
from tests.support.incubator import Hatched
from tests.support.repositories import restic
from tests.support.trees import Dir, File, Link, Spec, contents, differences
from tests.support.waiting import wait_until

OLD: Spec = {
    "config": Dir(0o750),
    "config/app.json": File(b'{"interval": 30}\n', 0o600),
    "config/gone": File(b"stays, or goes"),
    "closed": Dir(0o555),
    "closed/replaced": File(b"old closed", 0o400),
    "empty": Dir(),
    "link": Link("config"),
    "single": File(b"old single"),
}
NEW: Spec = {
    "config": Dir(0o700, 1),
    "config/app.json": File(b'{"interval": 60}\n' * 5_000, 0o640),
    "closed": Dir(0o555, 2),
    "closed/replaced": File(b"new closed", 0o440),
    "empty": File(b"a file now"),
    "link": Link("elsewhere"),
    "whole": Dir(0o755),
    "whole/file": File(b"w"),
}
SET = ("single", "closed", "config")
"""The data set `three`: a file in the directory, and two directories in there."""
NEW_SET: Spec = {
    "single": File(b"new single", 0o600),
    "closed/replaced": File(b"replaced", 0o440),
    "closed/sub/file": File(b"sub"),
    "config/app.json": File(b'{"interval": 90}\n' * 5_000, 0o640),
    "config/more": Link("app.json"),
}
LOCAL = {"storage.provider": "local", "local.name": "it.zip"}
REPOSITORY = {"backup.store": "repository"}
THREE = {"local.name": "three.zip", "restore.dataTypes": "three"}
NOTHING: Mapping[str, str] = {}
ENDS = ("FINISHED", "FAILED", "SUCCESS", "CANCELED")


class Teller:
    """Drives one agent through a story, and starts it again whenever it has died."""

    def __init__(
        self, agent: Hatched, backend: Backend, kill_again_at: int = 0, *, patient: bool = True
    ) -> None:
        """The first restart is killed too, at that call of its own.

        A backend that is not `patient` sends a command again that got no answer before a restart: one that
        was acknowledged may have died with its answer.
        """
        self.agent, self.backend, self._kill_at = agent, backend, kill_again_at
        self._patient = patient
        self._send_again: Callable[[], object] = lambda: None
        self.restarts = 0
        self.sent: list[tuple[str, str, str]] = []
        """Operation, correlation id and header of each command, in order."""
        self.known: dict[tuple[str, str], tuple[str, bool]] = {}
        """Commands of an earlier life, by operation and correlation id: the header, and whether they were
        acknowledged. Those are not sent again, the others as the broker would do it."""
        backend.messages.clear()

    def until(self, found: Callable[[], object], what: str) -> None:
        """Wait; an agent that dies meanwhile is started again, as systemd would."""

        def look() -> bool:
            if found():
                return True
            if not self.agent.alive:
                assert not self.agent.failed(), self.agent.failed()[-2000:]
                assert self.restarts < 3, f"the agent died again and again: {self.agent.logged()[-2000:]}"
                self.restarts += 1
                self.agent.kill()
                self.agent.start(self._kill_at if self.restarts == 1 else 0)
                self._send_again()
            return False

        wait_until(look, what=f"{what}; heard {self._heard()}")

    def _heard(self) -> list[str]:
        return [f"{m['path'].rpartition('/')[2]} {m.get('status', '')}" for _, m in self.backend.messages]

    def announced(self) -> None:
        self.until(lambda: self._any(lambda m: m[1]["path"].endswith("BackupAndRestore")), "announcement")

    def _any(self, wanted: Callable[[Message], bool]) -> bool:
        return any(wanted(message) for message in list(self.backend.messages))

    def command(self, operation: str, correlation_id: str, options: dict[str, str]) -> str:
        """Send it once, and wait for its answer; the header it is told by."""
        header, acknowledged = self.known.pop((operation, correlation_id), (secrets.token_hex(8), False))
        self.sent.append((operation, correlation_id, header))
        value = {"correlationID": correlation_id, "options": options}
        send = partial(self.backend.send, operation, value, correlation_id=header)
        if not acknowledged:
            send()
        self._send_again = (lambda: None) if self._patient else send
        self.until(lambda: self.answers(header), f"answer to {operation} {correlation_id}")
        self._send_again = lambda: None
        return header

    def answers(self, header: str) -> list[dict[str, Any]]:
        return [
            envelope
            for topic, envelope in list(self.backend.messages)
            if topic.startswith("command/") and envelope["headers"]["correlation-id"] == header
        ]

    def requests(self, child_id: str) -> list[Message]:
        """The upload requests for this child."""
        return [
            message
            for message in list(self.backend.messages)
            if message[1]["path"] == REQUEST and message[1]["value"]["correlationId"] == child_id
        ]

    def values(self, correlation_id: str, path: str = LAST_OPERATION) -> list[dict[str, Any]]:
        """The distinct values of this operation or upload, in order."""
        return [value for value in self.backend.values(path) if value["correlationId"] == correlation_id]

    def ends(self, correlation_id: str, path: str = LAST_OPERATION) -> list[dict[str, Any]]:
        return [value for value in self.values(correlation_id, path) if value["state"].endswith(ENDS)]

    def run(self, operation: str, correlation_id: str, options: dict[str, str]) -> dict[str, Any]:
        """A whole job: told once, answered with 204, ended; its end."""
        header = self.command(operation, correlation_id, options)
        assert self.answers(header)[0]["status"] == 204, self.answers(header)
        self.until(lambda: self.ends(correlation_id), f"the end of {correlation_id}")
        return self.ends(correlation_id)[0]

    def settle(self) -> None:
        """Return when the agent has nothing left to do for what it was told: it answers something else."""
        header = self.command("nothing-of-the-kind", "", {})
        assert self.answers(header)[0]["status"] == 400

    def check_told_once(self, *correlation_ids: str) -> None:
        """Begun once, ended once, in this order; every answer to one command the same."""
        for correlation_id in correlation_ids:
            states = [value["state"] for value in self.values(correlation_id)]
            assert len(states) == 2, f"{correlation_id}: {states}"
            assert states[0].endswith("STARTED"), states
            assert states[1].endswith(ENDS), states
        answers: dict[str, dict[str, Any]] = {}
        for topic, envelope in list(self.backend.messages):
            if topic.startswith("command/"):
                header = envelope["headers"]["correlation-id"]
                assert answers.setdefault(header, envelope) == envelope, "two answers to one command"


def backup(options: dict[str, str], teller: Teller, url: str) -> str:
    return _job("backup", options, teller, url)


def restore(options: dict[str, str], teller: Teller, url: str) -> str:
    return _job("restore", options, teller, url)


def _job(operation: str, options: dict[str, str], teller: Teller, url: str) -> str:
    teller.announced()
    return str(teller.run(operation, "X", options or {"https.url": url})["state"])


def previewed(teller: Teller, _url: str, more: Mapping[str, str] = NOTHING) -> str:
    """A preview and its restore; one that was lost with the agent is made again, as somebody would."""
    teller.announced()
    for attempt in range(1, 4):
        again = {"info.attempt": str(attempt)}
        header = teller.command("restore", "X", {**LOCAL, "restore.preview": "true", **more, **again})
        assert teller.answers(header)[0]["status"] == 204, teller.answers(header)
        teller.until(lambda: not _preview_runs(teller.agent), "the preview's end")
        header = teller.command("finalize", "X", again)
        if teller.answers(header)[0]["status"] == 204:
            teller.until(lambda: teller.ends("X"), "the end of X")
            return str(teller.ends("X")[0]["state"])
        assert teller.answers(header)[0]["status"] == 404, teller.answers(header)
    raise AssertionError("every preview was lost")


def tried(within: str, teller: Teller, _url: str, more: Mapping[str, str] = NOTHING) -> str:
    """A restore on trial; what was confirmed is never taken back."""
    teller.announced()
    header = teller.command("restore", "X", {**LOCAL, "restore.confirmWithin": within, **more})
    assert teller.answers(header)[0]["status"] == 204, teller.answers(header)
    for attempt in range(1, 50):
        teller.until(
            lambda: teller.ends("X") or (within == "10m" and _on_trial(teller.agent)), "a trial, or its end"
        )
        if teller.ends("X"):
            break
        header = teller.command("confirm", "X", {"info.attempt": str(attempt)})
        if teller.answers(header)[0]["status"] == 204:
            teller.until(lambda: teller.ends("X"), "the end of X")
            assert teller.ends("X")[0]["state"] == "RESTORE_FINISHED", "confirmed, and taken back"
    return str(teller.ends("X")[0]["state"])


def _on_trial(agent: Hatched) -> bool:
    return any(agent.data.glob(".edge-backup-*/trial"))


def _preview_runs(agent: Hatched) -> bool:
    """Read in the journal: a question would be one more message that nothing has to be synced for."""
    with closing(sqlite3.connect(agent.storage / "journal.db", timeout=5)) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'preview'").fetchone()
    note = json.loads(row[0]) if row else None
    return bool(note and note["stand"] == "running")


def hand_over(teller: Teller, url: str) -> str:
    teller.announced()
    return hand_over_to({"https.url": url}, teller)


def hand_over_to(options: dict[str, str], teller: Teller) -> str:
    """Backup, request, start; an upload that was interrupted is started again, as a backend does."""
    state = str(teller.run("backup", "X", {})["state"])
    if state == "BACKUP_FAILED":
        return state
    teller.until(lambda: teller.requests("X#1"), "the upload request")
    for attempt in range(1, 4):
        header = teller.command("start", "X#1", options)
        assert teller.answers(header)[0]["status"] == 204, teller.answers(header)
        teller.until(partial(_ended_times, teller, attempt), "the upload's end")
        if teller.ends("X", LAST_UPLOAD)[-1]["state"] == "SUCCESS":
            return state
    raise AssertionError(f"never uploaded: {teller.values('X', LAST_UPLOAD)}")


def _ended_times(teller: Teller, times: int) -> bool:
    return len(teller.ends("X", LAST_UPLOAD)) >= times


Story = Callable[[Teller, str], str]
"""Told with a teller and the URL of a place; how its job ended."""

STORIES: dict[str, Story] = {
    "backup to local": partial(backup, LOCAL),
    "backup to https": partial(backup, {}),
    "backup, request, start": hand_over,
    "snapshot in a repository": partial(backup, REPOSITORY),
    "restore from local": partial(restore, LOCAL),
    "restore, replace": partial(restore, {**LOCAL, "restore.mode": "replace"}),
    "restore from https": partial(restore, {}),
    "preview, finalize": previewed,
    "trial, confirm": partial(tried, "10m"),
    "trial, not confirmed": partial(tried, "1s"),
    "three roots": partial(restore, {**LOCAL, **THREE}),
    "three roots, trial": partial(tried, "10m", more=THREE),
    "three roots, preview": partial(previewed, more=THREE),
}


def offered_again(teller: Teller) -> set[Path]:
    """Complete archives that a crash separated from their command, and that the backend was asked to take."""
    with closing(sqlite3.connect(teller.agent.storage / "journal.db", timeout=5)) as db:
        waiting = {Path(path.decode()) for (path,) in db.execute("SELECT path FROM staged").fetchall()}
    asked = {
        Path(message[1]["value"]["options"]["file.path"])
        for message in list(teller.backend.messages)
        if message[1]["path"] == REQUEST
    }
    assert waiting <= asked, f"waits, but nobody was asked to take it: {waiting - asked}"
    return waiting


def leftovers(agent: Hatched, offered: set[Path]) -> list[str]:
    """Everything on the disk that no idle agent should leave there."""
    return sorted(str(path.relative_to(agent.root)) for path in {*_leftovers(agent)} - offered)


def _leftovers(agent: Hatched) -> Iterator[Path]:
    storage = agent.storage
    yield from agent.data.rglob(".edge-backup-*")
    yield from (path for name in ("backups", "downloads") for path in (storage / name).iterdir())
    yield from (path for path in (storage / "archives").rglob("*") if ".part-" in path.name)
    known = {"backups", "downloads", "archives", "repositories", "lock", "spare", "http.sock"}
    known |= {"journal.db", "journal.db-wal", "journal.db-shm", "restore.key", "restored-into.json"}
    yield from (path for path in storage.iterdir() if path.name not in known)


def journal_rows(agent: Hatched) -> dict[str, list[Any]]:
    """The rows that an idle agent's journal must not have."""
    queries = {
        "running jobs": "SELECT id FROM jobs WHERE state IN ('STARTED', 'PREVIEW')",
        "checkpoints": "SELECT owner, key FROM checkpoints",
        "unsent messages": "SELECT topic FROM outbox",
    }
    with closing(sqlite3.connect(agent.storage / "journal.db", timeout=5)) as db:
        found = {what: db.execute(query).fetchall() for what, query in queries.items()}
    return {what: rows for what, rows in found.items() if rows}


def check_repository(teller: Teller) -> None:
    """Where there is a repository, or a beginning of one, restic finds it whole after the next snapshot."""
    repository = teller.agent.storage / "archives" / "repository"
    if not repository.exists():
        return
    end = teller.run("backup", "snapshot", REPOSITORY)
    assert end["state"] == "BACKUP_FINISHED", end
    restic(repository, "check", "--read-data", "--no-lock")
    # A power cut between the lock and the note about it leaves one, which goes stale.
    assert len([*(repository / "locks").iterdir()]) <= 1


def check_goes_on(teller: Teller, check: Callable[[], None] = lambda: None) -> None:
    """Nothing is left over when the agent is idle, and a backup and a restore of it work."""
    agent = teller.agent
    teller.settle()
    check()
    offered = offered_again(teller)
    # A thread gives back the space of a sent archive.
    teller.until(lambda: not leftovers(agent, offered), f"what is left over: {leftovers(agent, offered)}")
    teller.until(lambda: not journal_rows(agent), f"an empty journal, not {journal_rows(agent)}")
    check_repository(teller)
    before = contents(agent.data)
    options = {"storage.provider": "local", "local.name": "next.zip"}
    assert teller.run("backup", "next", options)["state"] == "BACKUP_FINISHED"
    shutil.rmtree(agent.data / "closed", ignore_errors=True)
    assert teller.run("restore", "back", options)["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(agent.data)) == []
