"""A plain broker: nobody answers who the device is, or nobody may hear it."""

import json
import subprocess

import pytest

from agent.jobs.device import UNIDENTIFIED
from tests.support.agent_process import PROGRAM, AgentProcess, with_constants
from tests.support.backend import DEVICE, FEATURE, LAST_OPERATION, THING, Backend
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.ports import free_port
from tests.support.waiting import wait_until

IMPATIENT = with_constants("agent.faces.ditto.mqtt_session.UNANSWERED_S = 0.5")
"""Waits for half a second where it else waits for a minute."""


def run(device: AgentProcess, *arguments: str) -> str:
    """Return the output of a local command, which has to succeed."""
    done = subprocess.run(
        [str(PROGRAM), *arguments, "--config", str(device.work / "config.json")],
        capture_output=True, text=True, timeout=60, cwd=device.work, env=device.environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_device_at_a_plain_broker_is_backed_up_and_known_when_its_connector_comes(
    device: AgentProcess, broker: Mosquitto
) -> None:
    """Its archives are its own then, and the twin hears of the last job."""
    device.settings |= {"active": True, "period": "1h"}
    with Backend(broker.port, device_id="") as backend:
        device.start(*IMPATIENT)
        device.wait_for_log(UNIDENTIFIED)
        device.wait_for_log("backup finished")
        run(device, "backup", "--id", "by hand", "-o", "storage.provider=local")
        run(device, "verify", "-o", "storage.provider=local")
        run(device, "prune")
        assert UNIDENTIFIED in run(device, "status")
        assert backend.messages == []
        backend.device_id = DEVICE
        backend.answer_identity()
        announced = backend.announced()["value"]["properties"]["lastOperation"]
        assert (announced["correlationId"], announced["state"]) == ("by hand", "BACKUP_FINISHED")
        (device.data / "start.sh").unlink()
        ended = backend.run("restore", "back", {"storage.provider": "local"})
        assert ended["state"] == "RESTORE_FINISHED"
        assert (device.data / "start.sh").exists()
        assert UNIDENTIFIED not in run(device, "status")
        things = {envelope["topic"].partition("/things/")[0] for _, envelope in backend.messages}
        assert things == {THING}


def test_a_deleted_feature_comes_back(agent: AgentProcess, backend: Backend) -> None:
    """By the event of the twin, where a connector delivers it."""
    event = {"topic": f"{THING}/things/twin/events/deleted", "headers": {}, "path": FEATURE}
    backend.publish(f"command//{DEVICE}/req//deleted", json.dumps(event))
    wait_until(lambda: announcements(backend) == 2, what="another announcement")


def test_a_broker_that_denies_our_events_says_so_in_its_own_log(device: AgentProcess) -> None:
    """MQTT 3.1.1 has no answer for that, so docs/operating.md sends people there."""
    work = device.work
    work.mkdir(parents=True, exist_ok=True)
    (work / "acl").write_text("topic readwrite #\ntopic deny e\n")
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", f"acl_file {work / 'acl'}"]
    device.settings |= {"broker": f"tcp://127.0.0.1:{port}", "deviceId": DEVICE}
    with mosquitto(work / "strict", lines, port), device:
        device.wait_for_log("connected")
        log = work / "strict/mosquitto.log"
        wait_until(lambda: "Denied PUBLISH" in log.read_text(), what="the broker to say so")


@pytest.mark.parametrize(
    ("key", "value"),
    [("deviceId", "mydevice"), ("deviceId", "edge:a/b"), ("featureId", "a/b"), ("tenantId", "a/b")],
)
def test_an_id_that_would_break_a_topic_is_refused_by_its_name(
    device: AgentProcess, key: str, value: str
) -> None:
    device.settings[key] = value
    device.start()
    assert device.process
    assert device.process.wait(60) == 2
    assert f"{key}: " in device.stderr.read_text()


@pytest.mark.parametrize("answered", ["mydevice", "edge:a/b", ""])
def test_an_unusable_answer_of_the_connector_is_said_and_asked_for_again(
    device: AgentProcess, broker: Mosquitto, answered: str
) -> None:
    with Backend(broker.port, device_id="") as backend:
        device.start()
        wait_until(lambda: backend.identity_questions, what="the question")
        backend.publish("edge/thing/response", json.dumps({"deviceId": answered, "tenantId": "tenant"}))
        device.wait_for_log("unusable identity answer")
        asked = backend.identity_questions
        wait_until(lambda: backend.identity_questions > asked, what="the question again")
        assert backend.messages == []
        backend.device_id = DEVICE
        backend.answer_identity()
        backend.announced()


def test_a_request_names_the_tenant_in_its_reply_to(device: AgentProcess, backend: Backend) -> None:
    """It was `command/t` for every tenant."""
    device.settings |= {"deviceId": DEVICE, "tenantId": "acme"}
    device.start()
    backend.announced()
    backend.run("backup", "X", {})
    backend.requested("X#1")
    (request,) = [each for _, each in backend.messages if each["path"].endswith("/outbox/messages/request")]
    assert request["headers"]["reply-to"] == "command/acme"


def test_the_feature_is_announced_again_but_never_while_a_job_runs(
    device: AgentProcess, backend: Backend
) -> None:
    """An operator may have deleted it; Kanto's own test counts the events of a job."""
    hourly = (f"agent.faces.ditto.mqtt_session.ANNOUNCE_{when}_S = 0.05" for when in ("AGAIN", "BUSY"))
    device.start(*with_constants(*hourly))
    backend.announced()
    wait_until(lambda: announcements(backend) >= 3, what="more announcements")
    for number in range(5):
        assert backend.run("backup", f"X{number}", {"storage.provider": "local"})["progress"] == 100
    before = announcements(backend)
    wait_until(lambda: announcements(backend) > before, what="an announcement after the jobs")
    told = [each for _, each in list(backend.messages)]
    paths = [
        (each["path"], each["value"]["state"] if each["path"] == LAST_OPERATION else "") for each in told
    ]
    for first, state in enumerate(paths):
        if state == (LAST_OPERATION, "BACKUP_STARTED"):
            last = paths.index((LAST_OPERATION, "BACKUP_FINISHED"), first)
            assert FEATURE not in [path for path, _ in paths[first:last]]


def announcements(backend: Backend) -> int:
    return sum(envelope["path"] == FEATURE for _, envelope in list(backend.messages))
