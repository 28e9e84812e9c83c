"""The address that the HTTP face listens on, and checks for its settings that conflict."""

import grp
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.settings.secret_files import is_encrypted_key

if TYPE_CHECKING:
    from agent.settings import Settings
    from agent.settings.group_defaults import HttpSettings

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9.]+|localhost):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An IP address and a port; port 0 lets the kernel choose one."""

    host: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        address = ipaddress.ip_address(self.host)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """Return the address in `127.0.0.1:8765`, `localhost:8765` or `[::]:8765`. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise ValueError("not <address>:<port>")
    host = "127.0.0.1" if match[1] == "localhost" else match[1].strip("[]")
    return ListenAddress(str(ipaddress.ip_address(host)), int(match[2]))


def http_problems(settings: "Settings") -> Iterator[str]:
    """Yield a line for each conflict between settings of the HTTP face."""
    http = settings.http
    yield from _tls_problems(http)
    yield from _socket_problems(settings)
    if http.client_ca and http.token_file:
        yield (
            "http.tokenFile: has no effect beside http.clientCa, since client certificates replace the token;"
            " keep one"
        )
    if http.listen and not (http.client_ca or http.token_file):
        yield (
            "http.listen: nobody could sign in; give http.tokenFile (or the credential 'http-token'), or"
            " http.clientCa"
        )
    if http.listen and not (http.listen.is_loopback or http.cert or http.plain):
        yield (
            f"http.listen: '{http.listen}' is open to the network without TLS; give http.cert and http.key,"
            " listen on 127.0.0.1, or allow it with http.plain"
        )


def _tls_problems(http: "HttpSettings") -> Iterator[str]:
    if http.cert and not http.key:
        yield "http.cert: needs its private key in http.key"
    if http.key and not http.cert:
        yield "http.key: needs its certificate in http.cert"
    if http.client_ca and not http.cert:
        yield "http.clientCa: needs http.cert and http.key, because client certificates are a part of TLS"
    if http.key and is_encrypted_key(http.key):
        yield (
            f"http.key: '{http.key}' is encrypted, and nobody is there to type its passphrase. Decrypt it"
            " with 'openssl pkey -in … -out …' into a file of mode 0600"
        )


def _socket_problems(settings: "Settings") -> Iterator[str]:
    http = settings.http
    if not http.socket_group:
        return
    if not http.socket or http.socket.is_relative_to(settings.storage):
        yield (
            "http.socketGroup: the group cannot enter the storage directory, where the socket is; give"
            " http.socket a path outside, such as '/run/edge-backup/http.sock'"
        )
    try:
        grp.getgrnam(http.socket_group)
    except KeyError:
        yield f"http.socketGroup: this device has no group '{http.socket_group}'"
