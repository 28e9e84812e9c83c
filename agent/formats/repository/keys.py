"""The key file and the config of a repository: they open it, and make one.

Source: restic's `doc/design.rst`, "Keys, Encryption and MAC" and "Repository Format". A key file holds the
master keys, encrypted with keys that scrypt derives from the password.
"""

import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.base.errors import RepositoryBroken, WrongKey
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.golang import time_text
from agent.formats.repository.objects import Kind, Objects, listed
from agent.formats.repository.packs import id_in
from agent.formats.repository.polynomial import DEGREE, is_irreducible, random_irreducible
from providers.errors import AccessDenied, AlreadyThere

USERNAME = "edge-backup"
"""The user in key files of this agent."""
N, R, P = 16384, 8, 1
"""The cost of our own key files: scrypt takes 16 MiB for them."""
_SALT_BYTES = 64
_MOST_SCRYPT_BYTES = 64 << 20
"""The most memory that opening a key file may take; restic's own take 32 MiB."""
_MOST_SCRYPT_WORK_BYTES = 1 << 30
"""The most memory that it may fill in turn: that takes some seconds, which no cancel ends."""
_MORE_BLOCKS = 2
"""Blocks that scrypt works with, beside its N and its p (RFC 7914, 5 and 6)."""
_VERSIONS = range(1, 100)
"""Versions that are named in a message."""
MOST_BYTES = 1 << 16
"""The longest key file or config that is read."""
_MOST_KEYS = 20
"""As restic tries: the password is tried with each, and one may take seconds."""


@dataclass(frozen=True, slots=True)
class Config:
    id: str
    polynomial: int

    @classmethod
    def random(cls) -> "Config":
        return cls(os.urandom(32).hex(), random_irreducible())

    def encoded(self, cryptor: Cryptor) -> bytes:
        value = {"version": 2, "id": self.id, "chunker_polynomial": f"{self.polynomial:x}"}
        return cryptor.encrypt(_json(value))

    @classmethod
    def decoded(cls, stored: bytes, cryptor: Cryptor) -> "Config":
        """Raises `RepositoryBroken`, also for a version that this agent does not write."""
        try:
            value = cryptor.decrypt(stored)
        except RepositoryBroken as error:
            raise RepositoryBroken(
                "the config of the repository is damaged, or its key belongs to another config"
            ) from error
        try:
            fields = json.loads(value)
            version, polynomial = fields["version"], int(fields["chunker_polynomial"], 16)
            config = cls(id_in(fields["id"]).hex(), polynomial)
            if version not in _VERSIONS:
                raise ValueError("version")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise RepositoryBroken("the config of the repository is damaged") from error
        if version != 2:
            raise RepositoryBroken(
                f"the repository has version {version}, this agent knows 2: `restic migrate upgrade_repo_v2`"
            )
        if polynomial >> (DEGREE + 1) or not is_irreducible(polynomial):
            raise RepositoryBroken("the config of the repository is damaged")
        return config


def new_key_file(master: Keys, password: str, created: datetime, host: str) -> tuple[str, bytes]:
    """Return the name and the content of a key file that opens with the password."""
    salt = os.urandom(_SALT_BYTES)
    secret = {
        "mac": {"k": _base64(master.mac_k), "r": _base64(master.mac_r)},
        "encrypt": _base64(master.encrypt),
    }
    content = _json(
        {
            "created": time_text(created),
            "username": USERNAME,
            "hostname": host,
            "kdf": "scrypt",
            "N": N,
            "r": R,
            "p": P,
            "salt": _base64(salt),
            "data": _base64(Cryptor(_derived(password, salt, N, R, P)).encrypt(_json(secret))),
        }
    )
    return hashlib.sha256(content).hexdigest(), content


def open_key_file(content: bytes, password: str) -> Keys:
    """Return the master keys in a key file. Raises `WrongKey` and `RepositoryBroken`."""
    try:
        fields = json.loads(content)
        kdf, cost = fields["kdf"], (fields["N"], fields["r"], fields["p"])
        salt, data = b64decode(fields["salt"]), b64decode(fields["data"])
        _check_cost(kdf, *cost)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RepositoryBroken("a key file of the repository is damaged") from error
    cryptor = Cryptor(_derived(password, salt, *cost))
    try:
        plain = cryptor.decrypt(data)
    except RepositoryBroken as error:
        raise WrongKey("the password does not open the repository") from error
    return _master(plain)


def _master(plain: bytes) -> Keys:
    try:
        secret = json.loads(plain)
        keys = Keys(
            *(b64decode(part) for part in (secret["encrypt"], secret["mac"]["k"], secret["mac"]["r"]))
        )
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RepositoryBroken("a key file of the repository is damaged") from error
    if tuple(map(len, (keys.encrypt, keys.mac_k, keys.mac_r))) != (32, 16, 16):
        raise RepositoryBroken("a key file of the repository is damaged")
    return keys


def _check_cost(kdf: str, n: int, r: int, p: int) -> None:
    """Raise ValueError for what is no cost of scrypt, and `RepositoryBroken` for one that is too high."""
    is_power = n > 1 and n & (n - 1) == 0
    if kdf != "scrypt" or not is_power or r < 1 or p < 1 or max(n, r, p) >> 32:
        raise ValueError(kdf)
    memory_bytes = 128 * r * max(n, p + _MORE_BLOCKS)
    if memory_bytes > _MOST_SCRYPT_BYTES or memory_bytes * p > _MOST_SCRYPT_WORK_BYTES:
        raise RepositoryBroken(
            f"opening the repository would fill {memory_bytes >> 20} MiB for its password {p} times, and at"
            f" most {_MOST_SCRYPT_BYTES >> 20} are allowed, {_MOST_SCRYPT_WORK_BYTES >> 20} together: add a"
            " key that costs less"
        )


def _derived(password: str, salt: bytes, n: int, r: int, p: int) -> Keys:
    room = 128 * r * (n + p + _MORE_BLOCKS) + (1 << 20)
    try:
        secret = password.encode("utf-8", "surrogatepass")
        return Keys.of(hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=room, dklen=64))
    except (ValueError, TypeError, OverflowError) as error:  # as N beyond what a small r allows
        raise RepositoryBroken("a key file of the repository is damaged") from error


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


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
    """Return a repository that is not made yet.

    Raises `WrongKey` for a password that restic could not be given: its file loses white space at the ends.
    """
    if not password.isprintable() or password != password.strip():
        raise WrongKey(
            "no repository is made with this password, as restic could not open it: it has white space at an"
            " end, or a line break or another invisible character in it"
        )
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
