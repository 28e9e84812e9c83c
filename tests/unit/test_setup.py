"""`edge-backup setup` writes what a wheel brings for a device, and nothing of the owner's is lost."""

import os
import re
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from agent.cli import main
from tests.support import share
from tests.support.require import require

UNIT, CONFIG = "etc/systemd/system/edge-backup.service", "etc/edge-backup/config.json"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a wheel has them: a checkout may be without manual pages, or another test is writing them."""
    directory = tmp_path_factory.mktemp("share") / "share"
    shutil.copytree(share.SHARE, directory, ignore=shutil.ignore_patterns("man", "completions"))
    share.write(directory)
    return directory


@pytest.fixture(autouse=True)
def _installed(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.cli.setup.SHARE", shared)


def setup(root: Path) -> int:
    return main(["setup", "--root", str(root)])


def modes(root: Path) -> dict[str, int]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.stat().st_mode & 0o777 for path in files}


def test_all_files_are_written_where_systemd_man_and_the_shells_look(tmp_path: Path) -> None:
    assert setup(tmp_path) == 0
    written = modes(tmp_path)
    assert written.pop(CONFIG) == 0o640
    assert set(written.values()) == {0o644}
    assert {
        UNIT,
        "etc/systemd/system/edge-backup.socket",
        "etc/sysusers.d/edge-backup.conf",
        "usr/local/share/bash-completion/completions/edge-backup",
        "usr/local/share/edge-backup/edge-backup.service.d/full-restore.conf",
        "usr/local/share/man/man1/edge-backup-setup.1",
        "usr/local/share/man/man5/edge-backup-settings.5",
        "usr/local/share/zsh/site-functions/_edge-backup",
    } <= written.keys()


def test_directories_are_for_everybody_also_under_a_strict_umask(tmp_path: Path) -> None:
    """The root may be an image: with /etc or /usr for root alone, no other user of it could work."""
    before = os.umask(0o077)
    try:
        setup(tmp_path / "root")
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "root").rglob("*") if path.is_dir()]
    assert made
    assert {path.stat().st_mode & 0o777 for path in made} == {0o755}


def test_a_reader_that_has_seen_enough_stops_no_writing(tmp_path: Path) -> None:
    """`edge-backup setup | head -1` wrote one file, and named the root as what is broken."""
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w", buffering=1) as broken, redirect_stdout(broken):
        assert setup(tmp_path) == 0
    assert (tmp_path / "usr/local/share/zsh/site-functions/_edge-backup").exists()


def test_the_unit_starts_the_program_that_has_written_it(tmp_path: Path) -> None:
    """The wheel may be installed anywhere, while the package's unit names the package's place."""
    setup(tmp_path)
    (start,) = [line for line in (tmp_path / UNIT).read_text().splitlines() if line.startswith("ExecStart=")]
    assert os.access(start.removeprefix("ExecStart=").split()[0], os.X_OK)


def test_the_unit_names_a_program_in_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd divides at a blank, and takes a percent sign for the beginning of a specifier."""
    program = tmp_path / "my 50%f agent" / "edge-backup"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(program.parent))
    setup(tmp_path / "root")
    unit = str(tmp_path / "root" / UNIT)
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert not re.search(r"is not executable|bad unit file", told.stderr)


def test_a_program_that_the_agents_user_cannot_reach_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With pipx, or pip --user, root has it below /root: systemd said 203/EXEC, and setup nothing."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    home.chmod(0o700)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(home / "bin"))
    assert setup(tmp_path / "root") == 0
    assert f"may not enter '{home}': install into a directory such as /opt" in capsys.readouterr().err


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert setup(tmp_path) == 0
    assert {line.split(": ")[0] for line in capsys.readouterr().out.splitlines()} == {"unchanged"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_configuration_of_the_owners_stays_and_a_unit_of_another_version_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(tmp_path)
    (tmp_path / CONFIG).write_text('{"dir": "/srv"}')
    (tmp_path / UNIT).write_text("[Unit]\n")
    capsys.readouterr()
    setup(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert f"kept, it has been changed: /{CONFIG}" in lines
    assert f"replaced: /{UNIT}" in lines
    assert (tmp_path / CONFIG).read_text() == '{"dir": "/srv"}'
    assert "ExecStart=" in (tmp_path / UNIT).read_text()


def test_print_shows_the_files_and_writes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "--print", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"==> /{UNIT} <==\n" in shown
    assert "ExecStart=" in shown
    assert list(tmp_path.iterdir()) == []


def test_beside_the_package_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """systemd would prefer the unit in /etc, so that an upgrade of the package changed nothing any more."""
    unit = tmp_path / "usr/lib/systemd/system/edge-backup.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    assert setup(tmp_path) == 1
    assert "the Debian package" in capsys.readouterr().err
    assert modes(tmp_path).keys() == {str(unit.relative_to(tmp_path))}


def test_a_link_does_not_lead_out_of_the_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The root may be an image of somebody else's, and its links mean files of this system."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "etc").symlink_to(elsewhere)
    assert setup(root) == 1
    assert "a link leads out of" in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []
