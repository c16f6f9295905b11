"""A socket whose connection was refused may try again, bind and listen: the same on both stacks."""

from __future__ import annotations

import pytest
from support.netns import Netns
from support.programs import Programs

# "device" goes by xdp:lo, "none" has no device: an attempt to another process then goes by the kernel's stack.
OPTIONS = {"device": ("--device", "xdp:lo"), "none": ("--device", "memory")}

PROGRAM = """
import errno, os, select, socket
closed = socket.create_server(("127.0.0.1", 0))
dead = closed.getsockname()
closed.close()
live = socket.create_server(("127.0.0.1", 0))

def poll(sock):
    p = select.poll()
    p.register(sock)
    return p.poll(0)[0][1]

def refused():
    sock = socket.socket()
    assert (sock.fileno() >= 2**30) == ("MTCP_PATCH_DEVICE" in os.environ), os.environ
    assert sock.connect_ex(dead) == errno.ECONNREFUSED
    return sock

sock = refused()
assert sock.getsockname()[0] == "0.0.0.0" and sock.getsockname()[1], sock.getsockname()
assert poll(sock) == select.POLLOUT | select.POLLHUP, poll(sock)
for _ in range(2):
    assert sock.connect_ex(dead) == errno.ECONNREFUSED
sock.connect(live.getsockname())
assert sock.getpeername() == live.getsockname() and sock.getsockname()[0] == "127.0.0.1"
server, _ = live.accept()
sock.sendall(b"x")
assert server.recv(1) == b"x"

sock = refused()
sock.bind(("127.0.0.1", 0))
sock.listen()
socket.create_connection(sock.getsockname()).close()

sock = refused()
sock.listen()
socket.create_connection(("127.0.0.1", sock.getsockname()[1])).close()

sock = socket.socket()  # SO_ERROR tells the error, the next connect() ends the attempt, the one after it is a new one
sock.setblocking(False)
assert sock.connect_ex(dead) == errno.EINPROGRESS
select.select([], [sock], [], 10)
assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
assert sock.connect_ex(live.getsockname()) == errno.ECONNABORTED
assert sock.connect_ex(live.getsockname()) == errno.EINPROGRESS
select.select([], [sock], [], 10)
assert sock.connect_ex(live.getsockname()) == 0
assert sock.connect_ex(live.getsockname()) == errno.EISCONN
"""


@pytest.mark.parametrize("way", OPTIONS)
def test_a_refused_socket_may_try_again(programs: Programs, netns: Netns, stack: str, way: str) -> None:
    """It is bound to no address that the first attempt chose."""
    program = programs.start(["-c", PROGRAM], stack=stack, ns=netns, options=OPTIONS[way])
    assert program.wait(30) == 0, program.stderr()
