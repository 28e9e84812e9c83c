"""URLs whose secret parts cannot slip into a message."""

import base64
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urljoin, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 3986 3.2.2, without what no DNS name has: a proxy might take `\` for `/`, or decode `%2e`.
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[0-9A-Za-z%._~-]+)?")
_SAFE = "/%:@!$&'()*+,;=~-._?[]"


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https URL. Only `location` is for people: query and credentials are never shown."""

    scheme: str
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    path: str
    query: str = field(repr=False)
    authorization: str = field(repr=False)
    """Value of the header `Authorization` for the credentials in the URL; "" without any."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Return the origin (RFC 6454): headers and credentials for this address go nowhere else."""
        return self.scheme, self.host.lower(), self.port

    @property
    def base(self) -> str:
        """Return scheme and host, and the port unless it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == _DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{host}" if default else f"{self.scheme}://{host}:{self.port}"

    @property
    def location(self) -> str:
        return self.base + self.path

    @property
    def target(self) -> str:
        """Return path and query, as in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path


def parse_address(url: str) -> Address:
    """Parse `url`: drop its fragment, and quote other letters than ASCII.

    Raises ValueError, without the URL, when it is no http or https URL with a host.
    """
    if re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("blank or control character in the URL")
    parts = urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host.encode("idna").decode()) or parts.port == 0:
        raise ValueError("not an http or https URL with a host")
    return Address(
        scheme,
        host,
        parts.port or _DEFAULT_PORTS[scheme],
        quote(parts.path, safe=_SAFE) or "/",
        quote(parts.query, safe=_SAFE),
        _basic(parts.username, parts.password),
    )


def redirected(address: Address, location: str) -> Address:
    """Return the address to which `Location` sends a request. Within one origin its credentials stay.

    Raises ValueError as `parse_address` does.
    """
    new = parse_address(urljoin(address.base + address.target, location.strip()))
    if new.origin == address.origin and not new.authorization:
        return replace(new, authorization=address.authorization)
    return new


def _basic(user: str | None, password: str | None) -> str:
    """Return the credentials in the scheme `Basic` (RFC 7617)."""
    if user is None and password is None:
        return ""
    credentials = f"{unquote(user or '')}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(credentials.encode()).decode()
