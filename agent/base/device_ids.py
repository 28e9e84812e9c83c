"""The ids of a device, by which its archives are told from those of others."""

import re
from collections.abc import Callable
from dataclasses import dataclass

UNNAMED = "unnamed:"
"""The namespace of ids that devices make for themselves while nobody says who they are."""


@dataclass(frozen=True, slots=True)
class DeviceIds:
    current: str
    former: tuple[str, ...] = ()

    def include(self, device_id: str) -> bool:
        """Return True for an id of this device, and between unnamed devices for any.

        An unnamed device whose storage is lost makes another id: it must get its archives back.
        """
        unnamed = self.current.startswith(UNNAMED) and device_id.startswith(UNNAMED)
        return unnamed or device_id in (self.current, *self.former)


_PLACEHOLDER = re.compile(r"\{(device|namespace|name)\}")
"""Stands for the id, for what is before its first colon, or for what is behind that."""


def _in_a_name(text: str) -> str:
    """Return a text as a part of a name: with a slash in it, it would be a directory, or lead out of one."""
    return re.sub(r"[/\\]|^\.\.?$", "_", text)


def fill_in(text: str, device_id: str, quoted: Callable[[str], str] = str) -> str:
    """Return the text with the parts of the id in place of the placeholders.

    Raises ValueError when one of them is empty: two devices would share what each is to have alone.
    """
    namespace, _, name = device_id.partition(":")
    parts = {"device": device_id, "namespace": namespace, "name": name}

    def part(found: re.Match[str]) -> str:
        if not (value := parts[found[1]]):
            raise ValueError(f"has {found[0]}, and the device's id '{device_id}' has no such part")
        return quoted(_in_a_name(value))

    return _PLACEHOLDER.sub(part, text)
