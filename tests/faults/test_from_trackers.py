"""Stories of public trackers about archivers, and hostile servers, played on the installed program.

Prints for each how it ended, and the memory that the agent took beyond what it has when it is idle.
"""

import os
import re
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.formats.zip.metadata import own_extra
from tests.faults.tally import tell
from tests.faults.test_bombs import many_attributes, write
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.archives import Crafted, crafted, deflated
from tests.support.hostile import LINK
from tests.support.hostile_server import endless_lists
from tests.support.http_server import HttpServer, Say
from tests.support.waiting import wait_until

MOST_MEMORY_BYTES = 64 << 20
DIRECTORY = stat.S_IFDIR | 0o750
OUTSIDE = b"/tmp/edge-backup-outside"


LOCAL = {"storage.provider": "local", "local.name": "it.zip"}
S3 = {
    "storage.provider": "aws",
    "aws.s3.bucket": "bucket",
    "aws.access.key.id": "key",
    "aws.secret.access.key": "secret",
}
AZURE = {
    "storage.provider": "azure",
    "azure.blob.container": "container",
    "azure.shared.access.signature": "sas",
}
SECRETS = ("aws.access.key.id", "aws.secret.access.key", "azure.shared.access.signature")
SERVERS = {"S3": (S3, "aws.endpoint.url"), "Azure": (AZURE, "azure.storage.endpoint")}


class Situation(NamedTuple):
    """An archive, or two one after another, and what has to be in the target then."""

    source: str
    archives: tuple[bytes, ...]
    says: str
    """Part of what a refusal says; empty where all is restored."""
    holds: Callable[[Path], bool] = lambda _target: True


def _replaced(content: bytes, find: bytes, new: bytes) -> bytes:
    assert find in content
    return content.replace(find, new)


def _count(content: bytes, count: int) -> bytes:
    at = content.rindex(b"PK\5\6")
    return content[: at + 8] + struct.pack("<HH", count, count) + content[at + 12 :]


ZIP64_SIGN = Crafted(b"f", b"x", size_bytes=0xFFFF_FFFF)
SITUATIONS = {
    "a size in Zip64, and no Zip64 field": Situation(
        "CVE-2026-45820 (fflate): for ever", (crafted(ZIP64_SIGN),), "cannot hold the 4294967295 bytes"
    ),
    "a link, and in a second archive a file below it": Situation(
        "CVE-2025-45582 (GNU tar)",
        (crafted(Crafted(b"x", OUTSIDE, mode=LINK)), crafted(Crafted(b"x/f", b"gotten out"))),
        "",
        lambda target: (target / "x/f").read_bytes() == b"gotten out" and not (target / "x").is_symlink(),
    ),
    "a link, and a file of its name": Situation(
        "snyk/zip-slip-vulnerability 41",
        (crafted(Crafted(b"x", OUTSIDE + b"/f", mode=LINK), Crafted(b"x", b"gotten out")),),
        "is there twice",
    ),
    "a hard link to a file outside": Situation(
        "node-tar: hard links through links",
        (crafted(Crafted(b"f", b"own", extra=own_extra(1, b"/etc/passwd", {}))),),
        "name",
    ),
    "a hard link to a link": Situation(
        "node-tar: hard links through links",
        (
            crafted(
                Crafted(b"x", b"/etc/passwd", mode=LINK), Crafted(b"y", b"own", extra=own_extra(1, b"x", {}))
            ),
        ),
        "",
        lambda target: (target / "y").read_bytes() == b"own" and (target / "y").stat().st_nlink == 1,
    ),
    "an extra field that is longer than its record": Situation(
        "libarchive 1162: cannot be read",
        (crafted(Crafted(b"f", b"whole", extra=struct.pack("<HH", 0x3231, 25_912) + b"1234567")),),
        "",
        lambda target: (target / "f").read_bytes() == b"whole",
    ),
    "two bytes too many in a time field": Situation(
        "libarchive 1055: cannot be read",
        (crafted(Crafted(b"f", b"whole", extra=b"UT\x05\0\1\xa6\xce\x12\0\0\0")),),
        "",
        lambda target: (target / "f").read_bytes() == b"whole",
    ),
    "an empty name": Situation(
        "libarchive 2145: reads beyond its memory", (crafted(Crafted(b"", b"x")),), "has no usable name"
    ),
    "more entries announced than there are": Situation(
        "dotnet/runtime 114023: reads on", (_count(crafted(Crafted(b"f"), Crafted(b"g")), 9),), "announces 9"
    ),
    "content that never becomes as long as announced": Situation(
        "kuba--/zip 420: for ever",
        (crafted(Crafted(b"f", b"x", method=8, data=deflated(b"x"), size_bytes=900)),),
        "has not the size that it announces",
    ),
    "a local header with another length of its name": Situation(
        "kuba--/zip 420: for ever",
        (crafted(Crafted(b"f", b"x", local_name=b"f" * 2_000)),),
        "its two headers differ",
    ),
    "attributes that the file system does not take": Situation(
        "restic 5089: the restore fails",
        (crafted(Crafted(b"f", b"whole", extra=own_extra(1, None, {"security.selinux": b"system_u:x\0"}))),),
        "",
        lambda target: (target / "f").read_bytes() == b"whole",
    ),
}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent without a broker, which people at the device use."""
    agent = AgentProcess(
        tmp_path, 1, deviceId="a:b", tenantId="t", stopTimeout="1s", **{"transfer.attempts": 1}
    )
    agent.environment["SECRET"] = "sv=2024-11-04&sig=c2lnbmF0dXJl"
    agent.start()
    wait_until(lambda: _run(agent, "status").returncode == 0, what="the agent answers")
    yield agent
    agent.stop()


def _command(agent: AgentProcess, *arguments: str) -> list[str]:
    return [str(PROGRAM), *arguments, "--config", str(agent.work / "config.json")]


def _run(agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(agent, *arguments),
        capture_output=True, text=True, timeout=100, cwd=agent.work, env=agent.environment, check=False,
    )  # fmt: skip


def _memory_bytes(pid: int, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    assert found
    return int(found[1]) << 10


def _arguments(options: Mapping[str, str]) -> list[str]:
    secret = [f"--secret={name}=env:SECRET" for name in options if name in SECRETS]
    return [
        "restore",
        *secret,
        *(f"--option={name}={text}" for name, text in options.items() if name not in SECRETS),
    ]


def _restored(agent: AgentProcess, options: Mapping[str, str]) -> tuple[str, int]:
    """Return the words of a restore at its end, none when it is done, and the memory that it took."""
    before = _memory_bytes(agent.pid, "VmRSS")
    Path(f"/proc/{agent.pid}/clear_refs").write_text("5")
    ended = _run(agent, *_arguments(options))
    assert ended.returncode in (0, 1), ended.stderr
    says = ended.stderr.strip() or "failed" if ended.returncode else ""
    return says, _memory_bytes(agent.pid, "VmHWM") - before


def _told(what: str, says: str, most: int) -> None:
    tell(f"{what}: {says or 'restored'}, {most / (1 << 20):.1f} MiB")


@pytest.mark.parametrize("name", SITUATIONS)
def test_an_archive_of_a_tracker_gets_nowhere(device: AgentProcess, name: str) -> None:
    situation = SITUATIONS[name]
    for archive in situation.archives:
        (device.storage / "archives/it.zip").write_bytes(archive)
        says, most = _restored(device, LOCAL)
    _told(f"{name} ({situation.source})", says, most)
    assert situation.says in says
    assert bool(situation.says) is bool(says)
    assert situation.holds(device.data) if not says else os.listdir(device.data) == []
    assert not os.path.lexists(os.fsdecode(OUTSIDE))
    assert most < MOST_MEMORY_BYTES


def test_a_bomb_of_attributes_takes_no_memory(device: AgentProcess) -> None:
    write(device.storage / "archives/it.zip", many_attributes())
    says, most = _restored(device, LOCAL)
    _told("11 million attributes", says, most)
    assert "more extended attributes than any backup keeps" in says
    assert most < MOST_MEMORY_BYTES


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("kind", SERVERS)
def test_an_answer_without_an_end_takes_little_memory(device: AgentProcess, kind: str, status: int) -> None:
    """500 MB of it were held in 2.6 GB."""
    answer = Say(status, {"Content-Type": "application/xml"}, b"<ListBucketResult>", endless=b" " * 65536)
    with HttpServer(lambda _: answer) as server:
        options, url = SERVERS[kind]
        says, most = _restored(device, options | {url: server.url})
    _told(f"an answer of {kind} without an end, status {status}", says, most)
    assert says
    assert most < MOST_MEMORY_BYTES


@pytest.mark.parametrize("kind", SERVERS)
def test_a_list_without_an_end_takes_little_memory_and_lets_the_agent_stop(
    device: AgentProcess, kind: str
) -> None:
    Path(f"/proc/{device.pid}/clear_refs").write_text("5")
    before = _memory_bytes(device.pid, "VmRSS")
    with endless_lists(full=True) as server:
        options, url = SERVERS[kind]
        command = _command(device, *_arguments(options | {url: server.url}))
        job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=device.environment)
        wait_until(lambda: len(server.requests) > 300, what="the list goes on")
        most = _memory_bytes(device.pid, "VmHWM") - before
        assert device.stop() == 0
        job.communicate(timeout=60)
        _told(f"a list of {kind} without an end", f"ended at page {len(server.requests)}", most)
    device.start()
    assert most < MOST_MEMORY_BYTES
