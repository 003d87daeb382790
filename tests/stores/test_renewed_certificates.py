"""Certificates that are renewed while a process runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from model_cache.errors import StoreUnavailableError
from model_cache.stores.url import Endpoint, parse_url
from tests.servers import Server
from tests.stores.opened import TIMEOUT, store_at
from tests.stores.test_client_certificates import issue_to_client
from tests.tls import context_of, tls_by


def test_new_connections_trust_the_authorities_that_are_in_the_file_by_then(
    server: Server,
    client: redis.Redis,
    open_store: Callable[[Endpoint], Any],
    tmp_path: Path,
) -> None:
    before, after, path = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    before.cert_pem.write_to_path(str(path))
    context = context_of(before, "localhost")
    with tls_by(context, server) as port:
        store = open_store(parse_url("url", f"rediss://localhost:{port}?ssl_ca_certs={path}"))
        store.set(b"key", b"entry", None, TIMEOUT)
        after.issue_cert("localhost").configure_cert(context)
        assert store.get(b"key", TIMEOUT) == b"entry"  # by the connection that is open
        client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            store.get(b"key", TIMEOUT)
        after.cert_pem.write_to_path(str(path))
        assert store.get(b"key", TIMEOUT) == b"entry"


def test_a_certificate_whose_file_is_removed_or_damaged_is_still_trusted(
    server: Server,
    client: redis.Redis,
    authority: tuple[trustme.CA, Path],
    open_store: Callable[[Endpoint], Any],
    tmp_path: Path,
) -> None:
    trusted, original = authority
    path = tmp_path / "ca.pem"
    path.write_bytes(original.read_bytes())
    with tls_by(context_of(trusted, "localhost"), server) as port:
        store = open_store(parse_url("url", f"rediss://localhost:{port}?ssl_ca_certs={path}"))
        store.set(b"key", b"entry", None, TIMEOUT)
        for change in (lambda: path.write_text("no certificate"), path.unlink):
            change()
            client.client_kill_filter(_type="normal", skipme=True)
            assert store.get(b"key", TIMEOUT) == b"entry"


def test_a_renewed_client_certificate_is_shown_when_its_key_is_there_too(
    server: Server, authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    trusted, path = authority
    parameters = issue_to_client(trustme.CA(), tmp_path)
    with tls_by(context_of(trusted, "localhost", clients=trusted), server) as port:
        store = store_at(f"rediss://localhost:{port}?ssl_ca_certs={path}&{parameters}")
        key = tmp_path / "key.pem"
        old_key = key.read_bytes()
        issue_to_client(trusted, tmp_path)
        new_key = key.read_bytes()
        key.write_bytes(old_key)
        with pytest.raises(StoreUnavailableError):
            store.get(b"key", TIMEOUT)
        key.write_bytes(new_key)
        assert store.get(b"key", TIMEOUT) is None
