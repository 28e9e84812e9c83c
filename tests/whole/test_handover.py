"""The two-step hand-over as Kanto's backends know it: request, start, trigger, cancel."""

import zipfile
from pathlib import Path

from tests.support.backend import LAST_UPLOAD, REQUEST
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}


def start(backend: LocalBackend, child_id: str, options: dict[str, str]) -> int:
    return int(backend.ask("start", {"correlationID": child_id, "options": options})["status"])


def test_trigger_offers_what_waits_under_new_ids_and_ends_with_the_last(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """Old and new ids lead to the same archive; one `lastUpload` for the trigger, SUCCESS after the last."""
    for name in ("A", "B"):
        backend.run("backup", name, {"options.kept": name})
        backend.requested(f"{name}#1")
    trigger = {"correlationID": "T", "options": {"options.color": "blue"}}
    assert backend.ask("trigger", trigger)["status"] == 204
    first, second = backend.requested("T#1"), backend.requested("T#2")
    assert (first["options"]["kept"], second["options"]["kept"]) == ("A", "B")
    assert first["options"]["color"] == "blue"
    assert start(backend, "T#1", LOCAL) == 204
    wait_until(lambda: not Path(first["options"]["file.path"]).exists(), what="the first to be stored")
    assert all(value["state"] == "UPLOADING" for value in backend.values(LAST_UPLOAD))
    assert start(backend, "A#1", LOCAL) == 404, "its archive has been sent under its other id"
    assert start(backend, "T#2", LOCAL) == 204
    assert backend.ended("T", LAST_UPLOAD)["state"] == "SUCCESS"
    progress = [value["progress"] for value in backend.values(LAST_UPLOAD)]
    assert progress == sorted(progress)


def test_trigger_with_nothing_that_waits_is_accepted(agent: LocalAgent, backend: LocalBackend) -> None:
    assert backend.ask("trigger", {})["status"] == 204


def test_what_waits_is_asked_for_again_after_a_restart_but_not_at_once_on_a_reconnect(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """At most once in ten minutes for a child; a hand-over is never forgotten."""
    backend.run("backup", "X", {})
    backend.requested("X#1")
    agent.stop()
    backend.messages.clear()
    agent.start()
    backend.announced()
    assert backend.ask("nothing")["status"] == 400
    assert not [m for m in backend.messages if m[1]["path"] == REQUEST]


def test_archives_that_nobody_knows_are_offered_and_fragments_are_not(
    device: LocalAgent, backend: LocalBackend
) -> None:
    """Archives of Kanto's agent in the same storage: complete ones count, half-written ones never do."""
    staging = device.storage / "backups"
    staging.mkdir(parents=True)
    with zipfile.ZipFile(staging / "backup-2024-01-01-00.00.00.000.zip", "w") as archive:
        archive.writestr("file", "content")
    (staging / "backup-2024-01-02-00.00.00.000.zip").write_bytes(b"PK\x03\x04 and no more")
    device.start()
    backend.announced()
    assert backend.requested("backup-2024-01-01-00.00.00.000#1")
    assert backend.ask("trigger", {"correlationID": "T"})["status"] == 204
    backend.requested("T#1")
    backend.ask("nothing")
    assert not [m for m in backend.messages if "2024-01-02" in str(m)]


def test_too_many_waiting_archives_drop_the_oldest_and_say_so(
    device: LocalAgent, backend: LocalBackend
) -> None:
    """`storage.maxStaged`: a backend that never starts uploads must not fill the disk."""
    device.settings["storage.maxStaged"] = 2
    device.start()
    backend.announced()
    for name in ("A", "B", "C"):
        backend.run("backup", name, {})
    dropped = backend.ended("A", LAST_UPLOAD)
    assert (dropped["state"], dropped["statusCode"]) == ("FAILED", "dropped")
    assert start(backend, "A#1", LOCAL) == 404
    assert len(list((device.storage / "backups").glob("*.zip"))) == 2


def test_keep_uploaded_keeps_the_file_but_never_offers_it_again(
    device: LocalAgent, backend: LocalBackend
) -> None:
    device.settings["keepUploaded"] = True
    device.start()
    backend.announced()
    backend.run("backup", "X", {})
    path = Path(backend.requested("X#1")["options"]["file.path"])
    assert start(backend, "X#1", LOCAL) == 204
    assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"
    device.stop()
    device.start()
    backend.messages.clear()
    assert backend.ask("trigger", {"correlationID": "T"})["status"] == 204
    backend.ask("nothing")
    assert path.exists()
    assert not [m for m in backend.messages if m[1]["path"] == REQUEST]


def test_expired_credentials_lead_to_a_new_request_and_three_times_at_most(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """UPLOADING stays while fresh credentials are asked for; FAILED after three."""
    backend.run("backup", "X", {})
    backend.requested("X#1")
    with stalling() as destination:
        body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        destination.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        destination.release.set()
        for _ in range(3):
            backend.messages.clear()
            assert start(backend, "X#1", {"https.url": destination.url}) == 204
            backend.requested("X#1")
            assert all(value["state"] == "UPLOADING" for value in backend.values(LAST_UPLOAD))
        assert start(backend, "X#1", {"https.url": destination.url}) == 204
        failed = backend.ended("X", LAST_UPLOAD)
    assert (failed["state"], failed["statusCode"]) == ("FAILED", "access-denied")
    assert "expired" in failed["message"]


def test_cancel_of_an_upload_says_canceled_and_the_archive_can_be_started_again(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    backend.run("backup", "X", {})
    with stalling() as destination:
        assert start(backend, "X#1", {"https.url": destination.url}) == 204
        assert destination.reached.wait(60)
        assert backend.ask("cancel", {"correlationID": "X#1"})["status"] == 204
        ended = backend.ended("X", LAST_UPLOAD)
    assert (ended["state"], ended["statusCode"]) == ("CANCELED", "cancelled")
    backend.messages.clear()
    assert start(backend, "X#1", LOCAL) == 204
    assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"
