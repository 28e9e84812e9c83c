"""Encrypted archives have age's format: its public vectors, and the tool itself in both directions."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import pytest

from agent.base.errors import JobError, NotEncrypted, WorkFactorTooHigh, WrongKey
from agent.formats.age.keys import AgeIdentity, Passcode, PrivateKey, PublicKey
from agent.formats.age.payload import OpenedFile, encrypted
from providers.testing.streams import content
from tests.support.age import Vector, age, age_key, private_key, vectors

PASSCODE = "correct horse battery"
CHUNK = 64 << 10
SIZES = pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 300_000])
EXPECTED: dict[str, str | tuple[str, ...]] = {
    "success": "opened",
    "no match": "WrongKey",
    "HMAC failure": "EncryptionBroken: the archive's encryption is damaged: its header was altered",
    "header failure": ("EncryptionBroken", "WorkFactorTooHigh", "NotEncrypted"),
    "payload failure": "EncryptionBroken: the archive's encryption is broken: it was cut or altered",
}


def outcome(vector: Vector) -> str:
    identities: list[AgeIdentity] = [PrivateKey.parse(text) for text in vector.identities]
    identities += [Passcode(text.encode(), 14, 20) for text in vector.passphrases]
    try:
        opened = OpenedFile(io.BytesIO(vector.file), identities).read()
    except JobError as error:
        return f"{type(error).__name__}: {error}"
    return "opened" if hashlib.sha256(opened).hexdigest() == vector.facts["payload"] else "other content"


def as_expected(vector: Vector) -> bool:
    expected, found = vector.facts["expect"], outcome(vector)
    return found.startswith(EXPECTED[expected])


def test_every_public_vector_without_armor_and_of_a_kind_that_is_supported_is_met() -> None:
    kinds = Counter(
        "armored" if vector.armored
        else "hybrid" if vector.hybrid
        else "met" if as_expected(vector)
        else f"{vector.name}: expected {vector.facts['expect']}, found {outcome(vector)}"
        for vector in vectors()
    )  # fmt: skip
    assert kinds == {"met": 92, "armored": 33, "hybrid": 18}


@SIZES
def test_the_tool_opens_what_was_encrypted_with_a_passcode(tmp_path: Path, size: int) -> None:
    recipient = Passcode(PASSCODE.encode(), 10, 10)
    (tmp_path / "sealed").write_bytes(b"".join(encrypted([content(size)], [recipient])))
    (tmp_path / "opened").touch()  # which it leaves alone when there is no content
    age("-d", "-o", tmp_path / "opened", tmp_path / "sealed", typed=f"{PASSCODE}\n")
    assert (tmp_path / "opened").read_bytes() == content(size)


@SIZES
def test_the_tool_opens_what_was_encrypted_for_several_recipients(tmp_path: Path, size: int) -> None:
    recipients = [PublicKey.parse(age_key(tmp_path / name)) for name in ("first", "second")]
    (tmp_path / "sealed").write_bytes(b"".join(encrypted([content(size)], recipients)))
    (tmp_path / "opened").touch()
    age("-d", "-i", tmp_path / "second", "-o", tmp_path / "opened", tmp_path / "sealed")
    assert (tmp_path / "opened").read_bytes() == content(size)


@pytest.mark.slow
def test_what_the_tool_seals_with_a_passphrase_is_opened(tmp_path: Path) -> None:
    """It takes work factor 18, more than most devices want to spend."""
    (tmp_path / "plain").write_bytes(content(300_000))
    age("-p", "-o", tmp_path / "sealed", tmp_path / "plain", typed=f"{PASSCODE}\n" * 2)
    with (tmp_path / "sealed").open("rb") as file:
        assert OpenedFile(file, [Passcode(PASSCODE.encode(), 14, 18)]).read() == content(300_000)
        with pytest.raises(WorkFactorTooHigh, match="work factor 18"):
            OpenedFile(file, [Passcode(PASSCODE.encode(), 14, 15)])


@SIZES
def test_what_the_tool_seals_for_a_recipient_is_opened(tmp_path: Path, size: int) -> None:
    recipients = [age_key(tmp_path / name) for name in ("first", "second")]
    (tmp_path / "plain").write_bytes(content(size))
    age("-r", recipients[0], "-r", recipients[1], "-o", tmp_path / "sealed", tmp_path / "plain")
    with (tmp_path / "sealed").open("rb") as file:
        for name in ("first", "second"):
            identity = PrivateKey.parse(private_key(tmp_path / name))
            assert OpenedFile(file, [identity]).read() == content(size)


def test_a_file_that_the_tool_encrypted_for_others_is_not_opened(tmp_path: Path) -> None:
    recipient = age_key(tmp_path / "theirs")
    age_key(tmp_path / "ours")
    (tmp_path / "plain").write_bytes(b"x")
    age("-r", recipient, "-o", tmp_path / "sealed", tmp_path / "plain")
    with (tmp_path / "sealed").open("rb") as file, pytest.raises(WrongKey):
        OpenedFile(file, [PrivateKey.parse(private_key(tmp_path / "ours"))])
    with (tmp_path / "plain").open("rb") as file, pytest.raises(NotEncrypted):
        OpenedFile(file, [PrivateKey.parse(private_key(tmp_path / "ours"))])
