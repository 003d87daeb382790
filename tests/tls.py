"""TLS proxies for servers without TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import trustme

from tests.servers import Server


def context_of(
    authority: trustme.CA, name: str, *, clients: trustme.CA | None = None
) -> ssl.SSLContext:
    """The context of a server; with an authority of its clients, they must show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def tls_in_front_of(server: Server, authority: trustme.CA, name: str) -> Iterator[int]:
    """A proxy that ends TLS before a server that has none; yields its port."""
    with tls_by(context_of(authority, name), server) as port:
        yield port


@contextlib.contextmanager
def tls_by(context: ssl.SSLContext, server: Server) -> Iterator[int]:
    """The same by a context, which may change meanwhile: new connections are opened by it."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[Any] = [listener]

    def pump(source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                try:
                    outside = context.wrap_socket(plain, server_side=True)
                except OSError:  # refused by the client, or its certificate is
                    plain.close()
                    continue
                inside = socket.create_connection(("127.0.0.1", server.port))
                ends.extend((outside, inside))
                for source, sink in ((outside, inside), (inside, outside)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
