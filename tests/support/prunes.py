"""Repositories that are pruned, and prunes that something interrupts."""

import os

from agent.formats.repository.objects import Kind
from tests.support.repositories import Device, source

CHANGING = ("put", "delete")


class PowerCutError(BaseException):
    """Not an Exception: nothing in the agent may handle it."""


def with_three_snapshots(device: Device) -> list[str]:
    """Save three states, of which each but the first shares a part with the one before; return their ids."""
    names = []
    for number in range(3):
        (source(device) / "d" / f"only {number}").write_bytes(os.urandom(200_000))
        (source(device) / "d" / f"only {number - 1}").unlink(missing_ok=True)
        names.append(device.save().id)
    return names


def interrupt(device: Device, number: int, error: BaseException) -> None:
    """Raise an error at the call with this number that changes the store."""
    left = [number]

    def before(call: str, _kind: Kind) -> None:
        if call in CHANGING:
            left[0] -= 1
            if left[0] < 0:
                raise error

    device.objects.before = before


def undisturbed(device: Device) -> None:
    device.objects.before = device.objects.after = lambda _call, _kind: None
