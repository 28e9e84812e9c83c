"""`edge-backup init` writes a configuration that `check-config` accepts, and never loses one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.cli.setup import SHARE
from tests.support.require import require

SECRET = "a-secret-key-for-this-test"
RECIPIENT = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"
ANSWERS = {"broker": "tcp://localhost:1883", "storage": "/var/lib/edge-backup/storage", "logFile": ""}


def init(path: Path, *flags: str) -> int:
    try:
        return main(["init", "--config", str(path), *flags])
    except SystemExit as ended:
        return int(str(ended.code))


def written(path: Path) -> dict[str, Any]:
    assert path.stat().st_mode & 0o777 == 0o600
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_one_flag_is_enough_and_check_config_accepts_the_file(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "config.json"
    assert init(path, "--dir", str(tmp_path)) == 0
    assert written(path) == {
        **ANSWERS,
        "dir": str(tmp_path),
        "targets": {"backups": {"path": "/var/lib/edge-backup/archives"}},
        "stores": {"backups": {"provider": "local", "options": {"local.target": "backups"}}},
        "schedules": {"daily": {"times": ["02:00"], "store": "backups"}},
        "retention": {"keepDaily": 7, "keepWeekly": 5, "keepMonthly": 12},
    }
    assert main(["check-config", "--config", str(path)]) == 0


@pytest.mark.parametrize(
    ("target", "is_told"), [("/srv/archives", True), ("/media/usb", False), ("/var/lib/edge-backup/a", False)]
)
def test_it_says_what_the_unit_forbids(
    target: str, is_told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the first backup fails with a file system that is read-only."""
    assert init(tmp_path / "config.json", "--dir", "/srv", "--target", target) == 0
    said = capsys.readouterr().out
    assert (f"ReadWritePaths={target}\n" in said) is is_told
    assert f"edge-backup backup --store backups --config {tmp_path / 'config.json'}\n" in said


def test_a_stick_is_used_only_while_it_is_there(tmp_path: Path) -> None:
    """Otherwise backups would fill the disk below an empty directory."""
    path = tmp_path / "config.json"
    init(path, "--dir", "/srv", "--target", "/media/usb", "--time", "none")
    assert written(path)["targets"]["backups"] == {"path": "/media/usb", "mount": True}
    assert "schedules" not in written(path)


def test_secrets_of_the_store_are_in_a_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    monkeypatch.setenv("KEY", SECRET)
    options = [
        "-o",
        "aws.s3.bucket=site-17",
        "-o",
        "aws.region=eu-central-1",
        "-o",
        "aws.access.key.id=AKIA1",
    ]
    secret = ["--secret", "aws.secret.access.key=env:KEY", "--recipient", RECIPIENT]
    assert init(path, "--dir", "/srv", "--provider", "aws", "--device-id", "edge:d", *options, *secret) == 0
    credentials = tmp_path / "backups.json"
    assert written(credentials) == {"aws.access.key.id": "AKIA1", "aws.secret.access.key": SECRET}
    content = written(path)
    assert content["stores"]["backups"] == {
        "provider": "aws",
        "options": {"aws.s3.bucket": "site-17", "aws.region": "eu-central-1"},
        "credentials": str(credentials),
    }
    assert (content["deviceId"], content["encryption"]) == ("edge:d", {"recipients": [RECIPIENT]})
    assert main(["check-config", "--config", str(path)]) == 0
    said = capsys.readouterr()
    assert SECRET not in path.read_text() + said.out + said.err


def test_a_path_from_the_working_directory_holds_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has another working directory, and did not find the credentials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", SECRET)
    options = ["-o", "aws.s3.bucket=site-17", "-o", "aws.region=r", "-o", "aws.access.key.id=A"]
    secret = ["--secret", "aws.secret.access.key=env:KEY"]
    assert init(Path("mine.json"), "--dir", ".", "--provider", "aws", *options, *secret) == 0
    content = written(tmp_path / "mine.json")
    assert content["stores"]["backups"]["credentials"] == str(tmp_path / "backups.json")
    assert content["dir"] == str(tmp_path)


def test_a_configuration_that_is_there_stays_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0o600)
    assert init(path, "--dir", "/srv") == 2
    assert f"'{path}' is there already" in capsys.readouterr().err
    assert path.read_text() == "{}"
    assert init(path, "--dir", "/srv", "--force") == 0
    assert written(path)["dir"] == "/srv"


@pytest.mark.parametrize("name", ["config.json", "backups.json"])
def test_no_link_is_replaced_and_no_credentials_either(name: str, tmp_path: Path) -> None:
    """The credentials of the earlier store would be lost; a link may lead to a file that others keep."""
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    assert init(tmp_path / "config.json", "--dir", "/srv") == 2
    assert (tmp_path / name).is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_the_file_is_the_one_that_all_commands_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_BACKUP_CONFIG", str(tmp_path / "mine.json"))
    assert main(["init", "--dir", "/srv"]) == 0
    assert written(tmp_path / "mine.json")["dir"] == "/srv"


def test_a_directory_in_the_place_of_the_file_is_there_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path, "--dir", "/srv") == 2
    assert f"'{tmp_path}' is there already" in capsys.readouterr().err


def test_the_default_configuration_of_an_installation_is_nobodys_work(tmp_path: Path) -> None:
    """Otherwise everybody would have to begin with --force after installing the package."""
    path = tmp_path / "config.json"
    path.write_bytes((SHARE / "config.json").read_bytes())
    path.chmod(0o600)
    assert init(path, "--dir", "/srv") == 0
    assert written(path)["dir"] == "/srv"


def test_who_could_read_the_default_configuration_can_read_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package lets the agent's group read it, and with it those who may ask the agent."""
    require(os.geteuid() == 0, "root, to give files away")
    path, group = tmp_path / "config.json", 4711
    path.write_bytes((SHARE / "config.json").read_bytes())
    path.chmod(0o640)
    os.chown(path, 0, group)
    monkeypatch.setenv("KEY", SECRET)
    options = ["-o", "aws.s3.bucket=site-17", "-o", "aws.region=r", "-o", "aws.access.key.id=A"]
    secret = ["--secret", "aws.secret.access.key=env:KEY"]
    assert init(path, "--dir", "/srv", "--provider", "aws", *options, *secret) == 0
    for each in (path, tmp_path / "backups.json"):
        assert (each.stat().st_mode & 0o777, each.stat().st_gid) == (0o640, group)


def test_a_user_who_may_not_write_there_is_told_before_any_question(tmp_path: Path) -> None:
    """They were told that a configuration is there already, which they could not see, and to use --force."""
    require(os.geteuid() == 0 and shutil.which("setpriv") is not None, "root and setpriv")
    command = [sys.executable, "-m", "agent", "init", "--config", str(tmp_path / "config.json")]
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    tmp_path.chmod(0o555)
    done = subprocess.run([*without, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be written by this user; run it as root" in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--dir", "/srv", "--time", "25:00"], "schedules.daily.times"),
        (["--dir", "/srv", "--recipient", "age1wrong"], "encryption.recipients"),
        (["--dir", "/srv", "--provider", "aws"], "aws.s3.bucket"),
        (["--dir", "/srv", "--provider", "floppy"], "stores.backups.provider: expected one of"),
        (["--provider", "local"], "--dir is missing"),
    ],
)
def test_what_check_config_would_refuse_is_not_written(
    flags: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "config.json", *flags) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_standard_input_it_says_which_flag_is_missing(tmp_path: Path) -> None:
    """A job of a scheduler or an installer may have that descriptor closed."""
    command = [sys.executable, "-m", "agent", "init", "--config", str(tmp_path / "config.json")]
    closed = ["sh", "-c", 'exec "$0" "$@" <&-', *command]
    done = subprocess.run(closed, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "--dir is missing" in done.stderr


def test_at_a_terminal_it_asks_and_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    answers = ["", "/srv/app", "s3", "aws", "", "site-17", "eu-central-1", "", "AKIA1", SECRET, "03:30"]
    said = at_a_terminal([*answers, "", "", ""], "init", "--config", str(path))
    assert "directory to save: " in said
    assert said.count("this needs an answer; Ctrl-C ends, and writes nothing") == 2
    assert "expected one of local, aws, azure" in said
    assert said.index("bucket: ") < said.index("time of the daily backup")
    assert "time of the daily backup, or none [02:00]: " in said
    assert "directory for archives" not in said
    assert SECRET not in said
    assert written(path)["dir"] == "/srv/app"
    assert written(path)["schedules"]["daily"]["times"] == ["03:30"]
    assert written(tmp_path / "backups.json")["aws.secret.access.key"] == SECRET


def at_a_terminal(lines: list[str], *argv: str) -> str:
    """Return the terminal's text while somebody answers each question with the next line."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "agent", *argv]
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = ""
    while True:
        try:
            shown += os.read(ours, 4096).decode()
        except OSError:  # EIO: the program has ended
            break
        if shown.endswith(": ") and lines:
            os.write(ours, f"{lines.pop(0)}\n".encode())
    os.close(ours)
    assert program.wait(60) == 0, shown
    return shown
