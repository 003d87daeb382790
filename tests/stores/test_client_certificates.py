"""Client certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.servers import Server
from tests.stores.caching import (
    assert_caches,
    assert_predicts_without_cache,
    decorated,
)


@contextlib.contextmanager
def tls_for_clients_of(server: Server, authority: trustme.CA) -> Iterator[int]:
    """Ends TLS before a server, for clients that show a certificate; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                outside = context.wrap_socket(plain, server_side=True)
            except OSError:  # no certificate, or a wrong one
                plain.close()
                continue
            inside = socket.create_connection(("127.0.0.1", server.port))
            ends.extend((outside, inside))
            for pair in ((outside, inside), (inside, outside)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def issue_to_client(authority: trustme.CA, folder: Path) -> str:
    """Write a client's certificate and key; return the url's parameters for them."""
    folder.mkdir()
    issued = authority.issue_cert("client")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    return f"ssl_certfile={folder / 'cert.pem'}&ssl_keyfile={folder / 'key.pem'}"


def test_a_client_shows_its_certificate(server: Server, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = issue_to_client(authority, tmp_path / "trusted")
    stranger = issue_to_client(trustme.CA(), tmp_path / "stranger")
    with tls_for_clients_of(server, authority) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with decorated(f"{url}&{trusted}", "trusted") as decorator:
            assert_caches(decorator)
        for refused in (url, f"{url}&{stranger}"):
            with decorated(refused, "refused") as decorator:
                assert_predicts_without_cache(decorator)
