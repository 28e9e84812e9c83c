"""TLS for clients from the network: the certificate, its key, and the authorities of client certificates."""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import structlog

from agent.settings.group_defaults import HttpSettings
from agent.settings.secret_files import no_passphrase

log = structlog.get_logger(__name__)


MAX_USES = 200
"""Connections with one context, which keeps a session of each client that does not know tickets."""


class ServerTls:
    """Takes a certificate that was renewed on the disk for the next connection."""

    def __init__(self, settings: HttpSettings) -> None:
        """Raises OSError (also `ssl.SSLError`) and ValueError when the files cannot be used."""
        self._settings = settings
        self._files = [path for path in (settings.cert, settings.key, settings.client_ca) if path]
        self._seen = _signature(self._files)
        self._context, self._uses = _context(settings), 0

    def context(self) -> ssl.SSLContext:
        """Return the context for a connection; that of the last files that could be used."""
        seen = _signature(self._files)
        self._uses += 1
        if seen != self._seen or self._uses > MAX_USES:
            self._seen, self._uses = seen, 0
            try:
                self._context = _context(self._settings)
            except (OSError, ValueError) as error:
                log.warning("renewed certificate not usable", reason=str(error))
        return self._context

    def subject_of(self, sock: ssl.SSLSocket) -> str:
        """Return a name for the client whose certificate was checked, never empty with one; else nothing."""
        certificate = sock.getpeercert()
        if not certificate:
            return ""
        parts = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
        names = {key: value for part in parts for key, value in part}
        return names.get("commonName") or f"serial {certificate['serialNumber']}"


def _signature(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Return facts about the files that differ when one is replaced; nothing for a file that is missing."""
    found = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            continue
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def _context(settings: HttpSettings) -> ssl.SSLContext:
    assert settings.cert
    assert settings.key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.cert, settings.key, no_passphrase)
    if settings.client_ca:
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
