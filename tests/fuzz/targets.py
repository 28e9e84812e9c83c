"""What is fuzzed: each target reads bytes from elsewhere, and may refuse them, but in its own words only.

Any other exception, a hang or a large need of memory is a bug.
"""

import io
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.base.durations import format_duration, parse_duration
from agent.base.errors import JobError
from agent.formats.age.files import decrypt, encrypt
from agent.formats.base import DIR, Encryption, Unlock
from agent.formats.zip.reader import ArchiveReader
from agent.mqtt.envelope import Unreadable, parse
from agent.settings.load import SettingsError, load
from providers.address import parse_address, redirected
from tests.support.archives import Crafted, crafted, deflated
from tests.support.reference import REFERENCE

_MOST_BYTES = 1 << 20
"""Of one content: what is longer costs time and finds nothing."""
_KEY = Encryption(passcode="fuzz", work_factor=1)
_UNLOCK = Unlock(passcodes=("fuzz",), max_work_factor=1)


class Target(NamedTuple):
    """A reader of foreign bytes, and bytes that it takes."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def read_zip(data: bytes) -> None:
    with suppress(JobError):
        reader = ArchiveReader(io.BytesIO(data))
        with suppress(JobError):
            reader.manifest()
        for item in reader.items():
            if item.kind is not DIR and item.size <= _MOST_BYTES:
                with suppress(JobError):
                    reader.read(item, lambda _piece: None)


def read_envelope(data: bytes) -> None:
    with suppress(Unreadable):
        parse(data)


def read_encrypted(data: bytes) -> None:
    with suppress(JobError):
        plain = decrypt(io.BytesIO(data), _UNLOCK)
        size_bytes = plain.seek(0, io.SEEK_END)
        plain.seek(max(0, size_bytes - 1))
        plain.read(1)
        plain.seek(0)
        plain.read(_MOST_BYTES)


def read_settings(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        with suppress(SettingsError):
            load({}, Path(file.name), {})


def read_texts(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(ValueError):
        duration = parse_duration(text)
        assert parse_duration(format_duration(duration)) == duration
    with suppress(ValueError):
        address = parse_address(text)
        assert parse_address(address.location).origin == address.origin
    with suppress(ValueError):
        redirected(parse_address("https://user:secret@backup.example/archives/a.zip?x=1"), text)


TARGETS = {
    "zip": Target(
        read_zip,
        (
            crafted(Crafted(b"a"), Crafted(b"d/", b"", mode=0o40755), Crafted(b"l", b"a", mode=0o120777)),
            crafted(Crafted(b"a", b"x" * 99, method=8, data=deflated(b"x" * 99)), comment=b"comment"),
        ),
    ),
    "envelope": Target(
        read_envelope,
        (
            b'{"topic":"a/b/things/live/messages/backup","headers":{"correlation-id":"1"},"path":"/x","value":{}}',
        ),
    ),
    "age": Target(
        read_encrypted, (b"".join(encrypt(iter([b"content"]), _KEY)), b"".join(encrypt(iter([b""]), _KEY)))
    ),
    "settings": Target(read_settings, (REFERENCE.read_bytes(), b'{"dir":"/data","mode":"scoped"}')),
    "texts": Target(read_texts, (b"1h2m3.5s", b"-300ms", b"https://user:pass@host.example:8443/a/b?c=d#e")),
}
