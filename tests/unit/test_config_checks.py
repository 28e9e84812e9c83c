"""`check-config` opens what the settings name, and says everything at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.cli import main
from agent.jobs import admission


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[int, list[str]]:
    """The exit status, and the lines on stderr."""
    (tmp_path / "data").mkdir(exist_ok=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"dir": str(tmp_path / "data"), "storage": str(tmp_path / "st")} | settings))
    status = main(["check-config", "--config", str(config)])
    return status, capsys.readouterr().err.splitlines()


def test_settings_that_work_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(
        tmp_path, capsys, beforeBackupCmd="/bin/true", afterBackupCmd="systemctl start 'my app'"
    ) in (
        (0, []),
        (2, ["afterBackupCmd 'systemctl' cannot be started: not found"]),
    )


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    script = tmp_path / "dump"
    script.write_text("no shebang, no bit")
    status, lines = check(
        tmp_path,
        capsys,
        caCert=str(rubbish),
        serverCert=str(tmp_path / "missing.pem"),
        beforeBackupCmd="no-such-program --now",
        backupCmd=str(script),
        targets={"a": {"path": str(tmp_path / "usb")}, "b": {"path": str(tmp_path / "x" / ".." / "usb")}},
        stores={
            "lost": {"provider": "local", "options": {"local.target": "nowhere"}},
            "secret": {"provider": "local", "credentials": str(tmp_path / "missing.json")},
        },
    )
    assert status == 2
    told = "\n".join(lines)
    for part in (
        f"caCert: '{rubbish}' cannot be used: no PEM file",
        f"serverCert: '{tmp_path / 'missing.pem'}' cannot be read (No such file or directory)",
        "beforeBackupCmd 'no-such-program' cannot be started: not found",
        "backupCmd 'dump' cannot be started: not executable",
        "targets.b.path: ",
        "stores.lost: ",
        "stores.secret: store 'secret': its file of credentials cannot be used",
    ):
        assert part in told


def test_a_key_of_another_certificate_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = trustme.CA()
    first, second = (authority.issue_cert("device.example") for _ in range(2))
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first.cert_chain_pems[0].write_to_path(str(certificate))
    second.private_key_pem.write_to_path(str(key))
    status, lines = check(tmp_path, capsys, cert=str(certificate), key=str(key))
    assert (status, lines) == (
        2,
        [f"cert and key: '{certificate}' cannot be used: they do not belong together"],
    )


def test_what_is_mostly_a_mistake_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = check(
        tmp_path,
        capsys,
        dir=str(tmp_path / "missing"),
        afterBackupCmd="/bin/true | /bin/cat 2>&1",
        targets={"inside": {"path": str(tmp_path / "missing" / "archives")}},
    )
    assert status == 0
    assert [line.partition(":")[0] for line in lines] == ["warning"] * 3
    assert "does not exist" in lines[0]
    assert "no shell reads '|'" in lines[1]
    assert "inside 'dir'" in lines[2]


def test_a_repository_that_cannot_be_opened_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL with a password in it is in the file of credentials, where the settings do not show it."""
    credentials = tmp_path / "store.json"
    credentials.touch(0o600)
    store = {"provider": "generic", "format": "repository", "credentials": str(credentials)}
    for url, problem in (
        ("https://user:very-secret@backup.example.com/one", "must be the URL of a REST server"),
        ("https://user:very-secret@backup.example.com/", ""),
    ):
        credentials.write_text(json.dumps({"https.url": url, "password": "very-secret"}))
        status, lines = check(tmp_path, capsys, stores={"nightly": store})
        assert status == (2 if problem else 0)
        assert problem in "".join(lines)
        assert "very-secret" not in "".join(lines)
    monkeypatch.setattr(admission, "find_spec", lambda _module: None)
    status, lines = check(tmp_path, capsys, stores={"nightly": store})
    assert status == 2
    assert "install edge-backup-agent[repository]" in lines[0]
