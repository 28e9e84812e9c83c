"""Repositories that somebody hostile makes, who has the password: any tree, any index, any blob."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.compression import zstd
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.document import parsed
from agent.formats.repository.objects import Kind
from agent.formats.repository.reader import Reader
from agent.formats.repository.saved_tree import SnapshotTree
from agent.formats.repository.unpacked import put_unpacked
from tests.support.repositories import HOST, DirectoryObjects

TIME = "2026-01-01T00:00:00Z"


def node(name: str, kind: str = "file", **members: Any) -> dict[str, Any]:
    """A node as restic writes it; a member that is None is missing."""
    usual = {"name": name, "type": kind, "mode": 0o644, "mtime": TIME, "uid": 0, "gid": 0}
    return {key: value for key, value in {**usual, **members}.items() if value is not None}


@dataclass
class CraftedRepository:
    """Packs with one blob each, and one index of all of them."""

    path: Path
    keys: Keys = field(default_factory=Keys.random)
    packs: list[dict[str, Any]] = field(default_factory=list)
    """Fields of the index, to be changed."""

    @cached_property
    def objects(self) -> DirectoryObjects:
        return DirectoryObjects(self.path)

    def add(self, content: bytes, kind: str = "data", stored: bytes | None = None, **index: Any) -> str:
        """Store a blob, and note it in the index; `stored` is put in its place, `index` replaces members."""
        encrypted = Cryptor(self.keys).encrypt(content if stored is None else stored)
        pack = hashlib.sha256(encrypted).hexdigest()
        self.objects.put(Kind.PACK, pack, encrypted)
        blob = {
            "id": hashlib.sha256(content).hexdigest(),
            "type": kind,
            "offset": 0,
            "length": len(encrypted),
        }
        self.packs.append({"id": pack, "blobs": [{**blob, **index}]})
        return str(blob["id"])

    def compressed(self, content: bytes, **index: Any) -> str:
        return self.add(
            content, stored=zstd().compress(content), **{"uncompressed_length": len(content), **index}
        )

    def tree(self, *nodes: Mapping[str, Any]) -> str:
        return self.add(json.dumps({"nodes": nodes}).encode() + b"\n", "tree")

    def file(self, name: str, content: bytes = b"content", **members: Any) -> dict[str, Any]:
        return node(name, content=[self.add(content)], size=len(content), **members)

    def snapshot(self, *nodes: Mapping[str, Any], most_entries: int = 10_000) -> SnapshotTree:
        """The content of a snapshot of `/data`, which has these nodes."""
        return self.of_tree(self.tree(*nodes), most_entries=most_entries)

    def of_tree(self, tree: str, /, *, most_entries: int = 10_000, **members: Any) -> SnapshotTree:
        top = self.tree(node("data", "dir", subtree=tree))
        value = {"time": TIME, "tree": top, "paths": ["/data"], "hostname": HOST, **members}
        return self.opened(
            json.dumps(value).encode(), json.dumps({"packs": self.packs}).encode(), most_entries
        )

    def opened(self, snapshot: bytes, index: bytes, most_entries: int = 10_000) -> SnapshotTree:
        cryptor = Cryptor(self.keys)
        put_unpacked(self.objects, cryptor, Kind.INDEX, index)
        blobs = BlobIndex(self.path)
        blobs.load(self.objects, cryptor, lambda: None)
        fetch = partial(self.objects.get_range, Kind.PACK)
        reader = Reader(fetch, self.keys, blobs, self.path, 0)
        document = parsed("0" * 64, snapshot)
        return SnapshotTree(document, reader, self.path, lambda: None, most_entries=most_entries)
