"""Extended attributes of what goes into an archive."""

import os
from collections.abc import Mapping
from types import MappingProxyType

from agent.formats.base import MAX_ATTRIBUTES_BYTES

_NONE: Mapping[str, bytes] = MappingProxyType({})


def extended_attributes(fd: int, *names_of_entry: str | None) -> Mapping[str, bytes] | None:
    """Those of an open file or directory; None when a record has no room for them beside the entry's names.

    Left out in silence is what the file system has none of, and what is not for this user to see.
    """
    try:
        names = os.listxattr(fd)
    except OSError:
        return _NONE  # ENOTSUP: the file system has none
    if not names:
        return _NONE
    found, size_bytes = {}, sum(len(os.fsencode(name)) for name in names_of_entry if name)
    for name in names:
        try:
            found[name] = os.getxattr(fd, name)
        except OSError:
            continue  # removed meanwhile, or (trusted.*) not for us to see
        size_bytes += len(os.fsencode(name)) + len(found[name]) + 4
    return found if size_bytes <= MAX_ATTRIBUTES_BYTES else None
