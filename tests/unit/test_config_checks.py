"""`check-config` opens what the settings name, and says everything at once."""

import json
from importlib import metadata
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import trustme

from agent.cli import connect, main
from agent.jobs import admission
from tests.support.settings_files import private_file


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
        transfer={"proxy": "https://user:sesame@proxy:3128"},
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
        "transfer.proxy: must be an http:// URL",
        "stores.secret: store 'secret': its file of credentials cannot be used",
    ):
        assert part in told
    assert "sesame" not in told


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
    for url, problem in (
        ("https://user:very-secret@backup.example.com/one", "must be the URL of a REST server"),
        ("https://user:very-secret@backup.example.com/", ""),
    ):
        secrets = json.dumps({"https.url": url, "password": "very-secret"})
        credentials = private_file(tmp_path / "store.json", secrets)
        store = {"provider": "generic", "format": "repository", "credentials": credentials}
        status, lines = check(tmp_path, capsys, stores={"nightly": store})
        assert status == (2 if problem else 0)
        assert problem in "".join(lines)
        assert "very-secret" not in "".join(lines)
    monkeypatch.setattr(admission, "find_spec", lambda _module: None)
    status, lines = check(tmp_path, capsys, stores={"nightly": store})
    assert status == 2
    assert "install edge-backup-agent[repository]" in lines[0]


def test_a_key_that_is_given_twice_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON parser takes the last one: half of what somebody wrote was gone without a word."""
    config = tmp_path / "config.json"
    config.write_text('{"archive": {"level": "fast", "level": "small"}, "dir": "/data", "dir": "/other"}')
    assert main(["check-config", "--config", str(config)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{config}: 'level' is given twice; keep one",
        f"{config}: 'dir' is given twice; keep one",
    ]
    before = config.read_text()
    assert main(["check-config", "--write", "--config", str(config)]) == 2
    assert "given twice" in capsys.readouterr().err
    assert config.read_text() == before


def test_kantos_file_with_a_key_twice_is_read_as_kanto_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Go takes the last one, and so devices run with these files."""
    config = tmp_path / "config.json"
    config.write_text('{"period": "1h", "period": "2h"}')
    assert main(["check-config", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert "'period' is given twice, and the last one counts" in said.err
    assert json.loads(said.out)["period"] == "2h"


def test_a_credential_that_is_given_twice_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = '{"https.url": "https://a/?old-secret", "https.url": "https://a/?new-secret"}'
    store = {"provider": "generic", "credentials": private_file(tmp_path / "store.json", twice)}
    status, lines = check(tmp_path, capsys, stores={"nightly": store})
    assert status == 2
    assert "'https.url' is in it twice; keep one" in lines[0]
    assert "secret" not in lines[0]


@pytest.mark.parametrize(
    ("provider", "given", "wrong"),
    [
        ("local", {"local.target": "device", "aws.s3.bucket": "x"}, "aws.s3.bucket"),
        ("https", {"https.url": "https://a/b", "url": "https://a/c"}, "url"),
        ("local", {"local.traget": "device"}, "local.traget"),
    ],
)
def test_an_option_that_the_provider_of_a_store_does_not_know_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], provider: str, given: dict[str, str], wrong: str
) -> None:
    (tmp_path / "st" / "archives").mkdir(parents=True)
    status, lines = check(tmp_path, capsys, stores={"one": {"provider": provider, "options": given}})
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("stores.one: ")
    assert f"'{wrong}' is" in lines[0]


def test_a_credential_that_the_provider_of_a_store_does_not_know_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials = private_file(tmp_path / "store.json", '{"password": "of-a-repository"}')
    store = {"provider": "local", "credentials": credentials}
    status, lines = check(tmp_path, capsys, stores={"one": store})
    assert (status, lines) == (
        2,
        ["stores.one: 'password' is no option of provider 'local'; remove it"],
    )


def test_an_unknown_key_of_a_store_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = check(tmp_path, capsys, stores={"one": {"provider": "local", "credential": "/x"}})
    assert status == 2
    assert "unknown key 'stores.one.credential'" in lines[0]


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("/bin/echo a; /bin/false", "a;"),
        ("/bin/echo a;/bin/false", "a;/bin/false"),
        ("/bin/echo a|/bin/cat", "a|/bin/cat"),
        ("/bin/echo a > /tmp/x", ">"),
        ("/bin/sh -c 'true; false | cat'", ""),
        ('/bin/sh -c "true; echo \\" | cat\\" ; x"', ""),
        ("find /tmp -name x -exec rm {} \\;", ""),
        ("/bin/echo http://host/?a=1&b=2", ""),
    ],
)
def test_an_operator_of_the_shell_in_a_command_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, word: str
) -> None:
    """The command would get `;` and `|` as arguments, and end well."""
    status, lines = check(tmp_path, capsys, afterBackupCmd=command)
    assert status == 0
    assert [line for line in lines if f"no shell reads '{word}'" in line] == (lines if word else [])
    assert len(lines) == bool(word)


def test_a_silent_broker_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, and never answers."""
    monkeypatch.setattr(connect, "LIMIT_S", 0.5)
    monkeypatch.setattr("structlog.configure", lambda **_: None)
    config = tmp_path / "config.json"
    with create_server(("127.0.0.1", 0)) as silent:
        broker = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        config.write_text(json.dumps({"broker": broker, "storage": str(tmp_path / "st")}))
        assert main(["check-config", "--connect", "--config", str(config)]) == 1
    (line,) = [each for each in capsys.readouterr().err.splitlines() if broker in each]
    assert line.startswith(f"broker {broker}: failed: ")
    assert "answer" in line


def test_a_store_whose_extra_is_not_installed_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    store = {"provider": "aws", "options": {"aws.s3.bucket": "site-17", "aws.region": "eu-central-1"}}
    status, lines = check(tmp_path, capsys, stores={"cloud": store})
    assert (status, lines) == (
        2,
        ["stores.cloud: provider 'aws' is not installed here: install edge-backup-agent[aws]"],
    )
