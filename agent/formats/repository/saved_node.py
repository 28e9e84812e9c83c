"""Reads nodes of trees, and checks what they say: anybody who has the password may have written them."""

from base64 import b64decode
from collections.abc import Mapping
from os import fsdecode
from typing import Any, NamedTuple

from agent.base.errors import RepositoryBroken
from agent.formats.entries import DIR, FILE, LINK, EntryKind
from agent.formats.repository.golang import nanoseconds, time_ns, unix_mode, unquoted
from agent.formats.repository.node import signature_of
from agent.formats.repository.packs import id_in

_KINDS: Mapping[str, EntryKind] = {"file": FILE, "dir": DIR, "symlink": LINK}
NO_ID = 0xFFFF_FFFF
"""The id that is none: chown(2) takes it for no change."""
_NUMBERS, _IDS = range(1 << 64), range(1 << 32)


class SavedNode(NamedTuple):
    name: bytes
    """Neither empty nor `.` or `..`, without a slash."""
    kind: EntryKind | None
    """None for devices, FIFOs and sockets, which the agent neither saves nor restores."""
    mode: int
    """`st_mode`, with the kind in it."""
    mtime_ns: int
    ctime_ns: int
    uid: int
    gid: int
    inode: int
    device: int
    """The file system of a file with several names; 0 for any other."""
    size_bytes: int
    links: int
    target: bytes
    xattrs: Mapping[str, bytes]
    content: bytes
    """The ids of its chunks, one after the other; for a directory, the id of its tree."""

    @property
    def signature(self) -> bytes:
        """Return what `node.signature` returns for this entry on the device."""
        return signature_of(
            inode=self.inode,
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
            size_bytes=self.size_bytes,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            links=self.links,
        )


def saved_node(value: Mapping[str, Any]) -> SavedNode:
    """Return the node in a JSON object. Raises `RepositoryBroken`."""
    try:
        return _node(value)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise RepositoryBroken("a tree of the repository has a damaged entry") from error


def _node(value: Mapping[str, Any]) -> SavedNode:
    name, kind = unquoted(value["name"]), _KINDS.get(value["type"])
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(name)
    mtime = nanoseconds(time_ns(value["mtime"]))
    return SavedNode(
        name,
        kind,
        unix_mode(_number(value, "mode", _IDS)),
        mtime,
        nanoseconds(time_ns(value["ctime"])) if "ctime" in value else mtime,
        _number(value, "uid", _IDS),
        _number(value, "gid", _IDS),
        _number(value, "inode"),
        _number(value, "device_id"),
        _number(value, "size"),
        0 if kind is DIR else _number(value, "links"),
        _target(value),
        {
            _name(each["name"]): b64decode(each["value"] or "")
            for each in value.get("extended_attributes") or ()
        },
        _content(value, kind),
    )


def _number(value: Mapping[str, Any], name: str, allowed: range = _NUMBERS) -> int:
    number = value.get(name, 0)
    if not isinstance(number, int) or number not in allowed:
        raise ValueError(name)
    return number


def _name(name: str) -> str:
    return fsdecode(name.encode())


def _target(value: Mapping[str, Any]) -> bytes:
    raw = value.get("linktarget_raw")
    return b64decode(raw) if raw is not None else str(value.get("linktarget", "")).encode()


def _content(value: Mapping[str, Any], kind: EntryKind | None) -> bytes:
    if kind is DIR:
        return id_in(value["subtree"])
    return b"".join(map(id_in, value.get("content") or ())) if kind is FILE else b""
