"""The agent as a service: who it is, how it starts, how it stops, how it gets to its broker."""

import json
import signal
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import trustme

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import DEVICE, FEATURE, Backend
from tests.support.hooks import script
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.ports import free_port
from tests.support.stalling import stalling
from tests.support.waiting import wait_until


def test_the_identity_is_asked_for_until_it_is_answered(device: AgentProcess, broker: Mosquitto) -> None:
    """The connector may start long after the agent. Commands that come early wait for the answer."""
    with Backend(broker.port, device_id="") as backend:
        device.start()
        wait_until(lambda: backend.identity_questions >= 2, what="the question to be repeated")
        header = backend.send("backup", {"correlationID": "early", "options": {"storage.provider": "local"}})
        assert backend.messages == []
        backend.device_id = DEVICE
        backend.answer_identity()
        assert backend.answer(header)["status"] == 204
        assert backend.ended("early")["state"] == "BACKUP_FINISHED"


def test_a_changed_identity_moves_the_feature(agent: AgentProcess, backend: Backend) -> None:
    """The feature is announced for the new thing, and the old one gets no answers any more."""
    backend.device_id = "other:thing"
    backend.answer_identity()
    moved = backend.wait(lambda m: m[1]["topic"] == "other/thing/things/twin/commands/modify")
    assert moved[1]["path"] == FEATURE
    backend.send("backup", {"correlationID": "old", "options": {"storage.provider": "local"}})
    message = {
        "topic": "other/thing/things/live/messages/nothing",
        "headers": {"response-required": True, "correlation-id": "c"},
        "path": f"{FEATURE}/inbox/messages/nothing",
    }
    backend.publish("command//other:thing/req//nothing", json.dumps(message))
    assert backend.answer("c")["status"] == 400
    assert backend.values() == []


def test_a_pinned_identity_is_never_asked_for(device: AgentProcess, backend: Backend) -> None:
    device.settings |= {"deviceId": DEVICE, "tenantId": "tenant"}
    device.start()
    backend.announced()
    assert backend.ask("nothing")["status"] == 400
    assert backend.identity_questions == 0


def test_an_absent_broker_is_waited_for(device: AgentProcess, broker: Mosquitto) -> None:
    """Kanto's agent ends with exit status 0 here."""
    broker.stop()
    device.start()
    device.wait_for_log("broker cannot be reached, trying again")
    broker.start()
    with Backend(broker.port) as backend:
        backend.announced()
        assert backend.ask("nothing")["status"] == 400


def test_a_stop_lets_the_running_job_end_and_tells_its_end(agent: AgentProcess, backend: Backend) -> None:
    """SIGTERM, a job that ends in time, exit status 0; no command is taken meanwhile."""
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        assert agent.process
        agent.process.terminate()
        agent.wait_for_log("agent stopping")
        backend.send("backup", {"correlationID": "late", "options": {"storage.provider": "local"}})
        destination.release.set()
        assert agent.process.wait(60) == 0
    assert backend.ended("long")["state"] == "BACKUP_FINISHED"
    assert all(value["correlationId"] == "long" for value in backend.values())
    agent.start()
    assert backend.ended("late")["state"] == "BACKUP_FINISHED"


def test_a_stop_ends_a_job_that_lasts_longer_than_stop_timeout(
    device: AgentProcess, backend: Backend
) -> None:
    device.settings["stopTimeout"] = "300ms"
    device.start()
    backend.announced()
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        assert device.stop(timeout_s=10) == 0
    ended = backend.ended("long")
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "interrupted")


def test_a_second_agent_is_kept_out_of_the_storage(agent: AgentProcess, tmp_path: Path) -> None:
    second = subprocess.run(
        [PROGRAM, "run", "--config", str(agent.work / "config.json")],
        capture_output=True, text=True, timeout=20, cwd=agent.work, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert any("is in use by another agent" in line["event"] for line in agent.log_lines())


def test_the_kanto_template_starts_an_agent(
    device: AgentProcess, broker: Mosquitto, backend: Backend
) -> None:
    """All 28 properties, most of them empty, as Kanto's documentation prints them."""
    device.settings = {
        "featureId": "BackupAndRestore", "type": "file", "context": "edge", "dir": str(device.data),
        "mode": "strict", "backupCmd": "", "restoreCmd": "", "singleUpload": False, "checksum": False,
        "stopTimeout": "30s", "keepUploaded": False, "storage": "./storage", "serverCert": "",
        "active": False, "activeFrom": "", "activeTill": "", "period": "10h",
        "broker": f"tcp://localhost:{broker.port}", "username": "", "password": "", "caCert": "",
        "cert": "", "key": "", "logFile": "log/file-backup.log", "logLevel": "INFO", "logFileCount": 5,
        "logFileMaxAge": 28, "logFileSize": 2,
    }  # fmt: skip
    device.start()
    backend.announced()
    assert backend.run("backup", "X", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert (device.work / "log" / "file-backup.log").exists()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("given_by", ["settings", "credentials"])
def test_tls_with_client_certificate_and_password(
    device: AgentProcess, authority: trustme.CA, tmp_path: Path, given_by: str
) -> None:
    """The broker wants a certificate of its own authority, a user name and a password.

    As systemd's credentials they lie in a directory whose name is in the environment.
    """
    keys, port = tmp_path / "keys", free_port()
    keys.mkdir()
    authority.cert_pem.write_to_path(keys / "ca.pem")
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("agent@example.org")
    server.private_key_and_cert_chain_pem.write_to_path(keys / "server.pem")
    client.private_key_pem.write_to_path(keys / "client.key")
    client.cert_chain_pems[0].write_to_path(keys / "client.pem")
    client.private_key_and_cert_chain_pem.write_to_path(keys / "both.pem")
    subprocess.run(["mosquitto_passwd", "-c", "-b", keys / "passwords", "agent", "opensesame"], check=True)
    lines = [
        f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {keys}/passwords",
        f"cafile {keys}/ca.pem", f"certfile {keys}/server.pem", f"keyfile {keys}/server.pem",
        "require_certificate true",
    ]  # fmt: skip
    device.settings |= {
        "broker": f"ssl://127.0.0.1:{port}", "username": "agent", "password": "opensesame",
        "caCert": str(keys / "ca.pem"), "cert": str(keys / "client.pem"), "key": str(keys / "client.key"),
    }  # fmt: skip
    if given_by == "credentials":
        (keys / "credentials").mkdir()
        for setting, name in (("cert", "broker-cert"), ("key", "broker-key")):
            Path(device.settings.pop(setting)).rename(keys / "credentials" / name)
        (keys / "credentials" / "broker-password").write_text(device.settings.pop("password"))
        device.environment["CREDENTIALS_DIRECTORY"] = str(keys / "credentials")
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    context.load_cert_chain(keys / "both.pem")
    with mosquitto(tmp_path / "tls-broker", lines, port):
        backend = Backend(port, tls=context)
        backend.client.username_pw_set("agent", "opensesame")
        with backend:
            device.start()
            backend.announced()
            assert backend.run("backup", "X", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert "opensesame" not in device.log.read_text() + device.stderr.read_text()


def test_another_agent_that_answers_for_our_feature_is_noticed(agent: AgentProcess, backend: Backend) -> None:
    """A Kanto agent that was not stopped does everything a second time; ours never accuses itself."""
    assert backend.ask("nothing")["status"] == 400
    assert backend.ask("nothing", request_id="r")["status"] == 400
    noticed = "another agent answers for this feature: stop it"
    assert agent.count_log(noticed) == 0
    reply = {
        "topic": "edge/device/things/live/messages/backup",
        "headers": {"content-type": "application/json", "correlation-id": "c"},
        "path": f"{FEATURE}/outbox/messages/backup",
        "status": 204,
    }
    backend.publish(f"command//{DEVICE}/res//backup", json.dumps(reply))
    agent.wait_for_log(noticed)


WINDOW_S = 3.0


def test_an_idle_agent_does_not_wake_up(agent: AgentProcess, backend: Backend) -> None:
    """Only for the keep-alive and the watchdog, every 15 s or less often: devices run on batteries."""
    assert backend.ask("nothing")["status"] == 400
    wait_until(lambda: wakeups(agent, 0.5) == 0, what="the agent to come to rest")
    assert wakeups(agent, WINDOW_S) <= 3


SAY_MODULES = """
import atexit, json, sys
def say():
    ours = [name for name, module in sys.modules.items() if module is not None]
    json.dump(ours, open("modules.json", "w"))
atexit.register(say)
from agent.cli import main
sys.exit(main(sys.argv[2:]))
"""
IDLE_PACKAGES = {
    *("annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"),
    *("paho", "structlog"),
    # Of setuptools; and what structlog imports where a tool of the developers has brought it.
    *("_distutils_hack", "colorama"),
}
"""Libraries of others in the memory of an agent that waits for commands."""


def test_an_idle_agent_has_loaded_only_what_it_needs(device: AgentProcess, backend: Backend) -> None:
    """No SDK, no HTTP client, no cryptography, no patterns: they cost memory and the time of every start."""
    device.start(sys.executable, "-c", SAY_MODULES)
    backend.announced()
    assert device.stop() == 0
    modules = json.loads((device.work / "modules.json").read_text())
    roots = {name.partition(".")[0] for name in modules}
    assert roots & set(metadata.packages_distributions()) <= IDLE_PACKAGES | {"agent", "providers"}
    assert not {"agent.restore.commit", "agent.save.walk", "agent.formats.zip.reader"} & set(modules), (
        "for jobs"
    )
    assert len(modules) < 500, sorted(modules)


def wakeups(agent: AgentProcess, window_s: float) -> int:
    """How often the threads of the agent have slept and woken in so many seconds."""
    before = sleeps(agent.pid)
    time.sleep(window_s)
    return sleeps(agent.pid) - before


def sleeps(pid: int) -> int:
    """proc(5): voluntary context switches of all threads."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            total += int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def test_a_hangup_opens_the_log_again_and_ends_nothing(device: AgentProcess, backend: Backend) -> None:
    """`systemctl reload` and logrotate send it, also in the middle of a restore."""
    device.settings["afterRestoreCmd"] = script(
        device, "wait.sh", 'until test -e "$work/go"; do sleep 0.05; done'
    )
    agent = device.start()
    backend.announced()
    backend.run("backup", "X", {"storage.provider": "local"})
    backend.ask("restore", {"correlationID": "Y", "options": {"storage.provider": "local"}})
    agent.wait_for_log("hook started", hook="afterRestoreCmd")
    moved = agent.log.rename(agent.log.with_suffix(".1"))
    assert agent.process
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for_log("log file reopened; settings are not read again")
    assert moved.exists()
    (device.work / "go").touch()
    assert backend.ended("Y")["state"] == "RESTORE_FINISHED"
