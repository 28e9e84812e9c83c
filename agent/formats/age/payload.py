"""The payload of an age file: chunks of 64 KiB, each encrypted, the last one marked.

Source: the age specification, age-encryption.org/v1, section "Payload". Many chunks are encrypted into one
buffer: an object for each costs two thirds of the speed.
"""

import hmac
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from io import SEEK_END
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from agent.base.errors import EncryptionBroken, WrongKey
from agent.formats.age.header import Header, encode_authenticated, encode_last_line, read_header
from agent.formats.age.keys import FILE_KEY_BYTES, AgeIdentity, Recipient, derived
from agent.transfer.ranged import BlockFile

CHUNK_BYTES = 64 << 10
TAG_BYTES = 16
_ENCRYPTED_BYTES = CHUNK_BYTES + TAG_BYTES
_NONCE_BYTES = 16
_BATCH = 4
"""Chunks that are encrypted at once: 256 KiB, for which the allocator need not ask the kernel."""


def encrypted(content: Iterable[bytes], recipients: Sequence[Recipient]) -> Generator[bytes, None, None]:
    """Yield the age file with this content in pieces of up to 256 KiB, the header first.

    Keys are derived before this returns: scrypt has given back its memory when others take theirs.
    """
    file_key, nonce = os.urandom(FILE_KEY_BYTES), os.urandom(_NONCE_BYTES)
    authenticated = encode_authenticated([recipient.wrap(file_key) for recipient in recipients])
    header = authenticated + encode_last_line(_mac(file_key, authenticated)) + nonce
    return _pieces(header, ChaCha20Poly1305(derived(file_key, nonce, b"payload")), content)


def _pieces(
    header: bytes, cipher: ChaCha20Poly1305, content: Iterable[bytes]
) -> Generator[bytes, None, None]:
    yield header
    waiting, number = bytearray(), 0
    for part in _parts(content):
        waiting += part
        # The last chunk is never empty, so a full one has to wait until something comes after it.
        while (whole := min((len(waiting) - 1) // CHUNK_BYTES, _BATCH)) > 0:
            yield _encrypted_chunks(cipher, waiting, number, whole)
            del waiting[: whole * CHUNK_BYTES]
            number += whole
    yield cipher.encrypt(_nonce(number, last=True), waiting, None)


def _parts(content: Iterable[bytes]) -> Iterator[memoryview]:
    """Yield the content in parts that are no larger than what is encrypted at once."""
    for piece in content:
        with memoryview(piece) as view:
            for begin in range(0, len(piece), _BATCH * CHUNK_BYTES):
                yield view[begin : begin + _BATCH * CHUNK_BYTES]


def _encrypted_chunks(cipher: ChaCha20Poly1305, content: bytearray, number: int, count: int) -> bytes:
    encrypted_chunks = bytearray(count * _ENCRYPTED_BYTES)
    with memoryview(content) as plain, memoryview(encrypted_chunks) as out:
        for index in range(count):
            chunk = plain[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            destination = out[index * _ENCRYPTED_BYTES : (index + 1) * _ENCRYPTED_BYTES]
            cipher.encrypt_into(_nonce(number + index, last=False), chunk, None, destination)
            chunk.release()
    return bytes(encrypted_chunks)


class OpenedFile(BlockFile):
    """The content of an encrypted file. Only the chunks that are read are decrypted.

    Never gives out a byte that was altered, nor any byte of a file that was cut off: the last chunk is
    decrypted first.
    """

    def __init__(self, file: BinaryIO, identities: Sequence[AgeIdentity]) -> None:
        """Find the key and check the end of the file, which stays the caller's to close.

        Raises `NotEncrypted`, `WrongKey`, `EncryptionBroken` and `WorkFactorTooHigh`.
        """
        file.seek(0)
        header = read_header(file)
        file_key = _file_key(header, identities)
        nonce = file.read(_NONCE_BYTES)
        if len(nonce) != _NONCE_BYTES:
            raise _broken()
        self._file, self._begin = file, file.tell()
        self._cipher = ChaCha20Poly1305(derived(file_key, nonce, b"payload"))
        payload_bytes = file.seek(0, SEEK_END) - self._begin
        self._chunks = -(-payload_bytes // _ENCRYPTED_BYTES)
        super().__init__(CHUNK_BYTES, payload_bytes - self._chunks * TAG_BYTES)
        last_bytes = payload_bytes - (self._chunks - 1) * _ENCRYPTED_BYTES
        if self._chunks < 1 or last_bytes < TAG_BYTES or (last_bytes == TAG_BYTES and self._chunks > 1):
            raise _broken()
        self._chunk, self._number = b"", -1
        self._block(self._chunks - 1)

    def _block(self, number: int) -> bytes:
        """Return a chunk, decrypted; the latest one is kept. Raises `EncryptionBroken`."""
        if number != self._number:
            self._file.seek(self._begin + number * _ENCRYPTED_BYTES)
            try:
                chunk = self._file.read(_ENCRYPTED_BYTES)
                nonce = _nonce(number, last=number == self._chunks - 1)
                self._chunk = self._cipher.decrypt(nonce, chunk, None)
            except InvalidTag as error:
                raise _broken() from error
            self._number = number
        return self._chunk


def _file_key(header: Header, identities: Sequence[AgeIdentity]) -> bytes:
    for identity in identities:
        file_key = identity.unwrap(header.stanzas)
        if file_key is None:
            continue
        if not hmac.compare_digest(_mac(file_key, header.authenticated), header.mac):
            raise EncryptionBroken("the archive's encryption is damaged: its header was altered")
        return file_key
    raise WrongKey("the archive cannot be opened: wrong passcode, or encrypted for somebody else")


def _mac(file_key: bytes, authenticated: bytes) -> bytes:
    return hmac.digest(derived(file_key, b"", b"header"), authenticated, "sha256")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _broken() -> EncryptionBroken:
    return EncryptionBroken("the archive's encryption is broken: it was cut or altered; fetch it again")
