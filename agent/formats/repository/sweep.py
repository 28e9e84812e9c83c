"""Removes packs that nobody needs, and moves what is needed out of those that are mostly unused.

The order is new packs, new indexes, old indexes, old packs: whatever cuts it off, every blob that a snapshot
needs is in a pack that an index names. It works in rounds, because a full store has room for a small one.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import itemgetter

from agent.formats.base import Freed
from agent.formats.repository.blob_index import MOST_BYTES, packs_in
from agent.formats.repository.blobs import PACK_BYTES
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import ID_BYTES, Blob, Pack, encoded_indexes
from agent.formats.repository.pending import PendingPacks
from agent.formats.repository.reader import Reader
from agent.formats.repository.unpacked import put_unpacked, unpacked_pieces
from agent.formats.repository.usage import Plan, Usage
from providers.errors import NoSpace as StoreFull

_ROUND_BYTES = 16 << 20


@dataclass(slots=True)
class Sweep:
    """One sweep, under the exclusive lock. Its methods raise as `Reader.chunks` and `go_on`."""

    objects: Objects
    cryptor: Cryptor
    usage: Usage
    reader: Reader
    pending: PendingPacks
    """New packs are noted there until an index names them."""
    go_on: Callable[[], None]
    """Called before each step: a cancel point, which keeps the lock fresh or raises."""
    _packs: dict[bool, Pack] = field(
        default_factory=lambda: {trees: Pack(trees=trees) for trees in (False, True)}
    )

    def run(self, plan: Plan) -> Freed:
        """Carry out the plan as far as the store has room for it; return what that frees."""
        try:
            for name in self.usage.unnamed():
                self._delete(Kind.PACK, name)
            self._replace(plan.unused)
            self._rewrite(plan.rewritten)
        except StoreFull as error:
            self._take_back()
            return Freed(plan.unused_bytes, f"no room to move what is needed out of packs: {error}")
        return Freed(plan.unused_bytes + plan.gained_bytes)

    def _rewrite(self, packs: "array[int]") -> None:
        """Move what is needed out of packs in rounds; where there is no room for that, one by one."""
        self.usage.begin_moving(packs)
        round_bytes = _ROUND_BYTES
        while packs:
            try:
                packs = self._round(packs, round_bytes)
            except StoreFull:
                if not round_bytes:
                    raise
                self._take_back()
                round_bytes = 0

    def _round(self, packs: "array[int]", most_bytes: int) -> "array[int]":
        """Move what is needed out of the first packs, and remove these; return the others."""
        moved_bytes, count = 0, 0
        while count < len(packs) and (not count or moved_bytes < most_bytes):
            for key in self.usage.moving(packs[count]):
                self.reader.note(key)
            for key in self.usage.moving(packs[count]):
                moved_bytes += self._move(key)
            count += 1
        for pack in self._packs.values():
            if pack.blobs:
                self._store(pack)
        self._replace(packs[:count])
        return packs[count:]

    def _take_back(self) -> None:
        """Remove the new packs that no index names."""
        for pack in self._packs.values():
            pack.clear()
        for name, _ in [*self.pending.not_indexed()]:
            self._delete(Kind.PACK, name)
        self.pending.clear()

    def _move(self, key: bytes) -> int:
        """Copy a blob into a new pack; return its size."""
        self.go_on()
        place, encrypted = self.reader.checked(key)
        pack = self._packs[len(key) > ID_BYTES]
        pack.add(key[-ID_BYTES:], encrypted, place.plain_bytes)
        if len(pack.content) >= PACK_BYTES or pack.is_full:
            self._store(pack)
        return place.length

    def _store(self, pack: Pack) -> None:
        self.go_on()
        name = pack.finish(self.cryptor)
        self.objects.put(Kind.PACK, name, pack.content)
        self.pending.add(name, pack.header)
        pack.clear()

    def _replace(self, packs: Iterable[int]) -> None:
        """Store indexes that do not name these packs in place of those that do; then remove the packs."""
        old = self.usage.begin_going(packs)
        for names, json in encoded_indexes(self._named(old)):
            self.go_on()
            file, _ = put_unpacked(self.objects, self.cryptor, Kind.INDEX, *json)
            self.pending.indexed(names)
            for name in names:
                self.usage.add_pack(file, name)
        self.pending.clear()
        for file in old:
            self._delete(Kind.INDEX, file)
            self.usage.forget_index(file)
        for pack in packs:
            self._delete(Kind.PACK, self.usage.name_of(pack))

    def _named(self, old: Iterable[str]) -> Iterator[tuple[str, Iterable[Blob]]]:
        """Yield the new packs, and those in old indexes that stay, once."""
        yield from self.pending.not_indexed()
        seen: set[bytes] = set()
        for file in old:
            self.go_on()
            index = unpacked_pieces(self.objects, self.cryptor, Kind.INDEX, file, MOST_BYTES)
            for name, parts in groupby(packs_in(index), itemgetter(0)):
                pack_id = bytes.fromhex(name)
                if pack_id not in seen and self.usage.stays(name):
                    seen.add(pack_id)
                    yield name, chain.from_iterable(blobs for _, blobs in parts)

    def _delete(self, kind: Kind, name: str) -> None:
        self.go_on()
        self.objects.delete(kind, name)
