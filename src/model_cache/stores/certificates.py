"""Load the certificates of TLS connections, and load them again when their files change.

Certificates are renewed while a process runs, for example by cert-manager. Loading them takes tens
of milliseconds of CPU, so it is not done for each connection.
"""

from __future__ import annotations

import os
import ssl
from typing import TypeAlias

from model_cache.errors import ConfigurationError
from model_cache.stores.tls import TLS

_Versions: TypeAlias = list[tuple[int, int, int] | None]


class Certificates:
    """The certificates to trust and to present.

    Args:
        tls: the TLS options.

    Raises:
        ConfigurationError: a certificate can't be loaded.
    """

    def __init__(self, tls: TLS) -> None:
        self._tls = tls
        # In one attribute: threads may open connections at the same time.
        self._loaded = self._versions(), _load(tls)

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        If a file can't be loaded any more, it is the one of before: the file may be missing, or a
        certificate may have been renewed whose key has not been written yet.
        """
        versions, context = self._loaded
        now = self._versions()  # before loading, since they may change again meanwhile
        if now != versions:
            try:
                context = _load(self._tls)
            except ConfigurationError:
                return context
            self._loaded = now, context
        return context

    def _versions(self) -> _Versions:
        tls = self._tls
        return [_version(path) for path in (tls.ca_certs, tls.certfile, tls.keyfile) if path]


def _version(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _load(tls: TLS) -> ssl.SSLContext:
    option = "ssl_ca_certs"
    try:
        context = ssl.create_default_context(cafile=tls.ca_certs)
        if tls.certfile is not None:
            option = "ssl_certfile"
            # Without a password callback, OpenSSL prompts on the terminal.
            context.load_cert_chain(tls.certfile, tls.keyfile, password=_no_pass_phrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigurationError(option, f"can't be loaded: {error}") from error
    context.check_hostname = tls.check_hostname
    if tls.cert_reqs == "none":
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_pass_phrase() -> str:
    raise ValueError("the key is encrypted; use an unencrypted one")
