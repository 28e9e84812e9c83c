"""An agent that tells a story under strace, and what its system calls say about the order of things."""

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.stage import Stage
from tests.faults.stories import STORIES, Teller
from tests.support.agent_process import PROGRAM
from tests.support.disk_model import Disk
from tests.support.incubator import Hatched
from tests.support.require import require
from tests.support.strace_log import OPTIONS, Recorded, read
from tests.support.waiting import wait_until

_PUBACK, _PUBLISH = 0x40, 0x30


@dataclass(frozen=True)
class Recording:
    """One telling, from the start of the agent to its end."""

    disks: tuple[Disk, Disk]
    """The device's disk before the first call, for two readers."""
    calls: list[Recorded]
    sent: list[tuple[str, str, str]]


def record(stage: Stage, name: str, agent: Hatched) -> Recording:
    """Tell a story to the installed program under strace."""
    strace = shutil.which("strace")
    require(strace is not None, "strace")
    disks, log = (Disk(agent.root), Disk(agent.root)), agent.work / "strace.log"
    with subprocess.Popen(
        [str(strace), *OPTIONS, "-o", str(log), str(PROGRAM), "run", "--config", str(agent.config)],
        stderr=subprocess.DEVNULL,
    ) as tracer:
        agent.adopt(_traced(tracer.pid))
        teller = Teller(agent, stage.backend)
        STORIES[name](teller, stage.url)
        teller.settle()
        agent.kill()
        tracer.wait(30)
    assert teller.restarts == 0
    return Recording(disks, list(read(log)), teller.sent)


def _traced(tracer: int) -> int:
    """The agent: strace forks before it becomes that, and for tests of its own."""
    children = Path(f"/proc/{tracer}/task/{tracer}/children")
    found: list[int] = []

    def look() -> bool:
        for child in map(int, children.read_text().split()):
            with suppress(OSError):
                if "python" in os.readlink(f"/proc/{child}/exe"):
                    found.append(child)
        return bool(found)

    wait_until(look, what="strace to start the agent")
    return found[0]


def packet(call: Recorded) -> tuple[str, bytes] | None:
    """Return the part of an MQTT packet that matters here: ("puback", b"") or (topic, payload)."""
    if call.name != "sendto":
        return None
    data = call.data(1)
    if data[:2] == bytes((_PUBACK, 2)) and len(data) == 4:
        return "puback", b""
    if data[:1] and data[0] & 0xF0 == _PUBLISH and b'"path"' in data:
        rest = data[1 + next(i for i, byte in enumerate(data[1:], 1) if byte < 128) :]
        length = int.from_bytes(rest[:2], "big")
        topic = rest[2 : 2 + length].decode()
        return topic, rest[2 + length + (2 if data[0] & 6 else 0) :]
    return None
