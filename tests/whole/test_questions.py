"""The agent answers questions about itself, over a real broker and to the command line beside it."""

import json
import re
import subprocess
from typing import Any

from tests.support.agent_process import PROGRAM
from tests.support.backend import FEATURE, Message
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}


def test_the_backend_reads_status_and_history(agent: LocalAgent, backend: LocalBackend) -> None:
    backend.ask("backup", {"correlationId": "one", "options": LOCAL})
    backend.ended("one")
    status = backend.ask("status")
    last = status["value"]["last"]
    assert (status["status"], status["value"]["job"]) == (200, None)
    assert (last["correlationId"], last["state"], last["statusCode"]) == ("one", "FINISHED", "")
    (entry,) = backend.ask("history")["value"]["entries"]
    assert (entry["correlationId"], entry["kind"], entry["state"]) == ("one", "backup", "FINISHED")
    described = backend.ask("describe", {"correlationId": "one"}, request_id="r1")["value"]
    assert described["id"] == entry["id"]
    assert described["place"].startswith("local:device/backup-")
    assert len(described["sha256"]) == 64
    unknown = backend.ask("describe", {"correlationId": "nix"}, request_id="r2")
    assert (unknown["status"], unknown["value"]["error"]) == (404, "messages:parameter.invalid")


def test_the_history_of_a_restore_names_the_archive_that_was_found(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """Also when the command left it to the device to take the newest, directly or by way of a preview."""
    backend.run("backup", "made", LOCAL)
    made = backend.ask("describe", {"correlationId": "made"})["value"]
    backend.run("restore", "direct", LOCAL)
    backend.ask("restore", {"correlationId": "seen", "options": LOCAL | {"restore.preview": "true"}})
    wait_until(
        lambda: backend.ask("finalize", {"correlationId": "seen"})["status"] == 204,
        what="the preview to wait",
    )
    backend.ended("seen")
    for correlation_id in ("direct", "seen"):
        entry = backend.ask("describe", {"correlationId": correlation_id})["value"]
        assert (entry["archive"], entry["place"]) == (made["archive"], made["place"])


def test_status_and_info_say_what_waits_for_a_decision(agent: LocalAgent, backend: LocalBackend) -> None:
    """Both keep room on the disk, and nobody would think of them."""
    for question in ("status", "info"):
        assert {"uploads", "preview"} & backend.ask(question)["value"].keys() == set()
    backend.run("backup", "later", {})
    backend.requested("later#1")
    backend.run("backup", "stored", LOCAL)
    backend.ask("restore", {"correlationId": "seen", "options": LOCAL | {"restore.preview": "true"}})
    wait_until(
        lambda: backend.ask("status")["value"].get("preview", {}).get("state") == "waiting",
        what="the preview to wait",
    )
    for question in ("status", "info"):
        value = backend.ask(question)["value"]
        (upload,) = value["uploads"]
        assert (upload["id"], upload["correlationId"], upload["state"]) == ("later#1", "later", "WAITING")
        assert (value["preview"]["correlationId"], value["preview"]["state"]) == ("seen", "waiting")
        told = run(agent, question).stdout
        assert f"upload later#1: {upload['archive']}, " in told
        assert f"preview seen: of '{value['preview']['archive']}', waits for finalize or discard, " in told


def test_the_same_question_is_answered_anew_each_time(agent: LocalAgent, backend: LocalBackend) -> None:
    """WIRE section 1: subjects that only read always run, also with the same ids."""
    before = backend.ask("history", request_id="r", correlation_id="h")
    backend.ask("backup", {"correlationId": "one", "options": LOCAL})
    backend.ended("one")
    count = len(backend.messages)
    backend.send("history", request_id="r", correlation_id="h")
    _, after = backend.wait(
        lambda message: message in backend.messages[count:] and "entries" in message[1].get("value", {}),
        "another answer",
    )
    assert before["value"] == {"entries": []}
    assert len(after["value"]["entries"]) == 1


def test_the_command_line_shows_the_same(agent: LocalAgent, backend: LocalBackend) -> None:
    backend.ask("backup", {"correlationId": "one", "options": LOCAL})
    backend.ended("one")
    assert run(agent, "status").stdout.startswith("idle; last: backup one finished 20")
    head, row = run(agent, "history").stdout.splitlines()
    assert head.split() == ["ended", "kind", "result", "size", "id", "correlation", "id"]
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ  backup    finished          [ \d.]+ [KM]iB  [0-9a-f]{16}  one",
        row,
    )
    text = run(agent, "show", "one").stdout
    assert re.search(r"^contentBytes    [\d.]+ KiB \(\d+ bytes\)$", text, re.MULTILINE)
    assert re.search(r"^endTime         20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ$", text, re.MULTILINE)
    assert re.search(rf"^directory       {re.escape(str(agent.data))}$", text, re.MULTILINE)
    shown = json.loads(run(agent, "show", "one", "--json").stdout)
    assert shown == backend.ask("describe", {"correlationId": "one"})["value"]
    unknown = run(agent, "show", "nix")
    assert (unknown.returncode, unknown.stderr) == (1, "no job 'nix' in the history\n")


def test_a_job_says_how_far_it_has_come(device: LocalAgent, backend: LocalBackend) -> None:
    """The last backup of a directory says how much the next one will have: in the twin and over the wire."""
    (device.data / "large").write_bytes(bytes(5_000_000))
    device.settings |= {"transfer": {"rateLimit": "1MB"}, "archive": {"level": "store"}}
    device.start()
    backend.announced()
    backend.run("backup", "staged", {})
    total = backend.ask("describe", {"correlationId": "staged"})["value"]["contentBytes"]
    backend.ask("backup", {"correlationId": "long", "options": LOCAL})
    told = backend.wait(lambda message: running_in(message) == "long", "the job in the status feature")
    wait_until(lambda: backend.ask("status")["value"]["job"]["bytes"] >= total // 100, what="some bytes")
    job = backend.ask("status")["value"]["job"]
    assert told[1]["value"]["properties"]["job"].keys() == job.keys()
    assert (job["kind"], job["correlationId"], job["phase"]) == ("backup", "long", "archiving")
    assert job["totalBytes"] == total
    assert 0 < job["percent"] < 100
    assert run(device, "status").stdout.startswith("backup long: archiving, ")
    backend.ask("cancel", {"correlationId": "long"})
    idle = backend.wait(lambda message: ended_in(message) == "long", "the end in the status feature")
    assert idle[1]["value"]["properties"]["job"]["phase"] == "idle"


def running_in(message: Message) -> object:
    return properties(message).get("job", {}).get("correlationId")


def ended_in(message: Message) -> object:
    return (properties(message).get("job", {}).get("last") or {}).get("correlationId")


def properties(message: Message) -> dict[str, Any]:
    """Return the values of the status feature."""
    if message[1]["path"] != f"{FEATURE}Status":
        return {}
    return dict(message[1]["value"]["properties"])


def test_health_is_told_after_a_backup_and_again_by_the_next_run(
    device: LocalAgent, backend: LocalBackend
) -> None:
    """To the twin, and in the file for Prometheus, which a kill of the agent does not take back."""
    file = device.work / "edge-backup.prom"
    device.settings |= {"rpo": "1h", "metrics": {"textfile": str(file)}}
    device.start()
    backend.announced()
    backend.wait(lambda message: violated_in(message) is True, "the health before the first backup")
    backend.run("backup", "one", LOCAL)
    ended = backend.ask("describe", {"correlationId": "one"})["value"]["endTime"]
    backend.wait(lambda message: violated_in(message) is False, "the health after it")
    device.stop()
    file.unlink()
    backend.messages.clear()
    device.start()
    told = backend.wait(lambda message: violated_in(message) is not None, "the health after the restart")
    assert properties(told)["health"] == {
        "lastSuccess": ended,
        "lastVerified": "0001-01-01T00:00:00.000000Z",
        "lastError": "",
        "ageSeconds": 0,
        "missed": 0,
        "rpoViolated": False,
    }
    wait_until(file.exists, what="the metrics")
    assert "\nedge_backup_rpo_violated 0\n" in file.read_text()


def violated_in(message: Message) -> object:
    return properties(message).get("health", {}).get("rpoViolated")


def test_following_ends_with_the_job(agent: LocalAgent, backend: LocalBackend) -> None:
    with stalling() as destination:
        backend.ask("backup", {"correlationId": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        following = subprocess.Popen(
            [str(PROGRAM), "status", "--follow", "--config", str(agent.work / "config.json")],
            stdout=subprocess.PIPE, text=True, cwd=agent.work, env=agent.environment,
        )  # fmt: skip
        assert following.stdout
        with following.stdout as lines:
            assert lines.readline().startswith("backup long: uploading")
            backend.ask("cancel", {"correlationId": "long", "message": "enough"})
            *_, end = lines.read().splitlines()
        assert following.wait(60) == 0
    assert end.startswith("idle; last: backup long failed 20")
    assert end.endswith("(cancelled: enough)")
