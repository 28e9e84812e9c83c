"""The destinations that the device allows.

URL and bucket of a command are checked without the network before it is accepted (`check_url`,
`check_bucket`). Each address is checked again after its name was resolved, right before the connection to
this address is made (`check_address`): a name that resolves differently a moment later gains nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from providers.address import Address
from providers.errors import NotAllowed

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
HostPattern = str | IPv4Network | IPv6Network
"""`*`, a name in which `*` stands for any characters, or a network."""

CheckAddress = Callable[[str, str], None]
"""Called with the host and one of its addresses; raises `NotAllowed` unless it may be connected to."""

EVERYTHING = "*"
# Clouds give their machines credentials at these addresses. Only a listed network allows them.
_LINK_LOCAL_OR_METADATA: tuple[IpNetwork, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # RFC 3927; AWS, Azure, Google, Oracle
        "fe80::/10",  # RFC 4291
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's WireServer
        "192.0.0.192",  # Oracle Cloud Classic
    )
)
# Linux takes 0.0.0.0 and :: for loopback.
_LOOPBACK: tuple[IpNetwork, ...] = tuple(
    ipaddress.ip_network(network) for network in ("127.0.0.0/8", "0.0.0.0/8", "::1", "::")
)
_DISCARD = 9  # RFC 863: any port would do
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_NAME = re.compile(r"([a-z0-9_*-]+\.)*[a-z0-9_-]*[a-z][a-z0-9_-]*")


def host_pattern(text: str) -> HostPattern:
    """Parse a pattern: `*`, `backup.example`, `*.example`, `10.0.0.0/8`, `fd00::1`.

    The last part of a name has no `*` and is no number: `10.*` would also allow `10.evil.example`. Raises
    ValueError for any other text.
    """
    text = text.strip().rstrip(".").lower()
    if text == EVERYTHING:
        return text
    with suppress(ValueError):
        return ipaddress.ip_network(text)
    with suppress(UnicodeError):
        name = text.encode("idna").decode()
        if _NAME.fullmatch(name) and literal(name) is None:
            return name
    raise ValueError("neither a host nor a network")


def literal(host: str) -> IpAddress | None:
    """Return the address that `host` spells, in any form that the C library takes; None for a name.

    The C library reads `2130706433`, `0x7f.1` and `0177.0.0.1` as 127.0.0.1 (inet_aton(3)).
    """
    with suppress(ValueError):
        return IPv6Address(host.partition("%")[0])
    with suppress(OSError, ValueError):
        return IPv4Address(socket.inet_aton(host))
    return None


@dataclass(frozen=True, slots=True)
class Allow:
    """The device's rules. Every check raises `NotAllowed`, which names the setting."""

    hosts: tuple[HostPattern, ...] = (EVERYTHING,)
    buckets: tuple[str, ...] = (EVERYTHING,)
    loopback: bool = True
    plain_http: bool = True

    def check_url(self, address: Address, *, resolved_by_proxy: bool) -> None:
        """Raise `NotAllowed` when `address` is certainly forbidden; its name is not resolved.

        A name that a proxy will resolve has to be in the list itself.
        """
        if address.scheme == "http" and not self.plain_http:
            raise NotAllowed(f"{address.base}: plain http is not allowed on this device (allow.plainHttp)")
        host = _canonical(address.host)
        if (ip := literal(host)) is not None:
            self._check(host, ip)
        elif resolved_by_proxy and not self.loopback and f".{host}".endswith(".localhost"):
            raise _no_loopback(host)
        elif not self._is_named(host) and (resolved_by_proxy or not self._networks()):
            raise _not_listed(host)

    def check_address(self, host: str, address: str) -> None:
        """Raise `NotAllowed` unless `address`, to which `host` was resolved, may be connected to."""
        self._check(_canonical(host), ipaddress.ip_address(address))

    def check_bucket(self, bucket: str, endpoint: Address | None = None) -> None:
        """Raise `NotAllowed` for a bucket or container; `endpoint` is the one that the command names."""
        if self.any_bucket:
            return
        if not any(fnmatchcase(bucket, pattern) for pattern in self.buckets):
            raise NotAllowed(f"bucket or container '{bucket}' is not allowed on this device (allow.buckets)")
        if endpoint and endpoint.path != "/":
            # A store takes the beginning of the path for the bucket.
            raise NotAllowed(f"{endpoint.base}: an endpoint with a path is not allowed with allow.buckets")

    @property
    def any_bucket(self) -> bool:
        return EVERYTHING in self.buckets

    def _check(self, host: str, ip: IpAddress) -> None:
        reached = _with_inner(ip)
        listed = _is_in(reached, self._networks())
        if not self.loopback and (_is_in(reached, _LOOPBACK) or any(map(_is_own, reached))):
            raise _no_loopback(host)
        if not listed and _is_in(reached, _LINK_LOCAL_OR_METADATA):
            raise NotAllowed(
                f"host '{host}' is link-local or a cloud's metadata service, which allow.hosts does not list"
            )
        if not listed and not self._is_named(host):
            raise _not_listed(host)

    def _is_named(self, host: str) -> bool:
        """Return True when a pattern matches the name; an address is matched by `*` or a network only."""
        if EVERYTHING in self.hosts:
            return True
        names = [pattern for pattern in self.hosts if isinstance(pattern, str)]
        return literal(host) is None and any(fnmatchcase(host, name) for name in names)

    def _networks(self) -> tuple[IpNetwork, ...]:
        return tuple(pattern for pattern in self.hosts if not isinstance(pattern, str))


def _canonical(host: str) -> str:
    """Return the name as the resolver, or a proxy, will see it."""
    return host.encode("idna").decode().rstrip(".").lower()


def _with_inner(ip: IpAddress) -> list[IpAddress]:
    """Return `ip`, and the IPv4 address that is reached through it."""
    if isinstance(ip, IPv4Address):
        return [ip]
    inner = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        inner = IPv4Address(int(ip) & 0xFFFFFFFF)
    return [ip, inner] if inner else [ip]


def _is_in(addresses: list[IpAddress], networks: tuple[IpNetwork, ...]) -> bool:
    return any(address in network for address in addresses for network in networks)


def _is_own(ip: IpAddress) -> bool:
    """Return True when one of the device's interfaces has the address. Sends nothing.

    The kernel tells from which address it would reach `ip`. For an own address, that is the same one or
    loopback.
    """
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    # A link-local address is complete only with its interface.
    scopes = [number for number, _ in socket.if_nameindex()] if ip.version == 6 and ip.is_link_local else [0]
    for scope in scopes:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            end: tuple[str, int] | tuple[str, int, int, int] = (str(ip).partition("%")[0], _DISCARD)
            probe.connect((*end, 0, scope) if ip.version == 6 else end)
            source = ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
            if source.is_loopback or int(source) == int(ip):
                return True
    return False


def _no_loopback(host: str) -> NotAllowed:
    return NotAllowed(f"host '{host}' is the device itself, which is not allowed (allow.loopback)")


def _not_listed(host: str) -> NotAllowed:
    return NotAllowed(f"host '{host}' is not allowed on this device (allow.hosts)")


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
