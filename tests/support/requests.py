"""Requests as a face reads them."""

from typing import Any, TypeVar

from agent.base.operations import Face
from agent.jobs.requests.raw import Request, read_raw
from agent.settings import Settings

R = TypeVar("R", bound=Request)


def read(request: type[R], value: Any = None, settings: Settings | None = None, face: Face = Face.MQTT) -> R:
    """The request of this type in a command's value. Raises `Refused`."""
    return request.read(read_raw(request.operation, value, face), settings or Settings())
