"""The nodes of trees: the JSON of restic's structure `Node`, and what tells that a file is unchanged.

Source: restic's `doc/design.rst`, "Trees and Data"; the order of the members and the rules for absent ones
are those of its `internal/restic/node.go`.
"""

import grp
import pwd
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from os import stat_result
from typing import NamedTuple

from agent.formats.entries import DIR, FILE, LINK, EntryKind, may_change_unseen
from agent.formats.repository.chunker import FileKind
from agent.formats.repository.golang import (
    bytes_json,
    file_mode,
    name_json,
    nanoseconds,
    text_json,
    time_ns_text,
)
from agent.formats.repository.packs import ID_BYTES, Ids

_NODE = b'{"name":%b,"type":"%b"%b,"mtime":"%b","atime":"%b","ctime":"%b","uid":%d,"gid":%d%b%b%b%b%b%b%b%b'
_SIGNATURE = struct.Struct(">QqqQIIIQ")
_PART_BYTES = ID_BYTES << 7
"""The ids in one part of a long node: a file of 16 GiB has 17 MiB of them in its JSON."""


class Node(NamedTuple):
    """An entry of a directory."""

    name: bytes
    kind: EntryKind
    stat: stat_result
    xattrs: Mapping[str, bytes]
    target: bytes
    content: Ids
    """The ids of its chunks, one after the other; for a directory, the id of its tree."""
    size_bytes: int
    """Bytes that were read."""


def signature(kind: EntryKind, status: stat_result) -> bytes:
    """Return what changes whenever anything of an entry changes but the names of its owners.

    A change of extended attributes changes the ctime. Has only facts that a tree holds, so that it can be
    made again from one.
    """
    return signature_of(
        inode=status.st_ino,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        size_bytes=status.st_size if kind is FILE else 0,
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        links=0 if kind is DIR else status.st_nlink,
    )


def signature_of(
    *, inode: int, mtime_ns: int, ctime_ns: int, size_bytes: int, mode: int, uid: int, gid: int, links: int
) -> bytes:
    times = nanoseconds(mtime_ns), nanoseconds(ctime_ns)
    return _SIGNATURE.pack(inode, *times, size_bytes, mode, uid, gid, links) + _owners(uid, gid)


def racy(status: stat_result, seen_ns: int) -> int:
    """Return `FileKind.RACY` for an entry whose signature may not show a change after `seen_ns`."""
    young = may_change_unseen(status.st_mtime_ns, status.st_ctime_ns, seen_ns)
    return FileKind.RACY if young else FileKind.NONE


def node_parts(node: Node) -> Iterable[bytes]:
    """Return the JSON of a node in parts; only the first one begins with `{`."""
    if len(node.content) <= _PART_BYTES:
        return (_json(node, _content(node)),)
    return _long_parts(node)


def _long_parts(node: Node) -> Iterator[bytes]:
    yield _json(node, b',"content":[')
    for begin in range(0, len(node.content), _PART_BYTES):
        yield (b"," if begin else b"") + _ids(node.content[begin : begin + _PART_BYTES])
    yield b"]}"


def _json(node: Node, content: bytes) -> bytes:
    status, kind = node.stat, node.kind
    mtime = ctime = time_ns_text(status.st_mtime_ns).encode()
    if status.st_ctime_ns != status.st_mtime_ns:
        ctime = time_ns_text(status.st_ctime_ns).encode()
    mode = file_mode(status.st_mode)
    links = 0 if kind is DIR else status.st_nlink
    return _NODE % (
        name_json(node.name),
        b"file" if kind is FILE else b"dir" if kind is DIR else b"symlink",
        b',"mode":%d' % mode if mode else b"",
        mtime,
        mtime,  # the time of access would make every file new; readers take the two for one
        ctime,
        status.st_uid,
        status.st_gid,
        _owners(status.st_uid, status.st_gid),
        b',"inode":%d' % status.st_ino if status.st_ino else b"",
        b',"device_id":%d' % status.st_dev if links > 1 else b"",
        b',"size":%d' % node.size_bytes if node.size_bytes else b"",
        b',"links":%d' % links if links else b"",
        _target(node.target) if kind is LINK else b"",
        _attributes(node.xattrs) if node.xattrs else b"",
        content,
    )


def _content(node: Node) -> bytes:
    if node.kind is FILE:
        return b',"content":[%b]}' % _ids(node.content)
    if node.kind is DIR:
        return b',"content":null,"subtree":"%b"}' % node.content.hex().encode()
    return b',"content":null}'


def _ids(content: Ids) -> bytes:
    if len(content) == ID_BYTES:
        return b'"%b"' % content.hex().encode()
    return b'"%b"' % content.hex('"', -ID_BYTES).replace('"', '","').encode() if content else b""


@lru_cache(maxsize=256)
def _owners(uid: int, gid: int) -> bytes:
    """Return the members with the owners' names; those that the device does not know are absent."""
    user = group = b""
    with suppress(KeyError, OverflowError):
        user = b',"user":' + text_json(pwd.getpwuid(uid).pw_name)
    with suppress(KeyError, OverflowError):
        group = b',"group":' + text_json(grp.getgrgid(gid).gr_name)
    return user + group


def forget_owners() -> None:
    """Ask for the names of owners anew: a snapshot has those of its time."""
    _owners.cache_clear()


def _target(target: bytes) -> bytes:
    text = target.decode("utf-8", "surrogateescape")
    member = b',"linktarget":' + text_json(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return member + b',"linktarget_raw":' + bytes_json(target)
    return member


def _attributes(xattrs: Mapping[str, bytes]) -> bytes:
    each = (
        b'{"name":%b,"value":%b}' % (text_json(name), bytes_json(value)) for name, value in xattrs.items()
    )
    return b',"extended_attributes":[%b]' % b",".join(each)
