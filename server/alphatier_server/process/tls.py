"""TLS from a certificate and a key file, read again when they change.

TLS 1.2 at least (RFC 8996 retires the older ones). A reload changes the context that is in use: connections
keep what they negotiated, and new handshakes get the new certificate. Files that do not fit together change
nothing.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from alphatier_server.errors import ServeError
from alphatier_server.settings.gateway import ListenSettings
from alphatier_server.settings.watch import FileWatch


class Certificate:
    """The certificate and key in use. `context` is made once and lives as long as the process."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = (certificate, key or certificate)
        self._watch = FileWatch(*self._files)
        self.context = _context(*self._files)

    async def watch(self, announce: Callable[[str], None], seconds: float = 1.0) -> None:
        """Reload whenever a file changes, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            if self._watch.changed():
                self.reload_and_announce(announce)

    def reload_and_announce(self, announce: Callable[[str], None]) -> None:
        """Use the files as they are now, and say how it went."""
        try:
            _context(*self._files)  # a pair that does not fit would leave the live context half changed
            self.context.load_cert_chain(*self._files)
        except ServeError as error:
            announce(f"{error} The certificate from before stays in use.")
        else:
            announce(f"the certificate {self._files[0]} was read again")


def certificate_of(listen: ListenSettings) -> Certificate | None:
    """The certificate that the settings name. Raises ServeError."""
    return Certificate(listen.tls_cert, listen.tls_key) if listen.tls_cert is not None else None


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except FileNotFoundError as error:
        missing = next((file for file in (certificate, key) if not file.is_file()), certificate)
        raise ServeError(
            f"The TLS file {missing} does not exist; give the right --tls-cert and --tls-key."
        ) from error
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ServeError(
            f"The certificate {certificate} and the key {key} cannot be used together: {error}. Give a PEM "
            "certificate chain, and its PEM private key without a password."
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key is protected by a password")
