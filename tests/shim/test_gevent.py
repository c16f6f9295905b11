"""gevent on both stacks: its three loops, its servers, and the contract of its io watchers.

Each test is a program of its own, because a hub lives as long as its thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import need

from .conftest import KERNEL, OURS

LOOPS = ("libev-cext", "libev-cffi", "libuv-cffi")

# libuv's own io watchers are multiplexed ones, without these attributes; and its loop counts references otherwise.
only_libev = pytest.mark.parametrize("loop", LOOPS[:2], indirect=True)

Gevent = Callable[[str], None]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """gevent's loops."""
    need.module("gevent")
    chosen: str = request.param
    return chosen


@pytest.fixture(params=[KERNEL, OURS])
def gevent(request: pytest.FixtureRequest, loop: str, run_python: Callable[..., Any], monkeypatch: Any) -> Gevent:
    """gevent(program): runs it with one loop on one stack; VIRTUAL is true on ours."""
    chosen = request.param
    monkeypatch.setenv("GEVENT_LOOP", loop)

    def run(program: str) -> None:
        run_python(f"VIRTUAL = {chosen == OURS}\n" + COMMON + program, chosen)

    return run


COMMON = """
import sys

def virtual(sock):
    assert (sock.fileno() >= 2**30) == VIRTUAL, sock
    return sock
"""

ECHO = """
import gevent
from gevent import socket
from gevent.server import StreamServer

def handle(sock, address):
    virtual(sock)
    while data := sock.recv(1000):
        sock.sendall(data)

server = StreamServer(("127.0.0.1", 0), handle)
server.start()
virtual(server.socket)
address = ("127.0.0.1", server.server_port)

def client(number, rounds=5):
    with socket.create_connection(address) as sock:
        virtual(sock)
        for i in range(rounds):
            text = b"%d.%d" % (number, i)
            sock.sendall(text)
            assert sock.recv(1000) == text
    return number
"""


def test_stream_server_and_clients(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
greenlets = [gevent.spawn(client, number) for number in range(100)]
gevent.joinall(greenlets, timeout=20, raise_error=True)
assert sorted(g.value for g in greenlets) == list(range(100))
server.stop()
"""
    )


def test_large_transfer_both_ways(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
data = bytes(range(256)) * 8192
with socket.create_connection(address) as sock:
    sender = gevent.spawn(sock.sendall, data)
    received = bytearray()
    while len(received) < len(data):
        part = sock.recv(65536)
        assert part
        received += part
    sender.join()
assert bytes(received) == data
"""
    )


def test_patched_by_gevent_and_by_us(gevent: Gevent) -> None:
    gevent(
        """
from gevent import monkey
monkey.patch_all()
import socket, socketserver, threading, select, urllib.request, http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        virtual(self.connection)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
virtual(server.socket)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/" % server.server_port
for _ in range(5):
    assert urllib.request.urlopen(url, timeout=10).read() == b"hello"
server.shutdown()
"""
    )


def test_pywsgi(gevent: Gevent) -> None:
    gevent(
        """
import gevent
from gevent import socket
from gevent.pywsgi import WSGIServer

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]

server = WSGIServer(("127.0.0.1", 0), application, log=None)
server.start()
virtual(server.socket)

def get(path):
    with socket.create_connection(("127.0.0.1", server.server_port)) as sock:
        sock.sendall(b"GET %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n" % path)
        answer = b""
        while part := sock.recv(1000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(path), answer

gevent.joinall([gevent.spawn(get, b"/%d" % n) for n in range(30)], timeout=20, raise_error=True)
server.stop()
"""
    )


def test_timeout_and_closing_while_waiting(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
import errno
sock = socket.create_connection(address)
sock.settimeout(0.05)
try:
    sock.recv(1)
except TimeoutError:
    pass
else:
    raise AssertionError("no timeout")
sock.settimeout(10)
def waits():
    try:
        sock.recv(1)
    except OSError as error:
        return error.errno
waiting = gevent.spawn(waits)
gevent.sleep(0.01)
sock.close()
waiting.join(10)
assert waiting.value == errno.EBADF, waiting.value
assert client(1) == 1     # the number is given out again
"""
    )


def test_poll_after_a_close_while_polling(gevent: Gevent) -> None:
    """Who is woken by the close finds the number closed: a second poll says POLLNVAL."""
    gevent(
        """
import gevent, select
from gevent import select as gselect, socket

sock = virtual(socket.socket())
number = sock.fileno()
gevent.spawn(sock.close)
poller = gselect.poll()
poller.register(sock, select.POLLIN)
assert (number, select.POLLIN) in poller.poll(1000)
assert poller.poll(1) == [(number, select.POLLNVAL)]
"""
    )


def test_kernel_descriptors_in_the_same_loop(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
import os
from gevent import subprocess, select
assert client(0) == 0   # a listener that has served nobody goes to the kernel at a fork, and gevent's Popen is one
from gevent.os import make_nonblocking, nb_read
near, far = socket.socketpair()
r, w = os.pipe()
make_nonblocking(r)
greenlets = [
    gevent.spawn(near.recv, 10), gevent.spawn(nb_read, r, 10), gevent.spawn(client, 3),
    gevent.spawn(subprocess.check_output, [sys.executable, "-c", "print(5)"]),
]
gevent.sleep(0.01)
far.send(b"unix")
os.write(w, b"pipe")
gevent.joinall(greenlets, timeout=20, raise_error=True)
assert [g.value for g in greenlets] == [b"unix", b"pipe", 3, b"5\\n"], [g.value for g in greenlets]

sock = socket.create_connection(address)
far.send(b"x")
readable, writable, _ = select.select([sock, near], [sock], [], 10)
assert near in readable or sock in writable
sock.send(b"x")
assert select.select([sock], [], [], 10)[0] == [sock]
"""
    )


def test_a_busy_socket_does_not_starve_timers_and_pipes(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
import os
from gevent.os import make_nonblocking, nb_read
r, w = os.pipe()
make_nonblocking(r)
busy = [gevent.spawn(client, n, 10**9) for n in range(4)]
pipe = gevent.spawn(nb_read, r, 10)
with gevent.Timeout(20):
    gevent.sleep(0.01)
    os.write(w, b"x")
    assert pipe.get() == b"x"
gevent.killall(busy)
"""
    )


@only_libev
def test_the_loop_ends_when_nothing_is_referenced(gevent: Gevent) -> None:
    gevent(
        """
import gevent
from gevent import socket
with socket.socket() as listener:
    virtual(listener)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    hub = gevent.get_hub()
    watcher = hub.loop.io(listener.fileno(), 1, ref=False)
    watcher.start(lambda: None)
    assert hub.join(timeout=5), "a watcher without ref kept the loop"
    watcher.ref = True
    assert not hub.join(timeout=0.05), "a watcher with ref did not keep the loop"
    watcher.close()
"""
    )


@only_libev
def test_watcher_contract(gevent: Gevent) -> None:
    """What gevent's own io watchers do, on whichever stack."""
    gevent(
        """
import gevent
from gevent import socket
listener = virtual(socket.socket())
listener.bind(("127.0.0.1", 0))
listener.listen()
sock = socket.create_connection(listener.getsockname())
loop = gevent.get_hub().loop
fd = sock.fileno()
calls = []

watcher = loop.io(fd, 2)
assert (watcher.fd, watcher.active, watcher.callback, watcher.args) == (fd, False, None, None)
assert watcher.loop is loop and watcher.ref is True and not watcher.pending
for bad in (3, None):
    try:
        watcher.start(bad)
    except TypeError:
        pass
    else:
        raise AssertionError(bad)
watcher.start(lambda *args: (calls.append(args), watcher.stop()), 1, 2)
assert watcher.active and watcher.args == (1, 2)
gevent.sleep(0.01)
assert calls == [(1, 2)]
assert not watcher.active and watcher.callback is None and watcher.args is None

level = []
watcher.start(lambda: (level.append(1), len(level) == 3 and watcher.stop()))
gevent.sleep(0.01)
assert len(level) == 3, level

def fails():
    raise ZeroDivisionError
seen = []
loop.error_handler = type("H", (), {"handle_error": staticmethod(lambda *args: seen.append(args[1]))})
watcher.start(fails)
gevent.sleep(0.01)
assert seen == [ZeroDivisionError], seen
assert not watcher.active
watcher.close()

for arguments in ((fd, 64), (10**6, 1), (2**30 + 10**5, 1), (-1, 1)):
    try:
        loop.io(*arguments)
    except (ValueError, OSError):
        pass
    else:
        raise AssertionError(arguments)
with loop.io(fd, 1) as reader:
    assert "READ" in repr(reader)
    reader.start(print)
    sock.close()
"""
    )


def test_two_hubs_in_two_threads(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
import threading
results = []
def run():
    results.append([client(n) for n in range(5)])
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    gevent.sleep(0.01)
assert results == [list(range(5))] * 3
"""
    )


def test_fork(gevent: Gevent) -> None:
    gevent(
        ECHO
        + """
import os
assert client(1) == 1
pid = gevent.os.fork()
if pid == 0:
    server2 = StreamServer(("127.0.0.1", 0), handle)
    server2.start()
    address = ("127.0.0.1", server2.server_port)
    os._exit(0 if client(2) == 2 else 1)
assert client(3) == 3
_pid, status = gevent.os.waitpid(pid, 0)
assert status == 0, status
"""
    )
