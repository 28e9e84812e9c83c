"""The Debian package, in a system that was really booted; `make deb-test` builds it and runs this."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import __version__
from tests.support.machine import CHECKOUT, Machine, machine
from tests.support.require import require
from tests.support.waiting import wait_until

from .test_quick_start import walk_through

pytestmark = [pytest.mark.large, pytest.mark.timeout(600)]  # systems are booted, beside whatever else runs
UNIT, STATE, CONFIG = "edge-backup.service", "/var/lib/edge-backup", "/etc/edge-backup/config.json"
BUILD = CHECKOUT / "packaging/deb/build"
ELF_AARCH64 = b"\xb7\x00"
"""The field `e_machine` of an ELF file for 64-bit ARM."""
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(shutil.which("dpkg-deb") is not None, "dpkg-deb")
    return built(tmp_path_factory.mktemp("package"))


def built(directory: Path, architecture: str = "") -> Path:
    """The package for an architecture, by default for this one."""
    ask = ["dpkg", "--print-architecture"]
    own = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    environment = {**os.environ, "VENV": sys.prefix}
    subprocess.run([BUILD, architecture or own, directory], check=True, env=environment, cwd="/")
    (made,) = directory.glob("*.deb")
    return made


@pytest.fixture(scope="module")
def earlier(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a lower version, and with another default configuration."""
    root, made = tmp_path_factory.mktemp("earlier") / "root", package.with_name("earlier.deb")
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {__version__}+", "Version: 0.0.1+"))
    config = root / CONFIG.lstrip("/")
    config.write_text(config.read_text().replace('"deviceId"', '"logLevel": "DEBUG", "deviceId"'))
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", root, made], check=True)
    return made


@pytest.fixture
def booted(package: Path, earlier: Path, tmp_path: Path) -> Iterator[Machine]:
    require(os.geteuid() == 0 and shutil.which("systemd-nspawn") is not None, "root and systemd-nspawn")
    require(Path(PYTHON).exists(), f"Debian's own {PYTHON}")
    with machine(tmp_path) as made:
        for file in (package, earlier):
            shutil.copy(file, made.root / "srv" / ("new.deb" if file == package else "old.deb"))
        made.write(
            "/usr/sbin/policy-rc.d", "#!/bin/sh\n", 0o755
        )  # a container's own forbids to start services
        with made.booted("basic.target"):
            yield made


def dpkg(booted: Machine, *arguments: str) -> str:
    said = booted.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io", *arguments)
    assert "error processing" not in said, said
    return said


def exists(booted: Machine, path: str) -> bool:
    return booted.run("sh", "-c", f"[ -e {path} ] && echo yes").strip() == "yes"


def owner_and_mode(booted: Machine, path: str) -> str:
    return booted.run("stat", "--format=%U:%G %a", path).strip()


def runs(booted: Machine) -> None:
    wait_until(lambda: booted.shows(UNIT, "ActiveState") == "active", what=UNIT, timeout_s=60)


def saved(booted: Machine, name: str) -> None:
    said = booted.run("edge-backup", "backup", "--id", name, "-o", "storage.provider=local")
    assert "backup finished" in said


def test_the_package_is_the_same_when_it_is_built_again(package: Path, tmp_path: Path) -> None:
    """Somebody who has the sources can check that a package was made from them."""
    assert built(tmp_path).read_bytes() == package.read_bytes()


def test_the_package_for_another_machine_has_its_libraries_and_none_of_ours(tmp_path: Path) -> None:
    """Nobody would see it before a device cannot start the agent."""
    made = built(tmp_path, "arm64")
    subprocess.run(["dpkg-deb", "--extract", made, tmp_path / "root"], check=True)
    files = (path for path in (tmp_path / "root").rglob("*") if path.is_file() and not path.is_symlink())
    machines = [head[18:20] for head in map(beginning, files) if head.startswith(b"\x7fELF")]
    assert len(machines) > 5
    assert set(machines) == {ELF_AARCH64}


def beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(20)


def test_an_upgrade_keeps_configuration_and_journal_a_removal_the_data_and_a_purge_nothing(
    booted: Machine,
) -> None:
    dpkg(booted, "--install", "/srv/old.deb")
    runs(booted)
    assert booted.shows(UNIT, "UnitFileState") == "enabled"
    assert owner_and_mode(booted, STATE) == "edge-backup:edge-backup 700"
    assert owner_and_mode(booted, CONFIG) == "root:edge-backup 640"
    assert booted.run("edge-backup", "check-config").startswith("{")
    booted.write("/srv/modules/agent.py", "raise SystemExit('somebody else')")
    assert __version__ in booted.run("env", "PYTHONPATH=/srv/modules", "edge-backup", "--version")
    assert exists(booted, "/usr/share/man/man1/edge-backup-restore.1.gz")
    saved(booted, "before-the-upgrade")
    booted.run("sed", "-i", "s/DEBUG/WARN/", CONFIG)

    dpkg(booted, "--install", "--force-confdef", "--force-confold", "/srv/new.deb")
    runs(booted)
    assert __version__ in booted.run("dpkg-query", "--show", "edge-backup")
    assert '"WARN"' in booted.run("cat", CONFIG)
    assert owner_and_mode(booted, CONFIG) == "root:edge-backup 640"
    assert "before-the-upgrade" in booted.run("edge-backup", "history")
    saved(booted, "after-the-upgrade")

    said = dpkg(booted, "--remove", "edge-backup")
    ended = said + booted.run("journalctl", "--lines=20", "--output=cat", f"--unit={UNIT}")
    assert booted.shows(UNIT, "ActiveState") == "inactive", ended
    assert booted.shows(UNIT, "Result") == "success", ended
    assert not exists(booted, "/opt/edge-backup")
    assert exists(booted, f"{STATE}/storage/journal.db")
    assert exists(booted, CONFIG)

    booted.run("mkdir", "--parents", "/srv/archives")
    booted.run("sh", "-c", f"mv {STATE}/archives/* /srv/archives/")
    archives = booted.run("ls", "/srv/archives")
    booted.run("mount", "-t", "tmpfs", "none", f"{STATE}/archives")
    booted.run("cp", "-a", "/srv/archives", f"{STATE}/archives/")
    # A directory of the same disk: no device number tells it from what the agent has made.
    booted.run("mkdir", "/srv/[a] disk", f"{STATE}/data/[a] disk")
    booted.run("touch", "/srv/[a] disk/of somebody", f"{STATE}/data/of the agent")
    booted.run("mount", "--bind", "/srv/[a] disk", f"{STATE}/data/[a] disk")
    said = dpkg(booted, "--purge", "edge-backup")
    assert "left as they are" in said
    assert not exists(booted, "/etc/edge-backup")
    assert not exists(booted, f"{STATE}/storage")
    assert not exists(booted, "/var/log/edge-backup")
    assert booted.run("ls", "/srv/[a] disk") == "of somebody\n"
    assert booted.run("ls", f"{STATE}/data") == "[a] disk\n"
    assert archives == booted.run("ls", "/srv/archives") == booted.run("ls", f"{STATE}/archives/archives")


def test_an_upgrade_starts_the_agent_that_it_stopped(booted: Machine) -> None:
    """Also one that somebody has started without enabling it; one that was not running stays so."""
    dpkg(booted, "--install", "/srv/old.deb")
    runs(booted)
    booted.run("systemctl", "disable", UNIT)
    dpkg(booted, "--install", "--force-confdef", "--force-confold", "/srv/new.deb")
    runs(booted)
    assert booted.shows(UNIT, "UnitFileState") == "disabled"
    booted.run("systemctl", "stop", UNIT)
    dpkg(booted, "--install", "/srv/new.deb")
    assert booted.shows(UNIT, "ActiveState") == "inactive"


def test_an_installation_takes_the_user_that_is_there_and_needs_no_shared_memory(booted: Machine) -> None:
    """Images have the users of a fleet, and no /dev/shm, which Python needs for several processes.

    The package stayed half configured, and the agent down.
    """
    booted.run("useradd", "--no-user-group", "--gid", "users", "edge-backup")
    booted.run("sh", "-c", "mount -o remount,ro /dev/shm")
    assert "Traceback" not in dpkg(booted, "--install", "/srv/new.deb")
    runs(booted)
    assert owner_and_mode(booted, STATE) == "edge-backup:users 700"
    assert owner_and_mode(booted, CONFIG) == "root:users 640"
    assert exists(booted, "/opt/edge-backup/lib/*/site-packages/agent/__pycache__")


def test_an_installation_gives_away_nothing_that_was_there_before(booted: Machine) -> None:
    """Not through a link in the place of the state directory or the configuration, nor below the former."""
    booted.run("mkdir", "-m", "0755", "/srv/elsewhere", "/srv/elsewhere/data")
    booted.run("ln", "-s", "/srv/elsewhere", STATE)
    booted.write("/srv/elsewhere/config.json", "{}", 0o600)
    booted.run("mkdir", "/etc/edge-backup")
    booted.run("ln", "-s", "/srv/elsewhere/config.json", CONFIG)
    booted.run("systemctl", "mask", "--runtime", UNIT)  # systemd itself gives StateDirectory= to the agent
    dpkg(booted, "--install", "--force-confdef", "--force-confold", "/srv/new.deb")
    assert owner_and_mode(booted, "/srv/elsewhere") == "root:root 755"
    assert owner_and_mode(booted, "/srv/elsewhere/config.json") == "root:root 600"
    assert owner_and_mode(booted, "/srv/elsewhere/data") == "root:root 755"
    dpkg(booted, "--purge", "edge-backup")
    assert exists(booted, "/srv/elsewhere/data")
    assert not exists(booted, STATE)


def test_an_installation_without_the_package_is_not_mixed_with_it(booted: Machine) -> None:
    """Old libraries would stay beside new ones, and a unit in /etc would hide the package's."""
    booted.run("python3", "-m", "venv", "--without-pip", "/opt/edge-backup")
    said = booted.run("dpkg", "--install", "/srv/new.deb")
    assert "/opt/edge-backup has an installation without the package" in said
    assert not exists(booted, "/opt/edge-backup/bin/edge-backup")


def test_the_quick_start_works_with_the_package_alone(package: Path, tmp_path: Path) -> None:
    walk_through(tmp_path, package)
