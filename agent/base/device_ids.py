"""The ids of a device, by which its archives are told from those of others."""

from dataclasses import dataclass

UNNAMED = "unnamed:"
"""The namespace of ids that devices make for themselves while nobody says who they are."""


@dataclass(frozen=True, slots=True)
class DeviceIds:
    """The ids of this device."""

    current: str
    former: tuple[str, ...] = ()

    def include(self, device_id: str) -> bool:
        """Return True for an id of this device, and between unnamed devices for any.

        An unnamed device whose storage is lost makes another id: it must get its archives back.
        """
        unnamed = self.current.startswith(UNNAMED) and device_id.startswith(UNNAMED)
        return unnamed or device_id in (self.current, *self.former)
