"""`network_probe.py URL…`: run as an agent, prints what comes of each way to the network. Standard library only.

`http://…` is asked through the proxy of the environment, `direct://host:port` and `udp://host:port` without it,
`connect://host:port` through a tunnel of the proxy.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.error
import urllib.request


def main() -> None:
    for url in sys.argv[1:]:
        scheme, _, place = url.partition("://")
        try:
            said = {"direct": _direct, "udp": _udp, "connect": _tunnel, "http": _asked}[scheme](place)
        except OSError as error:
            said = f"failed: {error}"
        print(f"{url} -> {said}", flush=True)
    print("all tried", flush=True)


def _asked(place: str) -> str:
    # Loopback is left out of the proxy; asked so, it goes there all the same.
    request = urllib.request.Request(f"http://{place}")
    request.set_proxy(os.environ["HTTP_PROXY"].removeprefix("http://"), "http")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return f"{answer.status} {answer.read(100).decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(100).decode()!r}"


def _direct(place: str) -> str:
    host, _, port = place.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        return _exchange(connection, host)


def _udp(place: str) -> str:
    host, _, port = place.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"x", (host, int(port)))
        return "sent"


def _tunnel(place: str) -> str:
    host, _, port = os.environ["https_proxy"].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        head = connection.recv(4096).decode()
        if not head.startswith("HTTP/1.1 200"):
            return head.partition("\r\n")[0]
        return _exchange(connection, place)


def _exchange(connection: socket.socket, host: str) -> str:
    connection.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    said = b""
    while piece := connection.recv(4096):
        said += piece
    return said.decode().rpartition("\r\n\r\n")[2]


if __name__ == "__main__":
    main()
