"""Files that hold secrets: passwords, keys, credentials of stores and the token of the device."""

import os
import stat
from pathlib import Path

_LONGEST_BYTES = 64 << 10
_ENCRYPTED_KEY = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
"""The marks of a PEM private key that has a passphrase (RFC 7468 section 11, RFC 1421 section 4.6.1.1)."""


def read_password(path: Path) -> str:
    """Return the text in the file, without line ends and byte order mark.

    Raises OSError when it cannot be read, and ValueError when it is no UTF-8 text.
    """
    with path.open("rb") as file:
        return file.read(_LONGEST_BYTES).decode("utf-8-sig").rstrip("\r\n")


def read_private(path: Path) -> bytes:
    """Return the content of a regular file that others cannot read.

    Raises OSError, and ValueError with what is wrong with the file.
    """
    # Without O_NONBLOCK, opening a FIFO would wait.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_mode & stat.S_IRWXO:
            raise ValueError("others can read it; take that right away (chmod 600)")
        return file.read(_LONGEST_BYTES)


def is_encrypted_key(path: Path) -> bool:
    """Return True when the private key in the file has a passphrase; False when it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_BYTES)
    except OSError:
        return False
    return any(mark in text for mark in _ENCRYPTED_KEY)


def no_passphrase() -> str:
    """Raise ValueError when a library asks for a passphrase: nobody is there to type it."""
    raise ValueError("the private key is encrypted: decrypt it, nobody can type its passphrase")
