"""Keys of archives: passcodes, and the key pairs of recipients.

Each wraps the file key, which is random and encrypts one archive. Source: the age specification,
age-encryption.org/v1, sections "The X25519 recipient type" and "The scrypt recipient type".
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.base.bech32 import decode_key
from agent.base.errors import EncryptionBroken, WorkFactorTooHigh
from agent.formats.age.header import Stanza, decoded_argument, unpadded

FILE_KEY_BYTES = 16
_WRAPPED_BYTES = FILE_KEY_BYTES + 16
_SALT_BYTES = 16
_BLOCK_SIZE = 8
_NO_NONCE = bytes(12)
"""Each wrapping key wraps one file key, so its nonce need not be random."""
_SCRYPT, _X25519 = "scrypt", "X25519"
_LABEL = b"age-encryption.org/v1/"
_DECIMAL = re.compile(r"[1-9][0-9]?")


class Recipient(Protocol):
    """A key that encrypts an archive."""

    def wrap(self, file_key: bytes) -> Stanza: ...


class AgeIdentity(Protocol):
    """A key that opens an archive."""

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """Return the file key; None when the archive was not encrypted for this key.

        Raises `EncryptionBroken` for a malformed stanza and `WorkFactorTooHigh`.
        """


@dataclass(frozen=True, slots=True)
class Passcode:
    passcode: bytes = field(repr=False)
    work_factor: int
    """Base 2 logarithm of scrypt's cost for a new archive: 14 takes 16 MiB and about 50 ms."""
    max_work_factor: int
    """The highest work factor that is opened: `n` takes 2 to the power of `n` KiB of memory."""

    def wrap(self, file_key: bytes) -> Stanza:
        salt = os.urandom(_SALT_BYTES)
        body = _wrapped(self._key(salt, self.work_factor), file_key)
        return Stanza((_SCRYPT, unpadded(salt).decode(), str(self.work_factor)), body)

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        if all(stanza.arguments[0] != _SCRYPT for stanza in stanzas):
            return None
        if len(stanzas) != 1:
            raise _mixed()
        arguments, body = stanzas[0].arguments, stanzas[0].body
        if len(arguments) != 3 or not _DECIMAL.fullmatch(arguments[2]) or len(body) != _WRAPPED_BYTES:
            raise _damaged("its passcode stanza is malformed")
        salt, work_factor = decoded_argument(arguments[1], _SALT_BYTES), int(arguments[2])
        if work_factor > self.max_work_factor:
            raise WorkFactorTooHigh(
                f"the archive's encryption has work factor {work_factor}, this device takes at most"
                f" {self.max_work_factor}: encrypt it with less, or raise 'encryption.maxWorkFactor'"
            )
        return _unwrapped(self._key(salt, work_factor), body)

    def _key(self, salt: bytes, work_factor: int) -> bytes:
        cost = 1 << work_factor
        return hashlib.scrypt(
            self.passcode,
            salt=_LABEL + b"scrypt" + salt,
            n=cost,
            r=_BLOCK_SIZE,
            p=1,
            maxmem=(cost + 64) * 128 * _BLOCK_SIZE,
            dklen=32,
        )


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A recipient of the fleet, `age1…`. The device cannot open what it has encrypted with it."""

    key: bytes

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Raises ValueError, without the text, for anything but `age1…`."""
        return cls(decode_key(text, "age"))

    def wrap(self, file_key: bytes) -> Stanza:
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.key))
        body = _wrapped(_x25519_key(shared, share, self.key), file_key)
        return Stanza((_X25519, unpadded(share).decode()), body)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """The other half of a `PublicKey`, `AGE-SECRET-KEY-1…`."""

    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "PrivateKey":
        """Raises ValueError, without the text, for anything but `AGE-SECRET-KEY-1…`."""
        return cls(decode_key(text, "AGE-SECRET-KEY-"))

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        if any(stanza.arguments[0] == _SCRYPT for stanza in stanzas) and len(stanzas) != 1:
            raise _mixed()
        mine = X25519PrivateKey.from_private_bytes(self.key)
        for stanza in stanzas:
            if stanza.arguments[0] == _X25519 and (file_key := self._unwrapped(mine, stanza)):
                return file_key
        return None

    def _unwrapped(self, mine: X25519PrivateKey, stanza: Stanza) -> bytes | None:
        if len(stanza.arguments) != 2 or len(stanza.body) != _WRAPPED_BYTES:
            raise _damaged("a recipient's stanza is malformed")
        share = decoded_argument(stanza.arguments[1], 32)
        try:
            shared = mine.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError as error:  # a share of low order
            raise _damaged("a recipient's share is invalid") from error
        key = _x25519_key(shared, share, mine.public_key().public_bytes_raw())
        return _unwrapped(key, stanza.body)


def _damaged(how: str) -> EncryptionBroken:
    return EncryptionBroken(f"the archive's encryption is damaged: {how}")


def _mixed() -> EncryptionBroken:
    return _damaged("a passcode and other keys exclude each other")


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Derive 32 bytes by HKDF-SHA-256."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


def _x25519_key(shared: bytes, share: bytes, public: bytes) -> bytes:
    return derived(shared, share + public, _LABEL + b"X25519")


def _wrapped(key: bytes, file_key: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(_NO_NONCE, file_key, None)


def _unwrapped(key: bytes, body: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(_NO_NONCE, body, None)
    except InvalidTag:
        return None
