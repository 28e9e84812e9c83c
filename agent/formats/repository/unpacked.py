"""Indexes, snapshots and locks: JSON, compressed and encrypted, named by the SHA-256 of the stored bytes."""

import hashlib
from collections.abc import Iterator

from agent.base.errors import RepositoryBroken
from agent.formats.repository.compression import json_pieces, unpacked_form
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.objects import Kind, Objects


def encoded(cryptor: Cryptor, *json: bytes) -> tuple[str, bytearray]:
    """Return the name of a file and the bytes to store; `json` comes in any number of pieces."""
    stored = bytearray()
    cryptor.encrypt_to(stored, unpacked_form(json))
    return hashlib.sha256(stored).hexdigest(), stored


def put_unpacked(objects: Objects, cryptor: Cryptor, kind: Kind, *json: bytes) -> tuple[str, int]:
    """Store a file, as `encoded`; return its name and its size."""
    name, stored = encoded(cryptor, *json)
    objects.put(kind, name, stored)
    return name, len(stored)


def get_unpacked(objects: Objects, cryptor: Cryptor, kind: Kind, name: str, most_bytes: int) -> bytes:
    """Return the JSON of a file, checked. Raises `RepositoryBroken` and StorageError."""
    return b"".join(unpacked_pieces(objects, cryptor, kind, name, most_bytes))


def unpacked_pieces(
    objects: Objects, cryptor: Cryptor, kind: Kind, name: str, most_bytes: int
) -> Iterator[bytes]:
    """Return the JSON of a file in pieces, its stored form checked.

    Raises as `get_unpacked`; so do the pieces, for more than `most_bytes`.
    """
    stored = objects.get(kind, name, most_bytes)
    if hashlib.sha256(stored).hexdigest() != name:
        raise RepositoryBroken(f"the file {kind}/{name[:8]} of the repository is damaged")
    try:
        plain = cryptor.decrypt(stored)
    except RepositoryBroken as error:
        raise RepositoryBroken(
            f"the file {kind}/{name[:8]} is encrypted with another key, so it is of another repository"
        ) from error
    return json_pieces(plain, most_bytes)
