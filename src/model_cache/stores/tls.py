"""Validate the TLS options, from the url or from the decorator's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_cache.errors import ConfigurationError
from model_cache.option_values import flag, wrong

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
NAMES = (*FILES, "ssl_cert_reqs", "ssl_check_hostname")
"""The options, named as in redis-py; also the names of the parameters in a `rediss://` url."""

# "optional" has no meaning for a client: Python treats it as "required".
_CERT_REQS = {"required": "required", "optional": "required", "none": "none"}


@dataclass(frozen=True)
class TLS:
    """How to verify the server's certificate, and which client certificate to present.

    Attributes:
        ca_certs: a file of trusted certificates; None for the system's.
        certfile: the client's certificate, if the server requires one.
        keyfile: the key of that certificate.
        cert_reqs: "required", or "none" to skip verification.
        check_hostname: whether the certificate must match the host name.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: str = "required"
    check_hostname: bool = True


def tls_from(given: Mapping[str, object]) -> TLS:
    """Return the TLS options from a mapping of the names in `NAMES` to values.

    Raises:
        ConfigurationError: an option is invalid.
    """
    files = {name: _file(name, given[name]) for name in FILES if name in given}
    for one, other in (("ssl_certfile", "ssl_keyfile"), ("ssl_keyfile", "ssl_certfile")):
        if one in files and other not in files:
            raise ConfigurationError(one, f"needs {other}")
    cert_reqs = _cert_reqs(given.get("ssl_cert_reqs", "required"))
    check_hostname = flag("ssl_check_hostname", given.get("ssl_check_hostname", True))
    return TLS(
        ca_certs=files.get("ssl_ca_certs"),
        certfile=files.get("ssl_certfile"),
        keyfile=files.get("ssl_keyfile"),
        cert_reqs=cert_reqs,
        check_hostname=check_hostname and cert_reqs == "required",
    )


def _file(option: str, value: object) -> str:
    if not isinstance(value, (str, os.PathLike)) or not Path(value).is_file():
        raise wrong(option, value, "an existing file")
    return str(Path(value))


def _cert_reqs(value: object) -> str:
    # Celery uses "CERT_NONE", Python's ssl module ssl.CERT_NONE.
    name = str(getattr(value, "name", value)).lower().removeprefix("cert_")
    if name not in _CERT_REQS:
        raise wrong("ssl_cert_reqs", value, "'required' or 'none'")
    return _CERT_REQS[name]
