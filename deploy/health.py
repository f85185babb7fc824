#!/usr/bin/env python3
"""The image's health check. It uses nothing but the standard library, so that it starts fast.

    health.py http PORT PATH    healthy: 127.0.0.1:PORT answers GET PATH with 200
    health.py tls PORT          healthy: 127.0.0.1:PORT answers a ClientHello

An answer tells that the readers of a worker do their work, whatever the application is; a mere TCP
connection would be taken by the kernel for a worker that hangs. Exit code 0 or 1.
"""

from __future__ import annotations

import socket
import ssl
import sys

TIMEOUT = 2.0


def http(port: int, path: str) -> str | None:
    """None, or what is wrong."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = sock.recv(4096).decode(errors="replace")
    status = answer.partition("\r\n")[0]
    return None if status.split()[1:2] == ["200"] else status or "no answer"


def tls(port: int) -> str | None:
    """None: the handshake succeeded, or was refused by an alert."""
    # Which certificate the server has is none of this check's business. TLS 1.2 leaves one session
    # in the coordinator's cache, TLS 1.3 would leave two.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        try:
            with context.wrap_socket(sock):
                return None
        except ssl.SSLError as error:
            # A server of TLS 1.3 alone says so, and lives.
            return None if "ALERT" in (error.reason or "") else str(error)


def main(arguments: list[str]) -> int:
    """The exit code."""
    try:
        match arguments:
            case ["http", port, path]:
                problem = http(int(port), path)
            case ["tls", port]:
                problem = tls(int(port))
            case _:
                problem = (__doc__ or "").strip()
    except OSError as error:
        problem = str(error)
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
