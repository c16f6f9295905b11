"""Urgent data and what ioctl(2) says of the queues: the same on both stacks."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios

import pytest

from .conftest import Sockets, readable

SIOCATMARK = 0x8905


def urgent(sock: socket.socket, flags: int = 0) -> bytes:
    """The urgent octet. Python waits for ordinary data first on a socket with a timeout."""
    sock.settimeout(None)
    octet = sock.recv(1, socket.MSG_OOB | flags)
    sock.settimeout(10)
    return octet


def asked(sock: socket.socket, request: int) -> int:
    """The int that an ioctl writes."""
    answer: int = struct.unpack("i", fcntl.ioctl(sock, request, bytes(4)))[0]
    return answer


def test_urgent_data_comes_out_of_line(sockets: Sockets) -> None:
    client, server = sockets.pair()
    with pytest.raises(OSError) as nothing:
        urgent(server)
    assert nothing.value.errno == errno.EINVAL
    assert client.send(b"abU", socket.MSG_OOB) == 3
    assert select.select([], [], [server], 10)[2] == [server]
    client.sendall(b"cd")
    assert urgent(server, socket.MSG_PEEK) == b"U"
    assert server.recv(9) == b"ab"
    assert asked(server, SIOCATMARK) == 1
    assert urgent(server) == b"U"
    readable(server)
    assert server.recv(2) == b"cd"
    assert asked(server, SIOCATMARK) == 0


def test_urgent_data_stays_in_line(sockets: Sockets) -> None:
    client, server = sockets.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    client.send(b"abU", socket.MSG_OOB)
    assert select.select([], [], [server], 10)[2] == [server]
    assert server.recv(9) == b"ab"
    assert asked(server, SIOCATMARK) == 1
    assert server.recv(9) == b"U"


def test_poll_says_pri(sockets: Sockets) -> None:
    client, server = sockets.pair()
    poll = select.poll()
    poll.register(server, select.POLLPRI)
    client.send(b"U", socket.MSG_OOB)
    assert poll.poll(10_000) == [(server.fileno(), select.POLLPRI)]
    assert urgent(server) == b"U"
    assert poll.poll(0) == []


def test_the_queues_are_measured(sockets: Sockets) -> None:
    client, server = sockets.pair()
    client.sendall(b"12345")
    readable(server)
    assert asked(server, termios.FIONREAD) == 5
    server.recv(2)
    assert asked(server, termios.FIONREAD) == 3
    while asked(client, termios.TIOCOUTQ):  # acknowledged within a delayed ACK
        select.select([], [], [], 0.01)
    listener = sockets.listener()
    with pytest.raises(OSError) as queue:
        asked(listener, termios.FIONREAD)
    assert queue.value.errno == errno.EINVAL
