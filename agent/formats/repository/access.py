"""Opens a repository, or makes one."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from agent.base.errors import RepositoryBroken, WrongKey
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.keys import MOST_BYTES, Config, new_key_file, open_key_file
from agent.formats.repository.objects import Kind, Objects, listed
from providers.errors import AccessDenied, AlreadyThere

_MOST_KEYS = 20
"""As restic tries: the password is tried with each, and one may take seconds."""


@dataclass(frozen=True, slots=True)
class Opened:
    keys: Keys
    config: Config
    key_file: bytes
    stored_config: bytes

    @property
    def seed(self) -> int:
        """Return the seed of the chunker: a secret, so that the sizes of chunks tell nothing."""
        return self.config.polynomial


def open_repository(objects: Objects, password: str) -> Opened:
    """Open the repository. Raises `WrongKey`, `RepositoryBroken` and StorageError."""
    stored = objects.get(Kind.CONFIG, "", MOST_BYTES)
    return _opened(_key_files(objects), stored, password)


def reopened(key_file: bytes, stored_config: bytes, password: str) -> Opened:
    """Open a repository by the copies that the device has kept. Raises `WrongKey` and `RepositoryBroken`."""
    return _opened(iter([key_file]), stored_config, password)


def _opened(key_files: Iterator[bytes], stored_config: bytes, password: str) -> Opened:
    failure: Exception = WrongKey("the repository has no key")
    for content in key_files:
        try:
            keys = open_key_file(content, password)
            return Opened(keys, Config.decoded(stored_config, Cryptor(keys)), content, stored_config)
        except (WrongKey, RepositoryBroken) as error:
            failure = error
    raise failure


def _key_files(objects: Objects) -> Iterator[bytes]:
    """Yield the key files whose name is the hash of their content."""
    for name, _ in listed(objects, Kind.KEY, _MOST_KEYS, "remove keys that nobody needs"):
        content = objects.get(Kind.KEY, name, MOST_BYTES)
        if hashlib.sha256(content).hexdigest() == name:
            yield content


def prepared(password: str, host: str, created: datetime) -> Opened:
    """Return a repository that is not made yet."""
    keys, config = Keys.random(), Config.random()
    _, key_file = new_key_file(keys, password, created, host)
    return Opened(keys, config, key_file, config.encoded(Cryptor(keys)))


def make_repository(objects: Objects, opened: Opened) -> None:
    """Store config and key. Raises `AlreadyThere` when there is a repository with another config.

    The config comes first: it can be made once, and a key beside the config of somebody else would open and
    not fit, so that no reader could open the repository any more.
    """
    try:
        objects.put(Kind.CONFIG, "", opened.stored_config)
    except AlreadyThere:
        if not _is_stored(objects, opened.stored_config):
            raise
    with suppress(AlreadyThere):
        objects.put(Kind.KEY, hashlib.sha256(opened.key_file).hexdigest(), opened.key_file)


def _is_stored(objects: Objects, stored_config: bytes) -> bool:
    try:
        return objects.get(Kind.CONFIG, "", MOST_BYTES) == stored_config
    except AccessDenied:
        return False
