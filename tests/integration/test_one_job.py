"""One job at a time, one outcome per command, uploads beside it."""

import zipfile
from pathlib import Path

from tests.support.agent_process import AgentProcess
from tests.support.backend import FEATURE, LAST_UPLOAD, Backend
from tests.support.stalling import Stalling, stalling
from tests.support.trees import differences
from tests.support.waiting import wait_until

from .conftest import contents


def begin_long_backup(backend: Backend, destination: Stalling) -> None:
    options = {"https.url": destination.url}
    assert backend.ask("backup", {"correlationID": "long", "options": options})["status"] == 204
    assert destination.reached.wait(20)


def test_second_backup_and_restore_are_refused_with_409_while_one_runs(
    agent: AgentProcess, backend: Backend
) -> None:
    """Also the restore: Kanto says 204 there, and nobody ever hears of it again."""
    with stalling() as destination:
        begin_long_backup(backend, destination)
        for subject in ("backup", "restore"):
            answer = backend.ask(subject, {"options": {"storage.provider": "local", "local.name": "x.zip"}})
            assert answer["value"] == {
                "status": 409,
                "error": "messages:execution.failed",
                "message": "Backup operation is currently in progress!",
            }
        destination.release.set()
        assert backend.ended("long")["state"] == "BACKUP_FINISHED"
    assert backend.run("backup", "next", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"


def test_upload_of_a_staged_archive_runs_beside_a_backup(agent: AgentProcess, backend: Backend) -> None:
    """The second worker: an upload does not wait for a job, nor a job for an upload."""
    backend.run("backup", "staged", {})
    with stalling() as destination:
        begin_long_backup(backend, destination)
        value = {"correlationID": "staged#1", "options": {"storage.provider": "local"}}
        assert backend.ask("start", value)["status"] == 204
        assert backend.ended("staged", LAST_UPLOAD)["state"] == "SUCCESS"


def test_start_of_an_upload_that_runs_is_409_and_of_an_unknown_one_404(
    agent: AgentProcess, backend: Backend
) -> None:
    backend.run("backup", "X", {})
    with stalling() as destination:
        value = {"correlationID": "X#1", "options": {"https.url": destination.url}}
        assert backend.ask("start", value)["status"] == 204
        assert destination.reached.wait(20)
        assert backend.ask("start", value)["status"] == 409
        assert backend.ask("start", {**value, "correlationID": "X#2"})["status"] == 404
        destination.release.set()
        assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"


def test_failed_upload_keeps_the_archive_and_can_be_started_again(
    agent: AgentProcess, backend: Backend
) -> None:
    """`info.*` comes back, the state says why, and the archive waits for better credentials."""
    backend.run("backup", "X", {"options.color": "blue"})
    request = backend.wait(lambda m: m[1]["path"] == f"{FEATURE}/outbox/messages/request")[1]
    assert request["value"]["options"]["color"] == "blue"
    with stalling() as destination:
        destination.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        destination.release.set()
        options = {"https.url": f"{destination.url}?secret=hidden", "info.batch": "7"}
        backend.ask("start", {"correlationID": "X#1", "options": options})
        failed = backend.ended("X", LAST_UPLOAD)
    assert (failed["state"], failed["statusCode"]) == ("FAILED", "access-denied")
    assert failed["info"] == {"batch": "7"}
    assert "hidden" not in str(backend.messages)
    archive = Path(request["value"]["options"]["file.path"])
    assert archive.exists()
    backend.messages.clear()
    backend.ask("start", {"correlationID": "X#1", "options": {"storage.provider": "local"}})
    assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"
    assert backend.values(LAST_UPLOAD)[0]["state"] == "UPLOADING"
    wait_until(lambda: not archive.exists(), what="the uploaded archive to be removed")


def test_same_correlation_id_twice_keeps_both_archives_apart(agent: AgentProcess, backend: Backend) -> None:
    """The first archive is not orphaned: each has a child id of its own."""
    for child in ("X#1", "X#2"):
        backend.messages.clear()
        backend.run("backup", "X", {})
        backend.requested(child)
    for child in ("X#1", "X#2"):
        value = {"correlationID": child, "options": {"storage.provider": "local"}}
        assert backend.ask("start", value)["status"] == 204


def test_the_same_command_again_repeats_the_answer_and_not_the_work(
    agent: AgentProcess, backend: Backend
) -> None:
    """A backend that sends again at once, and MQTT's own redelivery, look alike."""
    value = {"correlationID": "X", "options": {"storage.provider": "local"}}
    for _ in range(2):
        backend.send("backup", value, request_id="r1", correlation_id="c1")
    backend.ended("X")
    answers = [m for m in backend.messages if m[0] == "command//edge:device/res/r1/204"]
    backend.ask("nothing-of-the-kind")
    assert len(answers) <= 2
    assert [v["state"] for v in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    other = backend.send("backup", {**value, "correlationID": "Z"}, request_id="r1", correlation_id="c1")
    conflict = backend.wait(lambda m: m[0] == "command//edge:device/res/r1/409")
    assert conflict[1]["headers"]["correlation-id"] == other


def test_restore_takes_the_named_archive_and_replace_removes_what_it_does_not_name(
    agent: AgentProcess, backend: Backend
) -> None:
    """`local.name` chooses; by default strangers stay, with `restore.mode: replace` they go."""
    before = contents(agent.data)
    named = {"storage.provider": "local", "local.name": "golden.zip"}
    backend.run("backup", "golden", named)
    (agent.data / "stranger").write_text("new")
    backend.run("backup", "later", {"storage.provider": "local"})
    assert backend.run("restore", "a", named)["state"] == "RESTORE_FINISHED"
    assert (agent.data / "stranger").exists()
    assert backend.run("restore", "b", {**named, "restore.mode": "replace"})["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(agent.data)) == []


def test_a_missing_directory_is_made_for_a_restore_and_gone_again_when_it_fails(
    agent: AgentProcess, backend: Backend
) -> None:
    inner = agent.data / "new" / "inner"
    missing = {"storage.provider": "local", "local.name": "no-such.zip", "backup.dir": str(inner)}
    failed = backend.run("restore", "a", missing)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "not-found")
    assert not (agent.data / "new").exists()
    backend.run("backup", "b", {"storage.provider": "local", "backup.dir": str(agent.data / "config")})
    good = backend.run("restore", "c", {"storage.provider": "local", "backup.dir": str(inner)})
    assert good["state"] == "RESTORE_FINISHED"
    assert differences(contents(agent.data / "config"), contents(inner)) == []


def test_a_damaged_archive_leaves_the_target_untouched(agent: AgentProcess, backend: Backend) -> None:
    """The reason is in RESTORE_FAILED, and the device is as it was, to the nanosecond."""
    backend.run("backup", "a", {"storage.provider": "local", "local.name": "a.zip"})
    archive = agent.storage / "archives" / "a.zip"
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    before = contents(agent.data)
    failed = backend.run("restore", "b", {"storage.provider": "local", "local.name": "a.zip"})
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "archive-invalid")
    assert failed["message"]
    assert differences(before, contents(agent.data)) == []


def test_what_cannot_be_saved_is_counted_and_does_not_fail_the_backup(
    agent: AgentProcess, backend: Backend
) -> None:
    """A FIFO hangs Kanto for ever, a dangling link fails it."""
    import os
    import socket

    os.mkfifo(agent.data / "fifo")
    (agent.data / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(agent.data)
        server.bind("socket")
    ended = backend.run("backup", "X", {"storage.provider": "local"})
    assert ended["state"] == "BACKUP_FINISHED"
    assert ended["message"] == "2 entries skipped: 1 FIFO, 1 socket"


def test_unchanged_data_are_not_sent_again_and_the_job_says_so(agent: AgentProcess, backend: Backend) -> None:
    """`backup.skipUnchanged`; other data, or none of the option, bring a new archive."""
    (agent.data / "file").write_bytes(b"x")
    options = {"storage.provider": "local", "local.target": "device", "backup.skipUnchanged": "true"}
    messages: list[str] = []

    def skipped() -> bool:
        messages.append(backend.run("backup", f"job-{len(messages)}", options).get("message", ""))
        return messages[-1].startswith("nothing has changed since 'backup-")

    wait_until(skipped, what="a backup that finds nothing new")
    archives = agent.storage / "archives"
    made = len(list(archives.iterdir()))
    assert made == len(messages) - 1
    (agent.data / "file").write_bytes(b"y")
    assert backend.run("backup", "changed", options)["state"] == "BACKUP_FINISHED"
    always = options | {"backup.skipUnchanged": "false"}
    assert backend.run("backup", "all", always)["state"] == "BACKUP_FINISHED"
    assert len(list(archives.iterdir())) == made + 2


def test_excluded_files_are_not_in_the_archive(agent: AgentProcess, backend: Backend) -> None:
    for name in ("keep.txt", "drop.tmp", "drop.log"):
        (agent.data / name).write_bytes(b"")
    options = {"storage.provider": "local", "local.name": "x.zip", "backup.exclude": ["*.tmp", "*.log"]}
    answer = backend.ask("backup", {"correlationId": "x", "options": options})
    assert answer["status"] == 204
    assert backend.ended("x")["state"] == "BACKUP_FINISHED"
    with zipfile.ZipFile(agent.storage / "archives/x.zip") as archive:
        assert "keep.txt" in archive.namelist()
        assert not [name for name in archive.namelist() if name.startswith("drop")]
