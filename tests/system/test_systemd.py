"""The shipped unit: how much it exposes, and that it works in a system that was really booted."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine, machine
from tests.support.require import require
from tests.support.waiting import wait_until

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT, DROP_INS = "edge-backup.service", "edge-backup.service.d"
ENVIRONMENT = Path(sys.prefix)
PASSWORD = "a-password-that-only-the-agent-and-the-broker-know"
AT_BROKER = (
    *("--broker", "tcp://127.0.0.1:1883", "--device", "test:device", "-o", "storage.provider=local"),
    *("--username", "agent", "--password-file", "/etc/edge-backup/broker-password"),
)
MOSQUITTO = "listener 1883 127.0.0.1\npassword_file /etc/mosquitto/passwords\nuser root\n"
TEST_DROP_IN = """
[Unit]
Wants=broker.service
[Service]
WatchdogSec=3
LoadCredential=broker-password:/etc/edge-backup/broker-password
Environment=EDGE_BACKUP_USERNAME=agent EDGE_BACKUP_MODE=lax
Environment=EDGE_BACKUP_DEVICE_ID=test:device EDGE_BACKUP_TENANT_ID=tenant
Environment=EDGE_BACKUP_BROKER=tcp://127.0.0.1:1883
"""
BROKER = f"""
[Service]
ExecStartPre=mosquitto_passwd -b -c /etc/mosquitto/passwords agent {PASSWORD}
ExecStart=mosquitto -c /etc/mosquitto/test.conf
"""


@pytest.mark.parametrize(
    ("drop_in", "at_most"), [(None, 2.0), ("full-restore.conf", 2.6), ("kanto-paths.conf", 2.0)]
)
def test_the_unit_exposes_little(tmp_path: Path, drop_in: str | None, at_most: float) -> None:
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    shutil.copy(SYSTEMD / UNIT, tmp_path)
    if drop_in:
        (tmp_path / DROP_INS).mkdir()
        shutil.copy(SYSTEMD / DROP_INS / drop_in, tmp_path / DROP_INS)
    analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / UNIT)]
    printed = subprocess.run(analyze, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", printed)
    assert exposure, printed
    assert float(exposure[1]) <= at_most


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    programs = ("systemd-nspawn", "nsenter", "mosquitto", "mosquitto_passwd")
    require(os.geteuid() == 0 and all(map(shutil.which, programs)), "root, systemd-nspawn and mosquitto")
    with machine(tmp_path_factory.mktemp("machine")) as made:
        install(made)
        with made.booted(UNIT):
            wait_until(lambda: "connected" in made.shows(UNIT, "StatusText"), what="the connection")
            yield made


def install(made: Machine) -> None:
    """The installation of docs/operating.md, and a broker."""
    made.install_environment()
    add_user = ["useradd", "--system", "--home-dir", "/var/lib/edge-backup", "edge-backup"]
    subprocess.run(["chroot", str(made.root), *add_user], check=True)
    config = (SYSTEMD.parent / "config/config.json").read_text("utf-8")
    made.write("/etc/edge-backup/config.json", config)
    made.write("/etc/edge-backup/broker-password", PASSWORD + "\n", 0o600)
    made.write(f"/etc/systemd/system/{UNIT}", (SYSTEMD / UNIT).read_text("utf-8"))
    made.write(f"/etc/systemd/system/{DROP_INS}/test.conf", TEST_DROP_IN)
    made.write("/etc/systemd/system/broker.service", BROKER)
    made.write(
        "/etc/mosquitto/test.conf",
        "listener 1883 127.0.0.1\npassword_file /etc/mosquitto/passwords\nuser root\n",
    )
    made.write("/srv/other/private", "of somebody else", 0o600)
    os.chown(made.root / "srv/other/private", 1234, 1234)


def sent(booted: Machine, operation: str, directory: str, *options: str) -> str:
    """Return the output of `edge-backup send` for a command."""
    program = "/opt/edge-backup/bin/edge-backup"
    return booted.run(program, "send", operation, *AT_BROKER, "--dir", directory, *options)


def test_it_backs_up_what_belongs_to_others_and_restores_into_its_own_directory(booted: Machine) -> None:
    assert "BACKUP_FINISHED" in sent(booted, "backup", "/srv/other")
    archive = booted.run("ls", "/var/lib/edge-backup/archives").split()[-1]
    own = "/var/lib/edge-backup/data"
    restored = sent(booted, "restore", own, "-o", f"local.name={archive}")
    assert "RESTORE_FINISHED" in restored
    assert "entries with another owner than in the archive: 2; " in restored  # the file and its directory
    assert booted.run("cat", "/var/lib/edge-backup/data/private") == "of somebody else"
    refused = sent(booted, "restore", "/srv/other")
    assert "Read-only file system (with systemd, 'ReadWritePaths=' of the unit" in refused


def test_an_agent_that_hangs_is_killed_by_the_watchdog_and_started_again(booted: Machine) -> None:
    pid, restarts = booted.shows(UNIT, "MainPID"), int(booted.shows(UNIT, "NRestarts"))
    booted.run("kill", "-STOP", pid)
    wait_until(lambda: int(booted.shows(UNIT, "NRestarts")) > restarts, what="a restart", timeout_s=60)
    wait_until(lambda: "connected" in booted.shows(UNIT, "StatusText"), what="the connection", timeout_s=60)
    assert booted.shows(UNIT, "MainPID") != pid


def test_its_process_has_no_core_dumps_and_few_powers(booted: Machine) -> None:
    pid = booted.shows(UNIT, "MainPID")
    assert re.search(r"Max core file size\s+0\s+0", booted.run("cat", f"/proc/{pid}/limits"))
    status = booted.run("cat", f"/proc/{pid}/status")
    assert re.search(r"^CapBnd:\s+0{15}4$", status, re.MULTILINE)  # CAP_DAC_READ_SEARCH alone: bit 2
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert PASSWORD not in booted.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")


HOOKS = """
[Service]
Environment=EDGE_BACKUP_STOP_TIMEOUT=1s
Environment=EDGE_BACKUP_BEFORE_BACKUP_CMD=/etc/edge-backup/before
Environment=EDGE_BACKUP_AFTER_BACKUP_CMD=/etc/edge-backup/after
"""
BEFORE = """#!/bin/sh
set -eu
dump=$(mktemp)
echo dump > "$dump"
rm "$dump"
touch /var/lib/edge-backup/app-stands-still
test ! -e /etc/edge-backup/hang || exec sleep 600
"""
AFTER = "#!/bin/sh\nexec rm /var/lib/edge-backup/app-stands-still\n"


def test_the_commands_around_a_backup_have_room_for_temporary_files_and_survive_a_stop(
    booted: Machine,
) -> None:
    """zrepl/zrepl#709: `mktemp` met the read-only /tmp of a unit with ProtectSystem=strict.

    karanhudia/borg-ui#85, borgmatic's #516: after a SIGTERM nothing started the application again.
    """
    booted.write(f"/etc/systemd/system/{DROP_INS}/hooks.conf", HOOKS)
    for name, script in (("before", BEFORE), ("after", AFTER)):
        booted.write(f"/etc/edge-backup/{name}", script, 0o755)
    restart(booted)
    stands_still = booted.root / "var/lib/edge-backup/app-stands-still"
    assert "BACKUP_FINISHED" in sent(booted, "backup", "/srv/other")
    assert not stands_still.exists()
    booted.write("/etc/edge-backup/hang", "")
    program = "/opt/edge-backup/bin/edge-backup"
    booted.run("systemd-run", "--unit=sender", program, "send", "backup", *AT_BROKER, "--dir", "/srv/other")
    wait_until(stands_still.exists, what="the command before the backup")
    booted.run("systemctl", "stop", UNIT)
    assert not stands_still.exists()
    assert booted.shows(UNIT, "Result") == "success"
    assert booted.run("pgrep", "--exact", "sleep") == ""
    booted.run("rm", "/etc/edge-backup/hang", f"/etc/systemd/system/{DROP_INS}/hooks.conf")
    restart(booted)
    assert "interrupted" in booted.run(program, "history")


def test_with_the_drop_in_owners_come_back(booted: Machine) -> None:
    booted.write(
        f"/etc/systemd/system/{DROP_INS}/full-restore.conf",
        (SYSTEMD / DROP_INS / "full-restore.conf").read_text(),
    )
    booted.write(f"/etc/systemd/system/{DROP_INS}/writable.conf", "[Service]\nReadWritePaths=/srv/other\n")
    restart(booted)
    assert "BACKUP_FINISHED" in sent(booted, "backup", "/srv/other")
    booted.run("rm", "/srv/other/private")
    assert "RESTORE_FINISHED" in sent(booted, "restore", "/srv/other")
    assert booted.run("stat", "--format=%u:%g %a", "/srv/other/private") == "1234:1234 600\n"
    wait_until(lambda: "idle; connected as " in booted.run("systemctl", "status", UNIT), what="its status")


def test_with_the_drop_in_kanto_s_configuration_and_directories_are_taken_over(booted: Machine) -> None:
    kanto = '{"logFile": "/var/log/file-backup/log.txt", "dir": "/var/tmp/file-backup", "mode": "scoped"}'
    booted.write("/etc/file-backup/config.json", kanto)
    drop_in = (SYSTEMD / DROP_INS / "kanto-paths.conf").read_text("utf-8")
    booted.write(f"/etc/systemd/system/{DROP_INS}/kanto-paths.conf", drop_in)
    booted.run(
        "rm", "-f", *(f"/etc/systemd/system/{DROP_INS}/{name}.conf" for name in ("full-restore", "writable"))
    )
    booted.run("mkdir", "--parents", "/var/tmp/file-backup", "/var/log/file-backup", "/storage/backups")
    booted.write("/var/tmp/file-backup/file", "of root", 0o600)
    restart(booted)
    assert "BACKUP_FINISHED" in sent(booted, "backup", "/var/tmp/file-backup")
    assert "RESTORE_FINISHED" in sent(booted, "restore", "/var/tmp/file-backup")
    assert "journal.db" in booted.run("ls", "/storage")
    assert '"event": "agent started"' in booted.run("cat", "/var/log/file-backup/log.txt")


def restart(booted: Machine) -> None:
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "restart", UNIT)
    wait_until(lambda: "connected" in booted.shows(UNIT, "StatusText"), what="the connection")


def test_a_link_in_the_place_of_kantos_directory_is_not_followed_as_root(booted: Machine) -> None:
    """/var/tmp is open to all: a user's link would have given them any directory of the system's."""
    drop_in = (SYSTEMD / DROP_INS / "kanto-paths.conf").read_text("utf-8")
    booted.write(f"/etc/systemd/system/{DROP_INS}/kanto-paths.conf", drop_in)
    booted.run("rm", "-rf", "/var/tmp/file-backup")
    booted.run("mkdir", "-m", "0755", "/victim")
    booted.run("ln", "-s", "/victim", "/var/tmp/file-backup")
    booted.run("systemctl", "daemon-reload")
    assert "Job for edge-backup.service failed" in booted.run("systemctl", "restart", "edge-backup")
    assert booted.run("stat", "-c", "%U %a", "/victim").strip() == "root 755"
    booted.run("rm", "/var/tmp/file-backup", f"/etc/systemd/system/{DROP_INS}/kanto-paths.conf")


ASK = """
import socket, sys
local = "/" in sys.argv[1]
with socket.socket(socket.AF_UNIX if local else socket.AF_INET) as client:
    client.settimeout(50)
    client.connect(sys.argv[1] if local else ("127.0.0.1", int(sys.argv[1])))
    client.sendall(b"GET /api/v1/status HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    print(client.recv(1000).partition(b"\\r\\n")[0].decode())
"""


def test_the_socket_unit_starts_the_agent_and_keeps_clients_while_it_restarts(booted: Machine) -> None:
    """Also on a port that the agent itself may not open."""
    booted.write(
        "/etc/systemd/system/edge-backup.socket", (SYSTEMD / "edge-backup.socket").read_text("utf-8")
    )
    booted.write(
        "/etc/systemd/system/edge-backup.socket.d/network.conf", "[Socket]\nListenStream=127.0.0.1:443\n"
    )
    booted.write("/etc/edge-backup/http-token", "a-token-of-this-device-0123456789\n", 0o600)
    booted.write(
        f"/etc/systemd/system/{DROP_INS}/http.conf",
        "[Service]\nLoadCredential=http-token:/etc/edge-backup/http-token\n",
    )
    booted.write("/usr/local/bin/ask.py", ASK)
    booted.run("systemctl", "stop", UNIT)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "start", "edge-backup.socket")
    path = "/run/edge-backup/http.sock"
    assert booted.run("stat", "-c", "%U %a", path).strip() == "edge-backup 600"
    python = "/opt/edge-backup/bin/python"
    assert booted.run(python, "/usr/local/bin/ask.py", path).strip() == "HTTP/1.1 200 OK"
    assert booted.run(python, "/usr/local/bin/ask.py", "443").strip() == "HTTP/1.1 401 Unauthorized"
    booted.run("systemctl", "restart", UNIT)
    assert booted.run(python, "/usr/local/bin/ask.py", path).strip() == "HTTP/1.1 200 OK"
    assert booted.run("/opt/edge-backup/bin/edge-backup", "check-config").startswith("{")
