"""Encryption of everything in a repository: `IV ‖ AES-256-CTR ‖ Poly1305-AES`.

Source: restic's `doc/design.rst`, "Keys, Encryption and MAC", and Bernstein's paper on Poly1305-AES. The
one-time key of Poly1305 is r, which the primitive clamps itself, followed by AES-128 of the IV under k.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.base.errors import RepositoryBroken

IV_BYTES, TAG_BYTES = 16, 16
OVERHEAD_BYTES = IV_BYTES + TAG_BYTES
"""How much longer the encrypted form of any content is."""

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Keys:
    """The three keys with which content is encrypted and authenticated."""

    encrypt: bytes = field(repr=False)
    """32 bytes, AES-256."""
    mac_k: bytes = field(repr=False)
    """16 bytes, AES-128."""
    mac_r: bytes = field(repr=False)
    """16 bytes."""

    @classmethod
    def random(cls) -> "Keys":
        return cls.of(os.urandom(64))

    @classmethod
    def of(cls, secret: bytes) -> "Keys":
        """Return the keys in 64 bytes from scrypt."""
        return cls(secret[:32], secret[32:48], secret[48:64])


class Cryptor:
    """Encrypts and decrypts content. Used by one thread: it reuses the contexts of the ciphers."""

    def __init__(self, keys: Keys) -> None:
        # Loaded late: its 7 MiB must not come on top of the 16 MiB that scrypt takes for the keys.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
        from cryptography.hazmat.primitives.poly1305 import Poly1305

        self._poly1305, self._invalid = Poly1305, InvalidSignature
        self._r = keys.mac_r
        self._stream = Cipher(AES(keys.encrypt), CTR(bytes(IV_BYTES))).encryptor()
        # ECB is right for single blocks that are keys of their own.
        self._block = Cipher(AES(keys.mac_k), ECB()).encryptor()  # noqa: S305

    def encrypt(self, plain: Buffer) -> bytes:
        """Return the encrypted content, which is `OVERHEAD_BYTES` longer."""
        iv = os.urandom(IV_BYTES)
        self._stream.reset_nonce(iv)
        encrypted = self._stream.update(plain)
        return b"".join((iv, encrypted, self._poly1305.generate_tag(self._one_time_key(iv), encrypted)))

    def encrypt_to(self, output: bytearray, pieces: Iterable[Buffer]) -> None:
        """Append the encrypted form of a content that comes in pieces."""
        iv = os.urandom(IV_BYTES)
        self._stream.reset_nonce(iv)
        authenticator = self._poly1305(self._one_time_key(iv))
        output += iv
        for piece in pieces:
            encrypted = self._stream.update(piece)
            authenticator.update(encrypted)
            output += encrypted
        output += authenticator.finalize()

    def decrypt(self, encrypted: Buffer) -> bytes:
        """Return the plain content. Raises `RepositoryBroken` when it was altered or cut."""
        view = memoryview(encrypted)
        if len(view) < OVERHEAD_BYTES:
            raise _broken()
        iv, tag = bytes(view[:IV_BYTES]), bytes(view[-TAG_BYTES:])
        body = view[IV_BYTES:-TAG_BYTES]
        try:
            self._poly1305.verify_tag(self._one_time_key(iv), body, tag)
        except self._invalid as error:
            raise _broken() from error
        self._stream.reset_nonce(iv)
        return self._stream.update(body)

    def _one_time_key(self, iv: bytes) -> bytes:
        return self._r + self._block.update(iv)


def _broken() -> RepositoryBroken:
    return RepositoryBroken("a part of the repository was altered or cut: its authentication code is wrong")
