"""The layouts `merged` and `split`: the same answers, while a thread of the stack drives, on the core it shall."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest
from support import need
from support.netns import Netns
from support.programs import EXAMPLES, OURS, Programs

PORT = 8000
HOST = "127.0.0.1"
LO = ("--device", "xdp:lo", "--require")
SERVERS = ["threading_echo", "selectors_echo", "asyncio_streams_echo", "gevent_echo"]


def tcp_thread(pid: int) -> pathlib.Path:
    """The stack's thread in /proc."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    (found,) = (task for task in tasks if (task / "comm").read_text() == "mtcp-tcp\n")
    return found


def cores(task: pathlib.Path) -> set[int]:
    """Where a thread may run."""
    return os.sched_getaffinity(int(task.name))


@pytest.mark.parametrize("layout", ["merged", "split"])
@pytest.mark.parametrize("name", SERVERS)
def test_echo(programs: Programs, netns: Netns, layout: str, name: str) -> None:
    """Small messages on two connections, then 3 MB, all carried by our stack."""
    if name.startswith("gevent"):
        need.module("gevent")
    options = (*LO, "--layout", layout)
    server = programs.example(name, stack=OURS, ns=netns, host=HOST, port=PORT, options=options)
    with netns.connect((HOST, PORT)) as first, netns.connect((HOST, PORT)) as second:
        for number in range(50):
            for sock in (first, second):
                sock.sendall(b"%060d" % number)
                assert sock.recv(100) == b"%060d" % number
    client = netns.run(
        "python3", str(EXAMPLES / "client_tcp.py"), "--host", HOST, "--port", str(PORT), "--bytes", "3000000"
    )
    assert "the same" in client.stdout
    assert server.running(), server.stderr()
    assert server.listing()["counters"]["bytes_in"] > 3_000_000
    allowed = os.sched_getaffinity(server.pid)
    if len(allowed) > 1:
        bound = cores(tcp_thread(server.pid))
        assert bound < allowed
        assert len(bound) == (1 if layout == "merged" else len(allowed) - 1)


@pytest.mark.parametrize("layout", ["merged", "split"])
def test_client_and_server_in_one_process(netns: Netns, layout: str, tmp_path: pathlib.Path) -> None:
    """Loopback is delivered within the call, and a thread that waits is woken."""
    program = tmp_path / "both.py"
    program.write_text(
        "import socket, threading\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(listener.getsockname())\n"
        "server, _ = listener.accept()\n"
        "assert client.fileno() >= 2**30 and server.fileno() >= 2**30\n"
        "client.setblocking(False)\n"
        "server.sendall(b'at once')\n"
        "assert client.recv(100) == b'at once'\n"
        "def echo():\n"
        "    while data := server.recv(65536):\n"
        "        server.sendall(data)\n"
        "    server.close()\n"
        "thread = threading.Thread(target=echo)\n"
        "thread.start()\n"
        "client.settimeout(20)\n"
        "for number in range(200):\n"
        "    client.sendall(b'%010d' % number)\n"
        "    assert client.recv(100) == b'%010d' % number\n"
        "client.shutdown(socket.SHUT_WR)\n"
        "assert client.recv(100) == b''\n"
        "thread.join()\n"
        "print('done')\n"
    )
    done = netns.run(sys.executable, "-m", "mtcp_patch", "--layout", layout, str(program), check=False)
    assert done.stdout == "done\n", done.stderr
