"""Options on the command line of `send`: what is a secret stays off it, and comes from elsewhere."""

import argparse
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.send.options import (
    MAX_SECRET_BYTES,
    SecretSource,
    UnusableOption,
    gathered,
    option,
    read_secret,
    secret_source,
)

MARK = "marked-secret-5d20"


@given(key=st.from_regex(r"[a-fA-F.]{1,20}", fullmatch=True), value=st.text())
def test_an_option_is_cut_at_its_first_equals_sign(key: str, value: str) -> None:
    assert option(f"{key}={value}") == (key, value)


@given(st.text(max_size=50))
def test_any_text_is_an_option_or_refused_with_a_sentence(text: str) -> None:
    try:
        key, value = option(text)
    except argparse.ArgumentTypeError:
        return
    assert text == f"{key}={value}"


@pytest.mark.parametrize(
    "key",
    [
        "aws.secret.access.key", "aws.session.token", "azure.shared.access.signature",
        "https.header.Authorization", "HTTPS.HEADER.authorization", "https.header.X-Api-Key",
        "https.header.Cookie", "backup.password",
    ],
)  # fmt: skip
def test_a_secret_option_is_refused_with_the_way_to_give_it(key: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        option(f"{key}={MARK}")
    assert f"--secret (or --answer-secret) {key}=SOURCE, where SOURCE is @FILE, env:NAME" in str(caught.value)
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"https://host/a.zip?X-Amz-Date=1&X-Amz-Signature={MARK}",
        f"https://account.blob.core.windows.net/c/b?sv=2024&sig={MARK}",
        f"https://user:{MARK}@host/a.zip",
        f"https://host/?access_token={MARK}",
    ],
)
def test_an_address_that_opens_the_door_by_itself_is_a_secret(url: str) -> None:
    """Whoever has a pre-signed URL needs nothing more."""
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        option(f"https.url={url}")
    assert "carries a secret" in str(caught.value)
    assert MARK not in str(caught.value)


def test_a_private_key_is_refused_whatever_the_option_is_called() -> None:
    """An option of a provider may have any name, and would bring the key into a log."""
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        option("age.key=AGE-SECRET-KEY-1MARKED5D20")
    assert "--secret (or --answer-secret) restore.identity=SOURCE" in str(caught.value)
    assert "MARKED" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["aws.access.key.id=AKIAEXAMPLE", "https.url=https://host/a.zip?version=3", "https.url=http://[::1",
     "https.header.x-ms-blob-type=BlockBlob", "aws.s3.bucket=backups"],
)  # fmt: skip
def test_what_is_no_secret_may_be_said(text: str) -> None:
    assert "=".join(option(text)) == text


@pytest.mark.parametrize("text", [MARK, f"k={MARK}", "k=", "k=@", "k=env:", "=-", f"={MARK}", f"k=-{MARK}"])
def test_a_secret_itself_is_no_source_and_is_not_repeated(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        secret_source(text)
    assert MARK not in str(caught.value)


def test_a_secret_is_read_from_a_file_without_its_line_break(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for content in (MARK, f"{MARK}\n", f"{MARK}\r\n"):
        file.write_bytes(content.encode())
        assert read_secret(secret_source(f"k=@{file}")) == MARK
    file.write_bytes(f"\ufeff{MARK}\r\n".encode())  # as Windows' Notepad writes it
    assert read_secret(secret_source(f"k=@{file}")) == MARK
    file.write_text(f" {MARK}\nsecond line \n")
    assert read_secret(SecretSource("k", f"@{file}")) == f" {MARK}\nsecond line "


def test_a_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", MARK)
    assert read_secret(secret_source("k=env:KEPT")) == MARK


def test_secrets_are_read_from_standard_input_a_line_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\ufeff{MARK}-1\n{MARK}-2\n"))
    assert [read_secret(secret_source("k=-")) for _ in range(2)] == [f"{MARK}-1", f"{MARK}-2"]
    with pytest.raises(UnusableOption, match="'k': there is nothing in standard input"):
        read_secret(secret_source("k=-"))


def test_a_source_that_has_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * (MAX_SECRET_BYTES + 1))
    for source, words in {
        "env:NOT_SET": "nothing in the environment variable NOT_SET",
        f"@{tmp_path}/empty": "nothing in .*empty",
        f"@{tmp_path}/missing": "missing' cannot be read: No such file",
        f"@{tmp_path}": "cannot be read: Is a directory",
        f"@{tmp_path}/binary": "not a text in UTF-8",
        f"@{tmp_path}/large": "longer than 65536 characters",
    }.items():
        with pytest.raises(UnusableOption, match=words):
            read_secret(SecretSource("k", source))


def test_an_option_that_is_given_twice_is_refused_without_its_value() -> None:
    """Which of the two would count is nothing to guess about."""
    assert gathered([("a", "1")], [("b", "2")]) == {"a": "1", "b": "2"}
    with pytest.raises(UnusableOption, match=r"^'a' is given twice$"):
        gathered([("a", "1")], [("a", MARK)])
