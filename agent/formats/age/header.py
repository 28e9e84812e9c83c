"""The header of an age file: who can open it. Pure.

Source: the age specification, age-encryption.org/v1, sections "Header" and "Header MAC".
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from agent.base.errors import Encrypted, EncryptionBroken, NotEncrypted

_FORMAT = b"age-encryption.org/"
VERSION_LINE = _FORMAT + b"v1\n"
MAX_HEADER_BYTES = 64 << 10
"""No fleet has so many recipients; a hostile archive must not fill the memory."""
COLUMNS = 64
_ARGUMENT = re.compile(rb"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Stanza:
    """The file key, encrypted for one recipient: `arguments` begin with the kind of recipient."""

    arguments: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Header:
    stanzas: tuple[Stanza, ...]
    mac: bytes
    authenticated: bytes
    """The input of the MAC: everything up to the three dashes of its line."""


def refuse_encrypted(file: BinaryIO) -> BinaryIO:
    """Return the file, at its beginning. Raises `Encrypted` for an age file of any version."""
    file.seek(0)
    begin = file.read(len(_FORMAT))
    file.seek(0)
    if begin == _FORMAT:
        raise Encrypted("the archive is encrypted: give 'restore.passcode' or 'restore.identity'")
    return file


def encode_authenticated(stanzas: Sequence[Stanza]) -> bytes:
    """Return the header up to and including the dashes that begin its last line."""
    return VERSION_LINE + b"".join(map(_encode_stanza, stanzas)) + b"---"


def encode_last_line(mac: bytes) -> bytes:
    return b" " + unpadded(mac) + b"\n"


def _encode_stanza(stanza: Stanza) -> bytes:
    text = unpadded(stanza.body)
    # The last line is shorter than the others, if need be empty: so a reader finds the end.
    lines = [text[start : start + COLUMNS] for start in range(0, len(text) + 1, COLUMNS)]
    return b"-> " + " ".join(stanza.arguments).encode() + b"\n" + b"".join(line + b"\n" for line in lines)


def read_header(file: BinaryIO) -> Header:
    """Read a header; the file is left at the byte after it. Raises `NotEncrypted` and `EncryptionBroken`."""
    if file.read(len(VERSION_LINE)) != VERSION_LINE:
        raise NotEncrypted("the archive is not encrypted, or not in the format age v1")
    reader = _Lines(file)
    stanzas: list[Stanza] = []
    while True:
        line = reader.next()
        if line.startswith(b"--- "):
            mac = _decoded(line[4:-1])
            if len(mac) != 32:
                raise _malformed()
            return Header(tuple(stanzas), mac, bytes(reader.seen[: -len(line) + 3]))
        if not line.startswith(b"-> "):
            raise _malformed()
        stanzas.append(Stanza(_arguments(line[3:-1]), _body(reader)))


def _arguments(text: bytes) -> tuple[str, ...]:
    arguments = text.split(b" ")
    if not all(_ARGUMENT.fullmatch(argument) for argument in arguments):
        raise _malformed()
    return tuple(argument.decode("ascii") for argument in arguments)


def _body(reader: "_Lines") -> bytes:
    body = bytearray()
    while True:
        line = reader.next()[:-1]
        if len(line) > COLUMNS:
            raise _malformed()
        body += _decoded(line)
        if len(line) < COLUMNS:
            return bytes(body)


class _Lines:
    """The lines of a header after its first, each with its line feed; keeps all that was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seen = bytearray(VERSION_LINE)

    def next(self) -> bytes:
        line = self._file.readline(MAX_HEADER_BYTES - len(self.seen))
        if not line.endswith(b"\n"):
            raise _malformed()
        self.seen += line
        return line


def unpadded(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    """Decode what `unpadded` has encoded. Raises `EncryptionBroken`."""
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise _malformed() from error
    if unpadded(data) != text:
        raise _malformed()
    return data


def decoded_argument(text: str, length: int) -> bytes:
    """Decode an argument of `length` bytes. Raises `EncryptionBroken`."""
    data = _decoded(text.encode("ascii"))
    if len(data) != length:
        raise _malformed()
    return data


def _malformed() -> EncryptionBroken:
    return EncryptionBroken("the archive's encryption is damaged: its header is malformed")
