"""Refusals: why the engine does not do what it was asked for, in words of its own.

Each face has one table from the reason to the status and the code of its answers.
"""

from enum import StrEnum

SEE_LOG = "internal error: see the device's log"
"""The message of every refusal and failure that is a bug."""


class Reason(StrEnum):
    INVALID = "invalid"
    """The request itself is wrong."""
    FORBIDDEN = "forbidden"
    """A setting does not allow it."""
    NOT_FOUND = "not-found"
    """There is no job, upload or preview with this id."""
    BUSY = "busy"
    """Something else runs: the same request may be accepted later."""
    EXPIRED = "expired"
    """The request came too late."""
    CANNOT = "cannot"
    """The request is right, but this device cannot do it as it is."""
    UNAVAILABLE = "unavailable"
    """The journal cannot be written, so nothing can be accepted."""
    INTERNAL = "internal"
    """A bug in the agent or in a provider."""


class Refused(Exception):
    """A request is refused, and nothing has changed. The message is for people, without secrets."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message
