"""Headers: those of a request by name, and those that every answer has, unless its handler says otherwise."""

from collections.abc import Iterable, Mapping
from email.utils import formatdate
from types import MappingProxyType

PROTECTION: Mapping[str, str] = MappingProxyType(
    {
        # The page's own files alone: no code in the HTML, nothing from elsewhere, no frame around it.
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
            " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        # A text never becomes a script, whatever it looks like.
        "X-Content-Type-Options": "nosniff",
        # Paths name files of the device.
        "Referrer-Policy": "no-referrer",
        # Pages of other origins cannot load an answer as an image or a script, nor keep our window.
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        # What the device says is neither kept in a cache nor on the technician's disk.
        "Cache-Control": "no-store",
    }
)


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return a request's headers by name in small letters; several of one name become one."""
    by_name: dict[str, str] = {}
    for name, text in headers:
        key, value = name.decode("ascii"), text.decode("latin-1")
        # A proxy of HTTP/2 may send a header for each cookie (RFC 9113, 8.2.3).
        separator = "; " if key == "cookie" else ", "
        by_name[key] = f"{by_name[key]}{separator}{value}" if key in by_name else value
    return by_name


def with_defaults(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return an answer's headers, with those that it lacks; none is of CORS: no other origin may read."""
    given = {name.lower() for name in headers}
    missing = {**PROTECTION, "Date": formatdate(usegmt=True)}
    return [*headers.items(), *((name, text) for name, text in missing.items() if name.lower() not in given)]
