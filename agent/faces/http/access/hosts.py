"""Checks of `Host`, `Origin` and `Sec-Fetch-Site`: a browser also sends the requests of foreign pages.

Only `Host` stops DNS rebinding, where a foreign page is served from a name that then leads to this device:
its origin equals the host. Names of `http.hosts` belong to the owner, and nobody can rebind an address.
"""

import ipaddress
from collections.abc import Sequence

from agent.base.text import readable
from agent.faces.http.message import Problem, Request

_PORTS = {"http": ":80", "https": ":443"}
_OWN_SITES = ("same-origin", "none")
"""Values of `Sec-Fetch-Site` of our page, and of people who type an address."""
_FOREIGN = "a page of another origin must not send this request"


def check_host(request: Request, names: Sequence[str]) -> None:
    """Raise `Problem` 421 when the request does not mean this device."""
    host = _without_port(request.headers.get("host", "").lower())
    if host == "localhost" or host in names or _is_address(host):
        return
    raise Problem(
        421, f"host '{readable(host)}' is not known here: add it to http.hosts in the device's settings"
    )


def check_origin(request: Request) -> None:
    """Raise `Problem` 403 when a page of another origin sends the request."""
    check_fetch(request)
    origin = request.headers.get("origin")
    if origin is not None and not _is_own(request, origin):
        raise Problem(403, _FOREIGN)


def proves_own_origin(request: Request) -> bool:
    """Return True when a browser says where a request comes from that `check_origin` has accepted."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    return site in _OWN_SITES or origin is not None


def check_fetch(request: Request) -> None:
    """Raise `Problem` 403 when the browser says that another site's page sends the request."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        raise Problem(403, _FOREIGN)


def _is_own(request: Request, origin: str) -> bool:
    schemes = ["https" if request.peer.tls else "http"]
    if request.headers.get("sec-fetch-site") == "same-origin" and not request.peer.tls:
        # A proxy on the device may have taken off TLS: the browser itself has compared the schemes.
        schemes.append("https")
    host = request.headers.get("host", "").lower()
    return origin.lower() in [f"{scheme}://{host.removesuffix(_PORTS[scheme])}" for scheme in schemes]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
