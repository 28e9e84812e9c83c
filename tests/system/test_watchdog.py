"""An agent that is stuck notices and ends, to be started again; then it says what became of its job.

What it is stuck in is a stranger's provider, which is free to do anything inside the process.
"""

import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

PERIOD_S = 2.0
PROVIDER = """
import ctypes, gc, threading, time
from agent.mailbox import Mailbox
from providers.api import Storage
from providers.errors import Unreachable

def deaf():
    while True:
        time.sleep(0.01)

def greedy():
    ctypes.PyDLL(None).sleep(3600)

def block_the_mailbox():
    (mailbox,) = [each for each in gc.get_objects() if type(each) is Mailbox]
    mailbox.post(lambda: time.sleep(3600))
    deaf()

def end_the_mqtt_thread():
    (mqtt,) = [each for each in threading.enumerate() if each.name == "mqtt"]
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(mqtt.ident), ctypes.py_object(SystemExit))
    deaf()

class Stubborn(Storage):
    kind, needs_size, name_option = "stubborn", False, None
    def __init__(self, options, limits, /):
        self._how = options["stubborn.how"]
        if self._how == "at once":
            time.sleep(3600)
    def put(self, name, source, metadata, checkpoint, /):
        source.read(1)
        globals()[self._how]()
    def get(self, name, sink, checkpoint, /):
        raise Unreachable("no")
    def close(self):
        pass
"""


class Manager:
    """The service manager's side of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.fed = 0

    def listen(self) -> int:
        """How often the watchdog has been fed until now."""
        try:
            while True:
                self.fed += self._socket.recv(4096) == b"WATCHDOG=1"
        except BlockingIOError:
            return self.fed

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto, backend: Backend, manager: Manager) -> Iterator[AgentProcess]:
    """An agent with the stubborn provider, watched by a manager."""
    packages = tmp_path / "packages"
    information = packages / "stubborn-1.dist-info"
    information.mkdir(parents=True)
    (packages / "stubborn.py").write_text(PROVIDER)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[edge_backup.providers]\nstubborn = stubborn:Stubborn\n")
    device = AgentProcess(tmp_path / "device", broker.port, jobTimeout="1s", hookTimeout="100ms")
    device.environment |= {
        "PYTHONPATH": str(packages),
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": str(int(PERIOD_S * 1e6)),
    }
    (device.data / "file").write_bytes(os.urandom(1000))
    with device as running:
        backend.announced()
        yield running


def begin(backend: Backend, how: str) -> None:
    options = {"storage.provider": "stubborn", "stubborn.how": how}
    assert backend.ask("backup", {"correlationID": "stuck", "options": options})["status"] == 204


def wait_for_end(agent: AgentProcess, status: int = 1) -> str:
    """Until the process has ended by itself; what it said on stderr."""
    assert agent.process
    assert agent.process.wait(60) == status
    return agent.stderr.read_text()


def works_again(agent: AgentProcess, backend: Backend, **ended: Any) -> None:
    """After a restart what became of the job is told, and the next one runs."""
    agent.start()
    value = backend.ended("stuck")
    assert value | ended == value
    assert backend.run("backup", "next", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert [value["state"] for value in backend.values()][-4:] == [
        "BACKUP_STARTED", "BACKUP_FAILED", "BACKUP_STARTED", "BACKUP_FINISHED",
    ]  # fmt: skip


def test_a_provider_that_hears_nothing_is_left_to_itself_at_the_deadline_and_ends_the_agent_later(
    agent: AgentProcess, backend: Backend, manager: Manager
) -> None:
    """The job ends in time. Its thread would stay for ever, so the agent is started anew when it is idle."""
    begin(backend, "deaf")
    ended = backend.ended("stuck")
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "deadline-exceeded")
    fed = manager.listen()
    assert backend.run("backup", "beside", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    wait_for_end(agent)
    assert manager.listen() > fed, "it was healthy until then"
    agent.wait_for_log("agent stuck, exiting")
    stacks = {line["thread"]: line["calls"] for line in agent.log_lines() if line["event"] == "thread stack"}
    (worker,) = [name for name in stacks if name.startswith("work-")]
    assert stacks[worker].endswith("deaf")
    assert {"MainThread", "mqtt"} <= stacks.keys()
    agent.start()
    assert backend.run("backup", "next", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"


@pytest.mark.parametrize("how", ["block_the_mailbox", "greedy"])
def test_a_blocked_mailbox_is_not_fed_and_ends_the_agent(
    agent: AgentProcess, backend: Backend, manager: Manager, how: str
) -> None:
    """Also under C code that never lets go of the interpreter, where no Python can look."""
    wait_until(manager.listen, what="the watchdog to be fed")
    begin(backend, how)
    said = wait_for_end(agent, -signal.SIGKILL)
    assert "the agent is stuck and is ended" in said
    assert "most recent call first" in said
    assert "agent/mailbox.py" in said
    works_again(agent, backend, statusCode="interrupted")


def test_a_command_that_blocks_the_agent_again_and_again_is_refused(
    agent: AgentProcess, backend: Backend
) -> None:
    """It was never acknowledged, so the broker delivers it to each new run; a third time is enough."""
    options = {"storage.provider": "stubborn", "stubborn.how": "at once"}
    header = backend.send("backup", {"correlationID": "stuck", "options": options})
    for _ in range(2):
        wait_for_end(agent, -signal.SIGKILL)
        agent.start()
    answer = backend.answer(header)
    assert answer["status"] == 500
    assert backend.run("backup", "next", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert [value["correlationId"] for value in backend.values()] == ["next", "next"]


def test_a_reader_of_stderr_that_stops_reading_ends_the_agent_too(
    tmp_path: Path, broker: Mosquitto, backend: Backend
) -> None:
    """The main thread waits for room in the pipe, and the stacks find none either."""
    device = AgentProcess(tmp_path / "device", broker.port, logLevel="INFO")
    device.environment["WATCHDOG_USEC"] = str(int(PERIOD_S * 1e6))
    os.mkfifo(device.stderr)
    reader = os.open(device.stderr, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    with device:
        backend.announced()
        for _ in range(40):
            backend.send("nothing")
        assert device.process
        assert device.process.wait(30) == -signal.SIGKILL
    os.close(reader)


def test_a_dead_mqtt_thread_ends_the_agent(agent: AgentProcess, backend: Backend, manager: Manager) -> None:
    """It would be deaf for ever."""
    wait_until(manager.listen, what="the watchdog to be fed")
    begin(backend, "end_the_mqtt_thread")
    wait_for_end(agent)
    line = agent.wait_for_log("agent stuck, exiting")
    assert line["reason"] == "the MQTT thread is dead or stuck"
    works_again(agent, backend)


@pytest.mark.parametrize("stop_the_guard", [False, True], ids=["stopped", "paused"])
def test_an_agent_that_was_frozen_for_longer_than_the_period_goes_on(
    agent: AgentProcess, backend: Backend, manager: Manager, stop_the_guard: bool
) -> None:
    """`docker pause` freezes all processes of a container, SIGSTOP one; neither says that it hangs."""
    wait_until(manager.listen, what="the watchdog to be fed")
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    frozen = [agent.pid, *(map(int, children) if stop_the_guard else [])]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3 * PERIOD_S)  # nothing can be waited for: time itself is the test
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    assert backend.run("backup", "after", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert "stuck" not in agent.stderr.read_text()


def test_the_guard_ends_with_the_agent(agent: AgentProcess, manager: Manager) -> None:
    wait_until(manager.listen, what="the watchdog to be fed")
    (guard,) = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    agent.kill()
    wait_until(lambda: not Path(f"/proc/{guard}/comm").exists(), what="the guard to end")
