"""A listener that several processes accept on: who takes it over, and what becomes of it when that one ends."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.netns import Netns
from support.programs import OURS, Program, Programs, parse_listing, wait_until

PORT = 8000
ADDRESS = ("127.0.0.1", PORT)

# A pre-forking server that does what its clients say. Each worker accepts in the way that its command line names.
SERVER = """
import asyncio, contextlib, os, select, socket, sys, time
listener = socket.create_server(("127.0.0.1", 8000))

def serve(sock):
    with sock:
        while words := sock.recv(100).split():
            if words[0] == b"sleep":
                time.sleep(float(words[1]))
            elif words[0] == b"stop":  # gracefully: no new connections, this one goes on
                listener.close()
            elif words[0] == b"fork":
                if os.fork() == 0:
                    os._exit(0)
                os.wait()
            elif words[0] == b"ask":  # a request to the server's own address
                with socket.create_connection(("127.0.0.1", 8000), timeout=10) as other:
                    other.sendall(b"pid")
                    sock.sendall(other.recv(100))
                    continue
            sock.sendall(b"%d" % os.getpid())

def blocking():
    while True:
        serve(listener.accept()[0])

def selecting(wait):
    listener.setblocking(False)
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            wait()
            continue
        sock.setblocking(True)
        serve(sock)

def in_select():
    selecting(lambda: select.select([listener], [], [], 10))

def in_poll():
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    selecting(poll.poll)

def in_epoll():
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    while True:
        epoll.poll()
        with contextlib.suppress(BlockingIOError):
            sock, _ = listener.accept()
            serve(sock)

def in_asyncio():
    async def main():
        async def handle(reader, writer):
            while data := await reader.read(100):
                writer.write(b"%d" % os.getpid())
            writer.close()
        await asyncio.start_server(handle, sock=listener)
        await asyncio.sleep(1000)
    asyncio.run(main())

def fork():
    if os.fork() == 0:
        globals()[sys.argv[1]]()


for _ in range(int(sys.argv[2])):
    fork()
while True:
    os.waitpid(-1, 0)
    fork()
"""


class Server:
    """The server and how it is asked."""

    def __init__(self, programs: Programs, netns: Netns, stack: str, how: str = "blocking", workers: int = 1) -> None:
        options = ("--device", "xdp:lo", "--require") if stack == OURS else ()
        self.netns, self.programs, self.stack = netns, programs, stack
        self.program: Program = programs.start(
            ["-c", SERVER, how, str(workers)], stack=stack, ns=netns, port=PORT, options=options, expect_on_stack=False
        )
        if stack == OURS:
            wait_until(lambda: self.owner() is not None, self.program.stderr)

    def documents(self) -> list[dict[str, Any]]:
        """The listing of each process."""
        found = []
        for path in pathlib.Path(self.programs.runtime_dir).glob("*.sock"):
            with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(path))
                found.append(parse_listing(b"".join(iter(lambda s=sock: s.recv(65536), b"")).decode()))
        return found

    def owner(self) -> int | None:
        """Who has taken the listener over."""
        owners = [document["pid"] for document in self.documents() if document["listeners"]]
        assert len(owners) < 2, owners
        return owners[0] if owners else None

    def accepted(self) -> int:
        """Connections that our stack accepted, in all processes."""
        return sum(document["counters"]["accepted"] for document in self.documents())

    @contextlib.contextmanager
    def client(self) -> Iterator[socket.socket]:
        """A connection of the kernel's, whose calls end within ten seconds."""
        with self.netns.connect(ADDRESS) as sock:
            yield sock

    def ask(self, words: bytes = b"pid") -> int:
        """Who answers, on a connection of its own."""
        with self.client() as sock:
            return asked(sock, words)


def asked(sock: socket.socket, words: bytes = b"pid") -> int:
    """Who answers."""
    sock.sendall(words)
    return int(sock.recv(100))


@pytest.mark.parametrize("how", ["blocking", "in_select", "in_poll", "in_epoll", "in_asyncio"])
def test_the_only_worker_serves_on_our_stack(programs: Programs, netns: Netns, stack: str, how: str) -> None:
    """Whichever way it waits, from its first connection on."""
    server = Server(programs, netns, stack, how)
    worker = server.ask()
    if stack == OURS:
        assert (server.owner(), server.accepted()) == (worker, 1)
        # One that comes while the last is still being taken leave of is the kernel's.
        wait_until(lambda: server.ask() == worker and server.accepted() >= 5, lambda: str(server.documents()))
    assert server.ask() == worker


def test_many_clients_at_once_are_served_by_either_stack(programs: Programs, netns: Netns, stack: str) -> None:
    """Those beyond the one that our stack lets in wait in the kernel's queue."""
    server = Server(programs, netns, stack)
    with contextlib.ExitStack() as clients:
        socks = [clients.enter_context(server.client()) for _ in range(30)]
        for sock in socks:
            assert asked(sock) > 0
            sock.close()


def test_a_busy_worker_keeps_nobody_waiting(programs: Programs, netns: Netns, stack: str) -> None:
    """While the one that has the devices is busy, its idle brother serves all."""
    server = Server(programs, netns, stack, workers=2)
    with server.client() as slow:
        busy = asked(slow)  # this worker looks after its client and does not accept
        for _ in range(5):
            other = server.ask()
            assert other != busy
        assert asked(slow) == busy


def test_a_worker_that_asks_its_own_server_is_answered_by_another(programs: Programs, netns: Netns, stack: str) -> None:
    """Not by itself, in memory, for it would wait for ever."""
    server = Server(programs, netns, stack, workers=2)
    with server.client() as sock:
        first = asked(sock)
        assert asked(sock, b"ask") != first


def test_a_worker_that_forks_keeps_the_listener(programs: Programs, netns: Netns, stack: str) -> None:
    """Its child has the kernel's half of it, as its brothers have."""
    server = Server(programs, netns, stack)
    worker = server.ask(b"fork")
    assert server.ask() == worker
    if stack == OURS:
        assert server.owner() == worker
        wait_until(lambda: server.ask() == worker and server.accepted() >= 3, lambda: str(server.documents()))


def test_a_killed_worker_leaves_a_server_that_serves(programs: Programs, netns: Netns, stack: str) -> None:
    """By SIGKILL: the next connections are the kernel's until the next worker takes over."""
    server = Server(programs, netns, stack)
    first = server.ask()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in netns.pids(), "the worker is gone")  # until then it may accept yet
    second = server.ask()
    assert second != first
    if stack == OURS:
        wait_until(lambda: server.ask() == second and server.owner() == second, server.program.stderr)
        before = server.accepted()
        server.ask()
        wait_until(lambda: server.ask() and server.accepted() > before, lambda: str(server.documents()))


def test_a_worker_that_stops_keeps_its_connections(programs: Programs, netns: Netns, stack: str) -> None:
    """It closes its listener; its brother's goes on, and takes all new connections."""
    server = Server(programs, netns, stack, workers=2)
    with server.client() as sock:
        first = asked(sock)
        assert asked(sock, b"stop") == first
        for _ in range(5):
            assert server.ask() != first
        assert asked(sock) == first
