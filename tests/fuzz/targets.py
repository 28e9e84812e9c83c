"""Targets of the fuzzers: each reads bytes from elsewhere, and may refuse them, but in its own words only.

Any other exception, a hang or a large need of memory is a bug.
"""

import io
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from agent.base.durations import format_duration, parse_duration
from agent.base.errors import JobError
from agent.formats.age import decrypt, encrypt
from agent.formats.base import Encryption, Unlock
from agent.formats.entries import DIR
from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.document import manifest_of, parsed
from agent.formats.repository.json_stream import items_of
from agent.formats.repository.keys import open_key_file
from agent.formats.repository.objects import Kind
from agent.formats.repository.packs import blobs_in, header_entry
from agent.formats.repository.saved_node import saved_node
from agent.formats.repository.unpacked import put_unpacked
from agent.formats.zip.reader import ArchiveReader
from agent.mqtt.envelope import Unreadable, parse
from agent.settings.load import SettingsError, load
from providers.address import parse_address, redirected
from tests.support.archives import Crafted, crafted, deflated
from tests.support.reference import REFERENCE
from tests.support.repositories import DirectoryObjects

_MOST_BYTES = 1 << 20
"""Of one content: what is longer costs time and finds nothing."""
_KEY = Encryption(passcode="fuzz", work_factor=1)
_KEYS = Keys.random()
_NODE = (
    b'{"name":"a","type":"file","mode":420,"mtime":"2026-01-01T00:00:00.1Z","uid":0,"gid":0,"size":1,"links":2,'
    b'"extended_attributes":[{"name":"user.x","value":"eA=="}],"content":["%b"]}' % (b"0" * 64)
)
_SNAPSHOT = (
    b'{"time":"2026-01-01T00:00:00.123456789Z","tree":"00","paths":["/data"],"hostname":"h","tags":%b,'
    b'"summary":{"total_files_processed":1}}'
)
_TAGS = b'["edge-backup-format=1","root={\\"path\\":\\"/data\\"}","exclude={\\"\\":[[\\"x\\"]]}"]'
_BLOB = b'{"id":"%b","type":"data","offset":0,"length":40,"uncompressed_length":9}' % (b"0" * 64)
_PACK_HEADER = header_entry(bytes(32), 40, 0, is_tree=False) + header_entry(bytes(32), 50, 9, is_tree=True)
_KEY_FILE = b'{"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"c2FsdA==","data":"%b"}' % (b"AAAA" * 16)
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


def read_tree(data: bytes) -> None:
    with suppress(JobError):
        for value in items_of((data,), "nodes"):
            saved_node(value)


def read_pack_header(data: bytes) -> None:
    with suppress(JobError):
        for _ in blobs_in(data):
            pass


def read_snapshot(data: bytes) -> None:
    with suppress(JobError):
        manifest_of(parsed("0" * 64, data))


def read_index(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as work, closing(BlobIndex(Path(work))) as index:
        objects, cryptor = DirectoryObjects(Path(work)), Cryptor(_KEYS)
        put_unpacked(objects, cryptor, Kind.INDEX, data)
        with suppress(JobError):
            index.load(objects, cryptor, lambda: None)


def read_key_file(data: bytes) -> None:
    with suppress(JobError):
        open_key_file(data, "fuzz")


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
    "tree": Target(read_tree, (b'{"nodes":[%b]}\n' % _NODE, b'{"a":[1],"nodes":[]}')),
    "pack": Target(read_pack_header, (_PACK_HEADER,)),
    "snapshot": Target(read_snapshot, (_SNAPSHOT % b"[]", _SNAPSHOT % _TAGS)),
    "index": Target(read_index, (b'{"packs":[{"id":"%b","blobs":[%b]}]}' % (b"0" * 64, _BLOB),)),
    "key": Target(read_key_file, (_KEY_FILE,)),
    "settings": Target(read_settings, (REFERENCE.read_bytes(), b'{"dir":"/data","mode":"scoped"}')),
    "texts": Target(read_texts, (b"1h2m3.5s", b"-300ms", b"https://user:pass@host.example:8443/a/b?c=d#e")),
}
