"""Socket options that bound a wait: SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT and SO_LINGER, on both stacks.

Only lower bounds of times are asserted: how long a machine takes beyond them is its own affair.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from .conftest import OURS, Sockets, readable

HALF_A_SECOND = struct.pack("ll", 0, 500_000)
ONE_SECOND = struct.pack("ii", 1, 1)


def filled(sock: socket.socket) -> None:
    """Writes until neither our buffer nor the peer's takes more."""
    sock.setblocking(False)
    quiet = 0
    while quiet < 20:
        try:
            sock.send(bytes(1 << 20))
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.01)
    sock.setblocking(True)


def test_rcvtimeo_ends_a_blocking_recv_with_eagain(sockets: Sockets) -> None:
    client, _server = sockets.pair()
    client.settimeout(None)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, HALF_A_SECOND)
    begin = time.monotonic()
    with pytest.raises(BlockingIOError):
        client.recv(1)
    assert time.monotonic() - begin > 0.45


def test_rcvtimeo_ends_a_blocking_accept_with_eagain(sockets: Sockets) -> None:
    listener = sockets.listener()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, HALF_A_SECOND)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_an_accepted_connection_inherits_the_timeouts(sockets: Sockets) -> None:
    listener = sockets.listener()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, HALF_A_SECOND)
    client = sockets.tcp()
    client.connect(listener.getsockname())
    server = sockets.keep(listener.accept()[0])
    with pytest.raises(BlockingIOError):
        server.recv(1)


def test_sndtimeo_ends_a_blocking_send_with_eagain(sockets: Sockets) -> None:
    client, _server = sockets.pair()
    filled(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, HALF_A_SECOND)
    with pytest.raises(BlockingIOError):
        while True:  # the first may still find a little room
            client.send(bytes(1 << 22))


def test_a_timeout_of_pythons_is_not_the_sockets(sockets: Sockets) -> None:
    client, _server = sockets.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)


@pytest.mark.parametrize(
    "close", [socket.socket.close, lambda sock: os.close(sock.detach())], ids=["close", "os.close"]
)
def test_linger_blocks_close_for_its_time(sockets: Sockets, close: object) -> None:
    assert callable(close)
    client, _server = sockets.pair()
    filled(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ONE_SECOND)
    begin = time.monotonic()
    close(client)
    assert time.monotonic() - begin > 0.9


def test_linger_ends_when_the_peer_has_everything(sockets: Sockets) -> None:
    client, server = sockets.pair()
    filled(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))

    def drain() -> None:
        with suppress(OSError):
            while server.recv(1 << 20):
                pass

    reader = threading.Thread(target=drain)
    reader.start()
    client.close()  # or the test's own timeout strikes
    reader.join()


def test_linger_zero_resets(sockets: Sockets) -> None:
    client, server = sockets.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_linger_zero_resets_after_what_was_sent(sockets: Sockets) -> None:
    """The reset does not overtake data that the windows allowed to leave; once it is there, there is no peer."""
    client, server = sockets.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.send(b"last words")
    client.close()
    with pytest.raises(OSError) as caught:
        server.getpeername()
    assert caught.value.errno == errno.ENOTCONN
    assert server.recv(100) == b"last words"
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_a_close_with_unread_data_resets_after_what_was_sent(sockets: Sockets) -> None:
    """As a TLS server does that refuses a certificate: its alert is read before the reset."""
    client, server = sockets.pair()
    server.send(b"never read")
    readable(client)
    client.send(b"alert")
    client.close()
    assert server.recv(100) == b"alert"
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_rcvlowat_keeps_poll_asleep(sockets: Sockets) -> None:
    client, server = sockets.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 6)
    server.sendall(b"abc")
    assert select.select([client], [], [], 0.2)[0] == []
    server.sendall(b"def")
    readable(client)
    client.setblocking(False)
    assert client.recv(4) == b"abcd"
    assert select.select([client], [], [], 0)[0] == []
    assert client.recv(4) == b"ef"  # who does not wait is given what is there


def test_rcvlowat_lets_a_blocking_recv_wait_for_enough() -> None:
    # Linux's own sleeps on here: it counts what it has copied already as not there.
    import mtcp_patch

    mtcp_patch.install(device=["memory"])
    sockets = Sockets(OURS)
    try:
        client, server = sockets.pair()
        client.settimeout(None)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 6)
        server.sendall(b"abc")
        later = threading.Timer(0.2, server.sendall, [b"def"])
        later.start()
        assert client.recv(100) == b"abcdef"
        later.join()
        server.sendall(b"xyz")
        assert client.recv(2) == b"xy"  # no more than there is room for
    finally:
        sockets.close()
        mtcp_patch.uninstall()
