"""A listener and its duplicate in one epoll: each is watched for itself."""

from __future__ import annotations

import select
import subprocess
import sys

from .conftest import Sockets


def test_duplicates_of_a_listener_are_watched_each_for_itself(sockets: Sockets) -> None:
    """A connection by the kernel's stack is reported for both; without one the other goes on."""
    listener = sockets.listener()
    duplicate = sockets.keep(listener.dup())
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    epoll.register(duplicate, select.EPOLLIN)
    connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
    port = str(listener.getsockname()[1])
    subprocess.run([sys.executable, "-I", "-S", "-c", connect, port], check=True, timeout=30)
    both = {listener.fileno(), duplicate.fileno()}
    assert {fd for fd, _ in epoll.poll(10)} == both
    epoll.unregister(listener)
    listener.close()
    assert [fd for fd, _ in epoll.poll(10)] == [duplicate.fileno()]
    epoll.modify(duplicate, 0)
    assert epoll.poll(0) == []
    epoll.modify(duplicate, select.EPOLLIN)
    assert [fd for fd, _ in epoll.poll(10)] == [duplicate.fileno()]
    epoll.unregister(duplicate)
    assert epoll.poll(0) == []
    epoll.close()
