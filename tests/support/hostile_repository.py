"""A small repository in memory, which somebody hostile changes who has the password."""

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.formats.repository.compression import zstd
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.objects import Kind
from agent.formats.repository.unpacked import encoded
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Capability, Piece, Stored
from providers.errors import NotFound
from tests.support.crafted import TIME, CraftedRepository, node
from tests.support.fakes import MemoryStorage
from tests.support.repositories import HOST, PASSWORD, DirectoryObjects

NOWHERE = "0" * 64
Json = dict[str, Any]
_NAMED: Sequence[tuple[str, Any]] = (("content", ()), ("subtree", "empty"), ("over", {}))
"""Members of a node that name chunks, a tree or its nodes, and what is put over the members at last."""


class RepositoryInMemory(MemoryStorage):
    """Objects that are read by ranges; the listing of a directory comes as often as `repeated` says."""

    capabilities = frozenset({Capability.LIST, Capability.READ_RANGE})

    def __init__(self, objects: Mapping[str, bytes], **repeated: int) -> None:
        super().__init__(objects)
        self._repeated = repeated

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        if name not in self.objects:
            raise NotFound(f"there is no '{name}'")
        content = self.objects[name]
        return Piece(content[offset : offset + size_bytes], len(content))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        for _ in range(self._repeated.get(prefix.strip("/"), 1)):
            yield from super().list(prefix)


@dataclass
class _Packs(DirectoryObjects):
    """Takes packs into memory."""

    stored: dict[str, bytes] = field(default_factory=dict)

    def put(self, _kind: Kind, name: str, content: bytes | bytearray, /) -> None:
        self.stored[f"data/{name[:2]}/{name}"] = bytes(content)


class Ground(CraftedRepository):
    """The beginning of every hostile repository: keys, honest chunks and trees, and traps."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.objects = self._packs = _Packs(self.path)
        zeros, bomb = bytes(9000), bytes(32 << 20)
        self.chunks = {
            "honest": self.add(b"content"),
            "empty": self.add(b""),
            "compressed": self.compressed(zeros),
            "bomb": self.add(bomb, stored=zstd().compress(bomb), uncompressed_length=100),
            "another content": self.add(b"wanted", stored=b"WANTED"),
            "not compressed": self.add(b"plain!", uncompressed_length=6),
            "nowhere": NOWHERE,
        }
        honest = node("f", content=[self.chunks["honest"]], size=7)
        deep, wide = self.tree(honest), self.tree(honest)
        for _ in range(15):
            deep = self.tree(node("n" * 2000, "dir", subtree=deep))
        for _ in range(12):
            wide = self.tree(node("a", "dir", subtree=wide), node("b", "dir", subtree=wide))
        itself = hashlib.sha256(b"a tree that holds itself").hexdigest()
        again = json.dumps({"nodes": [node("again", "dir", subtree=itself)]}).encode()
        self.trees = {
            "empty": self.tree(),
            "honest": self.tree(honest),
            "deep": deep,
            "wide": wide,
            "cycle": self.add(again, "tree", id=itself),
            "chunk": self.chunks["honest"],
            "nowhere": NOWHERE,
            "no list": self.add(b'{"nodes":{}}', "tree"),
            "no members": self.add(b'{"nodes":[{}]}', "tree"),
        }

    def built(self, attack: "Attack") -> dict[str, bytes]:
        """All objects of the repository as the attacker leaves it."""
        before, packs = dict(self._packs.stored), self.packs
        self.packs = [{**pack, "blobs": [{**blob} for blob in pack["blobs"]]} for pack in packs]
        try:
            tree = self.tree(*self._nodes(attack.nodes, attack.in_order))
            snapshot = self._snapshot(self.tree(node("data", "dir", subtree=tree)))
            entries = [(pack, pack["blobs"][0]) for pack in self.packs]
            for number, changes in attack.index:
                pack, blob = entries[-1 - number % len(entries)]
                (pack if "blobs" in changes else blob).update(changes)
            documents = {
                "snapshots": json.dumps(snapshot | attack.snapshot).encode(),
                "index": json.dumps({"packs": self.packs}).encode(),
                "keys": self._key_file(attack.key),
                "config": self._config(attack.config),
            }
            return self._stored(documents, attack.altered)
        finally:
            self._packs.stored, self.packs = before, packs

    def _nodes(self, nodes: Sequence[Json], in_order: bool) -> list[Json]:
        found = [self._node(each, in_order) for each in nodes]
        return list({_raw(each): each for each in sorted(found, key=_raw)}.values()) if in_order else found

    def _node(self, value: Json, in_order: bool) -> Json:
        value = dict(value)
        content, tree, over = (value.pop(key, usual) for key, usual in _NAMED)
        inner = self.trees[tree] if isinstance(tree, str) else self.tree(*self._nodes(tree, in_order))
        return {**node(**value, content=[self.chunks[each] for each in content], subtree=inner), **over}

    def _snapshot(self, tree: str) -> Json:
        return {"time": TIME, "tree": tree, "paths": ["/data"], "hostname": HOST}

    def _key_file(self, members: Json) -> bytes:
        """A key file that opens with the password at no cost."""
        salt = os.urandom(8)
        derived = Keys.of(hashlib.scrypt(PASSWORD.encode(), salt=salt, dklen=64, n=2, r=1, p=1))
        secret = {
            "mac": {"k": _base64(self.keys.mac_k), "r": _base64(self.keys.mac_r)},
            "encrypt": _base64(self.keys.encrypt),
        }
        data = _base64(Cryptor(derived).encrypt(json.dumps(secret).encode()))
        value = {"kdf": "scrypt", "N": 2, "r": 1, "p": 1, "salt": _base64(salt), "data": data}
        return json.dumps(value | members).encode()

    def _config(self, members: Json) -> bytes:
        value = {"version": 2, "id": NOWHERE, "chunker_polynomial": "3da3358b4dc173"}
        return json.dumps(value | members).encode()

    def _stored(
        self, documents: dict[str, bytes], altered: Mapping[str, tuple[int, bytes]]
    ) -> dict[str, bytes]:
        for kind, (place, new) in altered.items():
            if kind in documents:
                at = place % len(documents[kind])
                documents[kind] = documents[kind][:at] + new + documents[kind][at + len(new) :]
        cryptor, key = Cryptor(self.keys), documents["keys"]
        objects = {
            f"keys/{hashlib.sha256(key).hexdigest()}": key,
            "config": cryptor.encrypt(documents["config"]),
        }
        for kind in ("snapshots", "index"):
            name, encrypted = encoded(cryptor, documents[kind])
            objects[f"{kind}/{name}"] = bytes(encrypted)
        return self._packs.stored | objects


def destination_of(storage: RepositoryInMemory, token: CancelToken) -> Destination:
    return Destination(GuardedStorage(storage, RetryLimits(attempts=1), token), needs_size=False, name=None)


@dataclass(frozen=True)
class Attack:
    """The nodes of the saved directory, which name chunks and trees of `Ground`, and what else is changed."""

    nodes: Sequence[Json]
    in_order: bool
    """Sorted by name, each name once."""
    snapshot: Json = field(default_factory=dict)
    index: Sequence[tuple[int, Json]] = ()
    """Members of entries, counted from the last one."""
    key: Json = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    altered: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
    """Bytes at a place of a document, before it is encrypted, by the kind of the document."""


def _raw(value: Json) -> bytes:
    return str(value.get("name")).encode("utf-8", "surrogatepass")


def _base64(value: bytes) -> str:
    return b64encode(value).decode()
