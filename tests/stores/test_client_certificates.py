"""Client certificates."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.servers import Server
from tests.stores.caching import (
    assert_caches,
    assert_predicts_without_cache,
    decorated,
)
from tests.tls import context_of, tls_by


def issue_to_client(authority: trustme.CA, folder: Path) -> str:
    """Write a client's certificate and key; return the url's parameters for them."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert("client")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    return f"ssl_certfile={folder / 'cert.pem'}&ssl_keyfile={folder / 'key.pem'}"


def test_a_client_shows_its_certificate(server: Server, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = issue_to_client(authority, tmp_path / "trusted")
    stranger = issue_to_client(trustme.CA(), tmp_path / "stranger")
    with tls_by(context_of(authority, "localhost", clients=authority), server) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with decorated(f"{url}&{trusted}", "trusted") as decorator:
            assert_caches(decorator)
        for refused in (url, f"{url}&{stranger}"):
            with decorated(refused, "refused") as decorator:
                assert_predicts_without_cache(decorator)
