"""A plain broker: nobody answers who the device is, or nobody may hear it."""

import json
import subprocess
import sys

from agent.jobs.device import UNIDENTIFIED
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import DEVICE, FEATURE, THING, Backend
from tests.support.mosquitto import Mosquitto, free_port, mosquitto
from tests.support.waiting import wait_until

IMPATIENT = (
    sys.executable, "-c",
    "import sys; from agent.cli import main; from agent.faces.ditto import mqtt_session;"
    " mqtt_session.UNANSWERED_S = 0.5; sys.exit(main(sys.argv[2:]))",
)  # fmt: skip
"""Runs the program that follows; it waits for half a second where it else waits for a minute."""


def run(device: AgentProcess, *arguments: str) -> str:
    """What a local command prints; it has to succeed."""
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
    wait_until(
        lambda: sum(envelope["path"] == FEATURE for _, envelope in list(backend.messages)) == 2,
        what="another announcement",
    )


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
