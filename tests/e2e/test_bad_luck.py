"""Peers that vanish, reset or do not read, and a full accept queue: nothing hangs, the others are served."""

from __future__ import annotations

import errno
import hashlib
import select
import socket
import struct
import subprocess
import time

import pytest
from support.clients import CHUNK_BYTES, echo_matches, receive_exactly
from support.netns import Netns, Veth
from support.programs import FOR_WAITING, KERNEL, OURS, Program, Programs, wait_until

PORT = 8000
LO = ("--device", "xdp:lo", "--require")
BOTH = (*LO, "--device", "xdp:veth")


def answers(ns: Netns, host: str = "127.0.0.1") -> bool:
    """Whether an echo server answers a new client."""
    with ns.connect((host, PORT)) as sock:
        return echo_matches(sock, b"still here" * 100)


def no_connections(server: Program) -> bool:
    """Whether our stack has forgotten every connection but those in TIME-WAIT."""
    return all(c["state"] == "TIME-WAIT" for c in server.listing()["connections"])


def test_link_down_and_up_again(programs: Programs, veth: Veth, stack: str) -> None:
    """The client is out of reach for a second in the middle of a download; others are served; it then completes."""
    server = programs.example("http_upload", stack=stack, ns=veth.server, host="0.0.0.0", port=PORT, options=BOTH)
    total = 20_000_000
    with veth.client.connect((veth.server4, PORT), timeout=30) as sock:
        sock.sendall(b"GET /bytes/%d HTTP/1.0\r\n\r\n" % total)
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        digest = hashlib.sha256(receive_exactly(sock, 100_000))
        veth.client.ip("link", "set", "veth", "down")
        with veth.server.connect(("127.0.0.1", PORT)) as other:
            other.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"200 OK" in other.recv(1000)
        time.sleep(1.0)  # long enough for a retransmission to be lost
        veth.client.ip("link", "set", "veth", "up")
        left = total - 100_000
        while left and (part := sock.recv(min(left, CHUNK_BYTES))):
            digest.update(part)
            left -= len(part)
    expected = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"x-sha256"))
    assert left == 0
    assert digest.hexdigest() == expected.decode()
    assert server.running()


def test_client_killed_during_a_download(programs: Programs, netns: Netns, stack: str) -> None:
    """SIGKILL with unread data: the server gets a reset and goes on."""
    server = programs.example("http_upload", stack=stack, ns=netns, port=PORT, options=LO)
    url = f"http://127.0.0.1:{PORT}/bytes/50000000"
    for _ in range(3):
        curl = subprocess.Popen([*netns.exec(), "curl", "-s", "--limit-rate", "100k", "-o", "/dev/null", url])
        wait_until(lambda: f":{PORT}" in netns.run("ss", "-Htn", "state", "established").stdout, "connected")
        curl.kill()
        curl.wait(10)
    assert netns.run("curl", "-sS", "--max-time", "10", f"http://127.0.0.1:{PORT}/").stdout == "hello\n"
    assert server.running()
    if stack == OURS:
        wait_until(lambda: no_connections(server), lambda: str(server.listing()["connections"]))


@pytest.mark.parametrize("name", ["selectors_echo", "threading_echo", "asyncio_protocol_echo", "gevent_echo"])
def test_resets(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """SO_LINGER 0 before, in the middle and after; the server lives and leaks nothing."""
    server = programs.example(name, stack=stack, ns=netns, port=PORT, options=LO)
    assert answers(netns)
    descriptors = server.descriptors()
    for data in (b"", b"x", b"x" * 1_000_000):
        for _ in range(10):
            sock = netns.connect(("127.0.0.1", PORT))
            sock.setblocking(False)
            if data:
                sock.send(data)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    assert answers(netns)
    wait_until(
        lambda: server.descriptors() <= descriptors + FOR_WAITING,
        lambda: f"{server.descriptors()} descriptors are open, there were {descriptors}",
    )
    assert "Traceback" not in server.stderr(), server.stderr()
    if stack == OURS:
        wait_until(lambda: no_connections(server), lambda: str(server.listing()["connections"]))


def test_peer_that_does_not_read(programs: Programs, netns: Netns, stack: str) -> None:
    """Its window closes; memory stays bounded; the others are served; when it reads, everything is there."""
    server = programs.example("selectors_echo", stack=stack, ns=netns, port=PORT, options=LO)
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.setblocking(False)
        block, sent, full = b"0123456789abcdef" * 4096, 0, 0
        while full < 20 and sent < 200_000_000:
            try:
                sent += sock.send(block[sent % len(block) :])
                full = 0
            except BlockingIOError:
                full += 1
                time.sleep(0.01)
        assert full == 20, f"{sent} bytes went into a server whose peer does not read"
        assert answers(netns)
        assert server.rss_bytes() < 150_000_000
        sock.setblocking(True)
        sock.settimeout(20)
        sock.shutdown(socket.SHUT_WR)
        digest, received = hashlib.sha256(), 0
        while part := sock.recv(CHUNK_BYTES):
            digest.update(part)
            received += len(part)
    whole = block * (sent // len(block) + 1)
    assert received == sent
    assert digest.digest() == hashlib.sha256(whole[:sent]).digest()


SLOW_TO_ACCEPT = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 8000), backlog=2)
sys.stdin.readline()
def serve(sock):
    with sock:
        while data := sock.recv(1000):
            sock.sendall(data)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def writable(sock: socket.socket, seconds: float) -> bool:
    """Whether a connection comes about in that time; poll, because select() ends at descriptor 1,024."""
    waiting = select.poll()
    waiting.register(sock, select.POLLOUT)
    return bool(waiting.poll(seconds * 1000))


def open_clients(ns: Netns, count: int, clients: list[socket.socket]) -> None:
    """Starts count connections without waiting for them."""
    with ns.entered():
        for _ in range(count):
            sock = socket.socket()
            clients.append(sock)
            sock.setblocking(False)
            assert sock.connect_ex(("127.0.0.1", PORT)) in (0, errno.EINPROGRESS)


@pytest.mark.parametrize(("stack", "count"), [(KERNEL, 8), (OURS, 8), (OURS, 1100)], indirect=["stack"])
def test_full_accept_queue(programs: Programs, netns: Netns, stack: str, count: int) -> None:
    """Nobody accepts: the queue stays bounded, nobody is refused; and all are served once somebody does.

    Ours holds at least 1,024, whatever the backlog; the kernel's here holds 3. Whoever finds no place tries again.
    """
    options = LO if stack == OURS else ()
    server = programs.start(
        ["-c", SLOW_TO_ACCEPT], stack=stack, ns=netns, port=PORT, options=options, stdin=subprocess.PIPE
    )
    assert server.process.stdin is not None
    clients: list[socket.socket] = []
    try:
        open_clients(netns, count, clients)
        time.sleep(0.3)
        if stack == OURS:
            (listener,) = [e for e in server.listing()["listeners"] if e["local"].endswith(f":{PORT}")]
            assert min(count, 3) <= listener["recv_q"] <= 1025, listener
        server.process.stdin.write(b"\n")
        server.process.stdin.flush()
        for number, sock in enumerate(clients):
            sock.setblocking(True)
            sock.settimeout(30)
            assert writable(sock, 30), f"client {number} is not connected"
            sock.sendall(b"%d" % number)
        for number, sock in enumerate(clients):
            assert sock.recv(10) == b"%d" % number
    finally:
        for sock in clients:
            sock.close()
