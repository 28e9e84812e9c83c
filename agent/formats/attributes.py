"""The limit of extended attributes in an archive, for the backup and for the reader of archives.

A record of 65,535 bytes has room for ten thousand attributes, which cost a hundred times as much to read as
the same bytes of anything else.
"""

from collections.abc import Mapping
from os import fsencode

_LEAST_COST = 64
"""An attribute costs at least as much as one of this many bytes."""
_HEADER_BYTES = 4
_MOST_OF_ENTRY = 1 << 16
"""At most 1,024 attributes."""
_FREE_FOR_ENTRY = 1 << 10
"""Labels, access control lists and capabilities together: the number of such entries is not bounded here."""
_MOST_BEYOND = 64 << 20


def attribute_cost(name_bytes: int, value_bytes: int) -> int:
    return max(_LEAST_COST, name_bytes + value_bytes + _HEADER_BYTES)


def cost_of(attributes: Mapping[str, bytes]) -> int:
    return sum(attribute_cost(len(fsencode(name)), len(value)) for name, value in attributes.items())


class AttributeBudget:
    """The bound for one archive, entry by entry."""

    def __init__(self) -> None:
        self._left = _MOST_BEYOND

    def take(self, cost: int) -> bool:
        """Return True when the archive may have an entry with attributes of this cost, too."""
        beyond = max(0, cost - _FREE_FOR_ENTRY)
        if cost > _MOST_OF_ENTRY or beyond > self._left:
            return False
        self._left -= beyond
        return True
