"""TCP connections to checked addresses: a name is resolved once."""

import socket
from collections.abc import Callable

from providers.errors import NotAllowed

CheckAddress = Callable[[str, str], None]
"""Called with the host and one of its addresses; raises `NotAllowed` unless it may be connected to."""


def allow_all(_host: str, _address: str) -> None:
    """Allow every address, for a destination that the device's owner chose."""


def connect_checked(host: str, port: int, timeout_s: float, check: CheckAddress) -> socket.socket:
    """Connect to the first address of `host` that is allowed and answers within `timeout_s`.

    Raises `NotAllowed` when none of its addresses is allowed, else OSError for the last that was tried.
    """
    refusal: NotAllowed | None = None
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            check(host, str(address[0]))
            return _connected(socket.socket(family, kind, protocol), address, timeout_s)
        except NotAllowed as error:
            refusal = error
        except OSError as error:
            failure = error
    raise failure or refusal or OSError("the name has no address")


def _connected(opened: socket.socket, address: object, timeout_s: float) -> socket.socket:
    try:
        opened.settimeout(timeout_s)
        opened.connect(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except BaseException:
        opened.close()
        raise
    return opened
