"""`python network_relay.py FOLDER PORT [ADDRESS:PORT…] -- COMMAND…`: the inner side of the one way to the network.

Runs in a sandbox without a network. Listens on its loopback and passes what comes there to the proxy outside, by the
Unix socket in FOLDER; for each ADDRESS:PORT it listens there too, and asks the proxy for that place of the host. Then
becomes COMMAND. The proxy is started once something is asked for: a line into the pipe beside its socket says so, and
the pipe ends with this process. Where it does not come, or not come back, what is asked is answered 503.

A file by itself that imports no more than it must: agents wait for it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import os
import sys
import time

SOCKET = "proxy.sock"
WANTED = "wanted"
"""a pipe, one line for each time that the proxy is missed"""
_PIECE = 65_536
_PATIENCE_S = 15.0
_DOWN = (
    b"HTTP/1.1 503 the proxy of agent.network does not run\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"The proxy of agent.network does not run, and there is no other way out. It is started again by itself.\n"
)


def main() -> None:
    folder, port, *places = sys.argv[1 : sys.argv.index("--")]
    command = sys.argv[sys.argv.index("--") + 1 :]
    doors = [(_listening("127.0.0.1", int(port)), b"")]
    for place in places:
        address, _, number = place.rpartition(":")
        try:
            listener = _listening(address, int(number))
        except OSError as error:
            print(f"agent.network: {place} cannot be opened in the sandbox: {error.strerror}", flush=True)
            continue
        target = f"[{address}]:{number}" if ":" in address else place
        doors.append((listener, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()))
    # Twice, so that it is no child of the agent's.
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.closerange(3, 10)  # the pipe's other name, which holds it open until now
        # Python ignores these, and what it becomes would too.
        for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(ignored, _signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - these are the words that it was started for
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(folder)
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    try:
        # For both: so nobody has to wait for the other end.
        wanted = os.open(WANTED, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        wanted = -1  # as if nobody listened
    for listener, asked in doors[1:]:
        _thread.start_new_thread(_serve, (listener, asked, wanted))
    _serve(*doors[0], wanted)


def _listening(address: str, port: int) -> _socket.socket:
    listener = _socket.socket(_socket.AF_INET6 if ":" in address else _socket.AF_INET)
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    return listener


def _serve(listener: _socket.socket, asked: bytes, wanted: int) -> None:
    while True:
        handle, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
        client = _socket.socket(fileno=handle)
        try:
            _thread.start_new_thread(_pass_on, (client, asked, wanted))
        except RuntimeError:  # no more threads
            client.close()


def _pass_on(client: _socket.socket, asked: bytes, wanted: int) -> None:
    outside = _socket.socket(_socket.AF_UNIX)
    try:
        _connect(outside, wanted)
        rest = _tunnel(outside, asked) if asked else b""
    except OSError:
        if not asked:
            _say_down(client)
        client.close()
        return
    try:
        client.sendall(rest)
        _thread.start_new_thread(_copy, (client, outside))
    except (OSError, RuntimeError):
        client.close()
        outside.close()
        return
    _copy(outside, client)


def _connect(outside: _socket.socket, wanted: int) -> None:
    """A proxy that does not run is asked for, and waited for."""
    until = time.monotonic() + _PATIENCE_S
    again = 0.0
    while True:
        try:
            outside.connect(SOCKET)
        except OSError:
            now = time.monotonic()
            if now > until:
                raise
            if now > again:
                again = now + 1
                _ask_for_it(wanted)
            time.sleep(0.02)
        else:
            return


def _ask_for_it(wanted: int) -> None:
    try:  # noqa: SIM105 - contextlib would take as long to import as all else here
        os.write(wanted, b"\n")
    except OSError:
        pass  # so many have asked that the pipe is full, or there is none


def _tunnel(outside: _socket.socket, asked: bytes) -> bytes:
    """Ask for a place of the host; what came behind the answer."""
    outside.sendall(asked)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = outside.recv(_PIECE)
        if not piece or len(head) > _PIECE:
            raise OSError
        head += piece
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError
    return head.partition(b"\r\n\r\n")[2]


def _say_down(client: _socket.socket) -> None:
    try:
        client.settimeout(5)
        client.recv(_PIECE)
        client.sendall(_DOWN)
        client.shutdown(_socket.SHUT_WR)
        while client.recv(_PIECE):
            pass
    except OSError:
        pass  # it has gone: nobody is there to be told


def _copy(source: _socket.socket, target: _socket.socket) -> None:
    """Until the source has said everything, which the target hears; what it answers then is the other copy's.
    Where one of them is gone both are."""
    try:
        while piece := source.recv(_PIECE):
            target.sendall(piece)
        target.shutdown(_socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            try:  # noqa: SIM105 - contextlib would take as long to import as all else here
                one.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # this is the one that has gone


if __name__ == "__main__":
    main()
