"""Settings of the HTTP face: what does not go together is refused in a plain sentence."""

import os
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme

from agent.settings.http import ListenAddress, parse_listen
from agent.settings.load import SettingsError, load
from tests.support.local_agent import edge_backup
from tests.support.settings_files import private_file


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8765", "127.0.0.1", 8765, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("localhost:8765", "127.0.0.1", 8765, True),
        ("[::1]:8765", "::1", 8765, True),
        ("[::ffff:127.0.0.1]:1", str(ip_address("::ffff:127.0.0.1")), 1, True),
        ("[::]:0", "::", 0, False),
        ("0.0.0.0:65535", "0.0.0.0", 65535, False),
        ("192.168.1.9:443", "192.168.1.9", 443, False),
        ("[::ffff:10.0.0.1]:1", str(ip_address("::ffff:10.0.0.1")), 1, False),
    ],
)
def test_addresses_are_understood(text: str, host: str, port: int, loopback: bool) -> None:
    address = parse_listen(text)
    assert (address, address.is_loopback) == (ListenAddress(host, port), loopback)
    assert parse_listen(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "8765",
        ":8765",
        "127.0.0.1",
        "127.0.0.1:65536",
        "::1:80",
        "[::1]",
        "gateway:80",
        "1.2.3:80",
        "[1.2.3.4]x:1",
    ],
)
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"http.listen: expected <IP address>:<port> such as '127.0.0.1:8765'"
    ):
        load({"http.listen": text}, None, {})


def problems(**settings: str) -> list[str]:
    """Return the problems of these settings, with `_` for the dot."""
    try:
        load({key.replace("_", "."): text for key, text in settings.items()}, None, {})
    except SettingsError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"http_listen": "127.0.0.1:1"}, "http.listen: nobody could sign in; give http.tokenFile"),
        (
            {"http_listen": "0.0.0.0:1", "http_tokenFile": "t"},
            "'0.0.0.0:1' is open to the network without",
        ),
        ({"http_listen": "[::]:1", "http_tokenFile": "t"}, "'[::]:1' is open to the network without TLS"),
        ({"http_cert": "c"}, "http.cert: needs its private key in http.key"),
        ({"http_key": "k"}, "http.key: needs its certificate in http.cert"),
        ({"http_clientCa": "ca"}, "http.clientCa: needs http.cert and http.key"),
        ({"http_cert": "c", "http_key": "k", "http_clientCa": "a", "http_tokenFile": "t"}, "keep one"),
        ({"http_socketGroup": "daemon"}, "http.socketGroup: the group cannot enter the storage directory"),
        ({"http_socketGroup": "daemon", "http_socket": "storage/in/it"}, "give http.socket a path outside"),
        ({"http_socketGroup": "no-such", "http_socket": "/run/x"}, "this device has no group 'no-such'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, str], problem: str) -> None:
    assert [text for text in problems(**settings, storage="storage") if problem in text] != []


@pytest.mark.parametrize(
    "settings",
    [
        {"http_listen": "127.0.0.1:1", "http_tokenFile": "t"},
        {"http_listen": "0.0.0.0:1", "http_tokenFile": "t", "http_plain": "true"},
        {"http_listen": "0.0.0.0:1", "http_tokenFile": "t", "http_cert": "c", "http_key": "k"},
        {"http_listen": "[::]:1", "http_clientCa": "a", "http_cert": "c", "http_key": "k"},
        {"http_tokenFile": "t"},
        {"http_socketGroup": "daemon", "http_socket": "/run/edge-backup/http.sock"},
    ],
    ids=str,
)
def test_what_goes_together_is_accepted(settings: dict[str, str]) -> None:
    assert problems(**settings) == []


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert "openssl pkey" in problems(http_cert="c", http_key=str(key))[0]


def test_token_and_certificate_come_from_systemd_s_credentials(tmp_path: Path) -> None:
    for name in ("http-token", "http-cert", "http-key"):
        (tmp_path / name).write_text("x")
    http = load({"http.listen": "[::]:443"}, None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).settings.http
    assert (http.token_file, http.cert, http.key) == (
        tmp_path / "http-token", tmp_path / "http-cert", tmp_path / "http-key",
    )  # fmt: skip


def checked(directory: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    given = {"http_listen": "127.0.0.1:1", **settings}
    arguments = [
        argument for key, text in given.items() for argument in ("--set", f"{key.replace('_', '.')}={text}")
    ]
    return edge_backup(directory, "check-config", *arguments)


GOOD = "0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (None, 0o600, "cannot be read (No such file or directory)"),
        ("short", 0o600, "one word of at least 16 ASCII characters, as 'openssl rand -hex 32' prints"),
        (f"{GOOD}\n{GOOD}", 0o600, "expected one word"),
        ("", 0o600, "expected one word"),
        ("ünd so weiter".replace(" ", "") * 2, 0o600, "of at least 16 ASCII characters"),
        (GOOD.encode("utf-16").decode("latin-1"), 0o600, "of at least 16 ASCII characters"),
        (GOOD, 0o604, "others can read it; take that right away"),
    ],
)
def test_check_config_reads_the_token_and_never_shows_it(
    tmp_path: Path, content: str | None, mode: int, problem: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    result = checked(tmp_path, http_tokenFile=str(file))
    assert (result.returncode, problem in result.stderr) == (2, True), result.stderr
    assert GOOD not in result.stderr


def test_check_config_tries_the_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "good.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    private_file(tmp_path / "token", GOOD)
    for name, status in (("good.pem", 0), ("bad.pem", 2), ("missing.pem", 2)):
        pem = str(tmp_path / name)
        result = checked(tmp_path, http_tokenFile=str(tmp_path / "token"), http_cert=pem, http_key=pem)
        assert (result.returncode, "http.cert and http.key cannot be used" in result.stderr) == (
            status, status == 2,
        )  # fmt: skip


def test_a_fifo_in_the_place_of_the_token_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    assert checked(tmp_path, http_tokenFile=str(tmp_path / "token")).returncode == 2
