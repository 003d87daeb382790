"""TLS: certificates and names are checked, and a file that is no certificate is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from model_cache.errors import ConfigurationError, StoreUnavailableError
from tests.servers import Server
from tests.stores.opened import store_at
from tests.tls import tls_in_front_of


def test_tls_checks_the_certificate_and_the_hosts_name(
    server: Server, authority: tuple[trustme.CA, Path]
) -> None:
    ca, path = authority
    with (
        tls_in_front_of(server, ca, "localhost") as right,
        tls_in_front_of(server, ca, "elsewhere") as other,
    ):
        store = store_at(f"rediss://localhost:{right}?ssl_ca_certs={path}")
        store.set(b"key", b"x" * 100_000, None, 5.0)
        assert store.get(b"key", 5.0) == b"x" * 100_000
        store.close()
        refused = {  # and what to do about it
            f"rediss://localhost:{right}": "ssl_ca_certs .* ssl_cert_reqs",
            f"rediss://localhost:{other}?ssl_ca_certs={path}": "Hostname .* ssl_check_hostname",
            f"rediss://127.0.0.1:{right}?ssl_ca_certs={path}": "IP address .* ssl_check_hostname",
        }
        for url, advice in refused.items():
            with pytest.raises(StoreUnavailableError, match=f"(?i)certificate.*{advice}"):
                store_at(url).get(b"key", 5.0)
        accepted = (
            f"rediss://localhost:{right}?ssl_cert_reqs=none",
            f"rediss://localhost:{other}?ssl_ca_certs={path}&ssl_check_hostname=false",
        )
        for url in accepted:
            store = store_at(url)
            assert store.get(b"key", 5.0) == b"x" * 100_000
            store.close()


def test_a_file_that_is_not_a_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="can't be loaded"):
        store_at(f"rediss://localhost?ssl_ca_certs={path}")
