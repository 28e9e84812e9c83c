"""A real mosquitto on a free loopback port, started, stopped and restarted by the tests."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ports import free_port
from tests.support.require import require
from tests.support.waiting import wait_until

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin"


@dataclass
class Mosquitto:
    """A broker; `stop` and `start` keep its port, and its sessions when `persistent`."""

    work: Path
    lines: list[str] = field(default_factory=list)
    """More of its configuration, instead of the plain anonymous listener."""
    port: int = field(default_factory=free_port)
    persistent: bool = True
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES)
        require(program is not None, "mosquitto (Debian package mosquitto)")
        assert program
        config = self.work / "mosquitto.conf"
        lines = self.lines or [f"listener {self.port} 127.0.0.1", "allow_anonymous true"]
        if self.persistent:
            lines = [*lines, "persistence true", f"persistence_location {self.work}/"]
        # What follows another message at once must not wait for the answer to that one.
        lines = [*lines, "set_tcp_nodelay true"]
        config.write_text("\n".join([*lines, "user root", ""]))
        with (self.work / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-v", "-c", str(config)], stdout=log, stderr=log)
        wait_until(self._listens, what="mosquitto to listen")

    def _listens(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.work / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end until it does: right after its start it forgets that, as its main loop begins."""
        if self._process is None:
            return
        process, self._process = self._process, None
        for _ in range(30):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
                return
        raise AssertionError("mosquitto does not end")


@contextmanager
def mosquitto(work: Path, lines: list[str] | None = None, port: int | None = None) -> Iterator[Mosquitto]:
    work.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(work, lines or [], port or free_port())
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


COMMANDS = {"acltype": "subscribeLiteral", "topic": "command//+/req/#"}
"""The subjects of access rules in mosquitto's plug-in `dynamic_security`."""


def forbid_commands(broker: Mosquitto) -> None:
    """Let anybody do anything, but subscribe to commands."""
    plugin = next(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"), None)
    require(plugin is not None, "mosquitto's dynamic_security (part of Debian's package mosquitto)")
    rules = broker.work / "rules.json"
    control = {"acltype": "publishClientSend", "topic": "$CONTROL/#", "allow": True}
    everything = dict.fromkeys(
        ["publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"], True
    )
    settings = {
        "defaultACLAccess": everything,
        "anonymousGroup": "everybody",
        "groups": [{"groupname": "everybody", "roles": [{"rolename": "rules"}]}],
        "roles": [{"rolename": "rules", "acls": [COMMANDS | {"allow": False}, control]}],
    }
    rules.write_text(json.dumps(settings))
    broker.lines = [
        f"listener {broker.port} 127.0.0.1", "allow_anonymous true",
        f"plugin {plugin}", f"plugin_opt_config_file {rules}",
    ]  # fmt: skip
