"""Encryption by itself: what goes in comes out, and what was touched on the way does not."""

import io
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.base import bech32
from agent.base.errors import EncryptionBroken, JobError, NotEncrypted, WorkFactorTooHigh, WrongKey
from agent.formats.age.header import (
    MAX_HEADER_BYTES,
    VERSION_LINE,
    Stanza,
    encode_authenticated,
    encode_last_line,
    read_header,
)
from agent.formats.age.keys import Passcode, PrivateKey, PublicKey, Recipient
from agent.formats.age.payload import CHUNK_BYTES, TAG_BYTES, OpenedFile, encrypted
from providers.testing.streams import content

PASSCODE = Passcode(b"correct horse battery", 10, 10)
# From the public test vectors.
IDENTITY = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"


def encrypt(plain: bytes, *, piece_bytes: int = 70_001) -> bytes:
    pieces = (plain[begin : begin + piece_bytes] for begin in range(0, len(plain), piece_bytes))
    return b"".join(encrypted(pieces, [PASSCODE]))


def decrypt(file: bytes, passcode: Passcode = PASSCODE) -> bytes:
    return OpenedFile(io.BytesIO(file), [passcode]).read()


def payload_begin(file: bytes) -> int:
    """Where the chunks begin: after the header and the nonce."""
    stream = io.BytesIO(file)
    read_header(stream)
    return stream.tell() + 16


# Content


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 40 * CHUNK_BYTES + 7])
@pytest.mark.parametrize("piece_bytes", [1000, CHUNK_BYTES, 3 << 20])
def test_what_was_encrypted_is_opened(size: int, piece_bytes: int) -> None:
    file = encrypt(content(size), piece_bytes=piece_bytes)
    chunks = max(1, -(-size // CHUNK_BYTES))
    assert len(file) == payload_begin(file) + size + chunks * TAG_BYTES
    assert decrypt(file) == content(size)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200_100), st.integers(0, 200_000)), max_size=8))
def test_any_part_is_read_without_the_rest(reads: list[tuple[int, int]]) -> None:
    opened = OpenedFile(io.BytesIO(ENCRYPTED), [PASSCODE])
    for offset, size in reads:
        assert opened.seek(offset) == opened.tell() == offset
        assert opened.read(size) == content(200_000)[offset : offset + size]
    assert opened.seek(0, io.SEEK_END) == 200_000


ENCRYPTED = encrypt(content(200_000))


def test_the_key_is_derived_before_anything_is_asked_for() -> None:
    """Scrypt takes its memory before the archive's writer and the provider take theirs."""
    asked: list[bool] = []

    class Watching(Recipient):
        def wrap(self, file_key: bytes) -> Stanza:
            asked.append(True)
            return PASSCODE.wrap(file_key)

    output = encrypted(iter([b"x"]), [Watching()])
    assert asked
    assert next(output).startswith(VERSION_LINE)


# Damage


def test_no_byte_can_be_changed_in_any_place() -> None:
    file = encrypt(b"a small secret")
    for destination in range(len(file)):
        with pytest.raises(JobError):
            decrypt(file[:destination] + bytes([file[destination] ^ 1]) + file[destination + 1 :])


@pytest.mark.parametrize("left", [0, 1, 15, 16, 17, CHUNK_BYTES, CHUNK_BYTES + 16, 2 * (CHUNK_BYTES + 16)])
def test_a_file_that_was_cut_is_noticed_before_anything_is_read(left: int) -> None:
    """Also where it was cut between two chunks: the last one is marked."""
    with pytest.raises(EncryptionBroken, match="cut or altered"):
        OpenedFile(io.BytesIO(ENCRYPTED[: payload_begin(ENCRYPTED) + left]), [PASSCODE])


def test_a_file_that_goes_on_after_its_end_is_refused() -> None:
    for more in (b"x", os.urandom(TAG_BYTES), os.urandom(CHUNK_BYTES)):
        with pytest.raises(EncryptionBroken):
            OpenedFile(io.BytesIO(ENCRYPTED + more), [PASSCODE])


def test_chunks_cannot_change_places() -> None:
    begin, size = payload_begin(ENCRYPTED), CHUNK_BYTES + TAG_BYTES
    first, second = ENCRYPTED[begin : begin + size], ENCRYPTED[begin + size : begin + 2 * size]
    opened = OpenedFile(
        io.BytesIO(ENCRYPTED[:begin] + second + first + ENCRYPTED[begin + 2 * size :]), [PASSCODE]
    )
    with pytest.raises(EncryptionBroken):
        opened.read(1)


def test_an_altered_chunk_gives_nothing_and_the_others_all() -> None:
    middle = payload_begin(ENCRYPTED) + CHUNK_BYTES + TAG_BYTES + 100
    file = ENCRYPTED[:middle] + bytes([ENCRYPTED[middle] ^ 1]) + ENCRYPTED[middle + 1 :]
    opened = OpenedFile(io.BytesIO(file), [PASSCODE])
    assert opened.read(CHUNK_BYTES) == content(CHUNK_BYTES)
    with pytest.raises(EncryptionBroken):
        opened.read(1)


# Keys


def test_another_passcode_opens_nothing() -> None:
    with pytest.raises(WrongKey):
        decrypt(ENCRYPTED, Passcode(b"correct horse batterx", 10, 10))
    with pytest.raises(WrongKey):
        OpenedFile(io.BytesIO(ENCRYPTED), [PrivateKey.parse(IDENTITY)])


def test_a_work_factor_above_the_maximum_costs_nothing() -> None:
    """With 63 it would take more memory than there is in the world."""
    file = ENCRYPTED.replace(b" 10\n", b" 63\n", 1)
    assert file != ENCRYPTED
    with pytest.raises(WorkFactorTooHigh, match=r"work factor 63.*at most 10.*encryption\.maxWorkFactor"):
        decrypt(file)


def test_keys_are_not_shown() -> None:
    for key in (PASSCODE, PrivateKey.parse(IDENTITY)):
        assert "correct" not in repr(key)
        assert "key=" not in repr(key)


@pytest.mark.parametrize("text", ["", "1", "age1", IDENTITY, "age1pq1qqqq", "ssh-ed25519 AAAA", "ä" * 62])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        PublicKey.parse(text)
    assert IDENTITY[17:] not in str(caught.value)


def test_a_public_key_of_low_order_is_never_used() -> None:
    """Everybody can open an archive that is encrypted for it."""
    with pytest.raises(ValueError, match=r".*"):
        PublicKey(bytes(32)).wrap(bytes(16))


# Bech32


def spelled(prefix: str, data: bytes) -> str:
    """The reverse of `bech32.decode`."""
    bits = "".join(f"{octet:08b}" for octet in data)
    groups = [int(bits[begin : begin + 5].ljust(5, "0"), 2) for begin in range(0, len(bits), 5)]
    check = bech32.checksum(bech32.expanded(prefix) + groups + [0] * 6) ^ 1
    groups += [check >> 5 * (5 - index) & 31 for index in range(6)]
    return f"{prefix}1{''.join(bech32.LETTERS[group] for group in groups)}"


@given(st.binary(max_size=40))
def test_a_spelled_key_is_read_in_either_case(data: bytes) -> None:
    text = spelled("age", data)
    assert bech32.decode(text) == ("age", data)
    assert bech32.decode(text.upper()) == ("AGE", data)


@given(st.binary(min_size=32, max_size=32), st.data())
def test_up_to_four_wrong_letters_are_always_found(key: bytes, data: st.DataObject) -> None:
    """The code promises this (BIP 173), up to 90 letters."""
    text = spelled("age", key)
    places = data.draw(st.lists(st.integers(4, len(text) - 1), min_size=1, max_size=4, unique=True))
    letters = list(text)
    for destination in places:
        other = data.draw(
            st.sampled_from([letter for letter in bech32.LETTERS if letter != letters[destination]])
        )
        letters[destination] = other
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode("".join(letters))


@given(st.text(max_size=100))
@example("1" * 91)
@example("a1lqfn3")
@example("age1" + "q" * 200_000)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        prefix, data = bech32.decode(text)
    except ValueError:
        return
    assert spelled(prefix.lower(), data) == text.lower()


# Header

ARGUMENTS = st.lists(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1), min_size=1)
STANZAS = st.lists(st.builds(Stanza, ARGUMENTS.map(tuple), st.binary(max_size=200)), max_size=5)


@given(STANZAS, st.binary(min_size=32, max_size=32), st.binary())
def test_a_header_is_read_as_it_was_written(stanzas: list[Stanza], mac: bytes, rest: bytes) -> None:
    authenticated = encode_authenticated(stanzas)
    stream = io.BytesIO(authenticated + encode_last_line(mac) + rest)
    header = read_header(stream)
    assert (list(header.stanzas), header.mac, header.authenticated) == (stanzas, mac, authenticated)
    assert stream.read() == rest


@given(
    st.lists(
        st.sampled_from([b"-> a b\n", b"-> ", b"AAAA\n", b"A" * 64 + b"\n", b"--- ", b"\n", b"\xff", b" "])
    )
)
def test_what_is_no_header_is_refused_in_words_of_ours(parts: list[bytes]) -> None:
    text = VERSION_LINE + b"".join(parts)
    try:
        header = read_header(io.BytesIO(text))
    except EncryptionBroken:
        return
    assert text.startswith(encode_authenticated(header.stanzas) + encode_last_line(header.mac))


@pytest.mark.parametrize("file", [b"", b"PK\x03\x04", b"age-encryption.org/v2\n--- \n", b"-----BEGIN AGE"])
def test_what_is_not_encrypted_is_told_apart_from_what_is_damaged(file: bytes) -> None:
    with pytest.raises(NotEncrypted):
        decrypt(file)


@pytest.mark.parametrize("text", [b"-> a\n\n" * 100_000, b"-> " + b"x" * 1_000_000])
def test_an_endless_header_takes_a_bounded_part_of_memory(text: bytes) -> None:
    stream = io.BytesIO(VERSION_LINE + text)
    with pytest.raises(EncryptionBroken):
        read_header(stream)
    assert stream.tell() <= MAX_HEADER_BYTES
