"""The file with the broker's password: read at the start, and again at every connect, as it may change."""

from pathlib import Path

_LONGEST_BYTES = 64 << 10


def read_password(path: Path) -> str:
    """The text in the file, without line ends behind it.

    Raises OSError when it cannot be read, and ValueError when it is no UTF-8 text.
    """
    with path.open("rb") as file:
        return file.read(_LONGEST_BYTES).decode().rstrip("\r\n")
