"""Stock peers that are not Python: nc as client and as server."""

from __future__ import annotations

import subprocess

from support import need
from support.netns import Netns
from support.programs import OURS, Programs, wait_until

PORT = 8000
LO = ("--device", "xdp:lo", "--require")

SEND_TO = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as sock:
    names = sock.getpeername()[1], sock.getsockname()[0]  # asked for while it is connected
    sock.sendall(b"from python\\n")
    sock.shutdown(socket.SHUT_WR)
    print(b"".join(iter(lambda: sock.recv(1000), b"")).decode(), end="", flush=True)
    print(*names)
"""


def nc_listens(ns: Netns) -> bool:
    """Whether something listens on the port in the namespace's kernel."""
    return f":{PORT}" in ns.run("ss", "-Htln").stdout


def test_nc_as_client(programs: Programs, netns: Netns, stack: str) -> None:
    """nc sends, half-closes (-N), reads the echo to its end."""
    need.tool("nc")
    programs.example("threading_echo", stack=stack, ns=netns, port=PORT, options=LO)
    lines = "".join(f"line {number}\n" for number in range(20_000))
    reply = netns.run("nc", "-N", "-w", "10", "127.0.0.1", str(PORT), input=lines)
    assert reply.stdout == lines


def test_nc_as_server(programs: Programs, netns: Netns, stack: str) -> None:
    """nc listens, our side connects, both send, both close."""
    need.tool("nc")
    need.tool("ss")
    for host in ("127.0.0.1", "::1"):
        nc = subprocess.Popen(
            [*netns.exec(), "nc", "-N", "-l", host, str(PORT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_until(lambda: nc_listens(netns), "nc listens")
            client = programs.start(["-c", SEND_TO, host, str(PORT)], stack=stack, ns=netns, options=LO)
            out, _ = nc.communicate("from nc\n", timeout=20)
            assert client.wait(20) == 0, client.stderr()
            assert out == "from python\n"
            assert client.stdout() == f"from nc\n{PORT} {host}\n"
        finally:
            nc.kill()
            nc.wait(10)


def test_refused(programs: Programs, netns: Netns, stack: str) -> None:
    """Nobody listens: ECONNREFUSED, at once, with the kernel's errno."""
    argv = ["-c", SEND_TO, "127.0.0.1", str(PORT)]
    client = programs.start(argv, stack=stack, ns=netns, options=LO)
    assert client.wait(20) == 1
    assert "ConnectionRefusedError: [Errno 111] Connection refused" in client.stderr()


def test_stock_http_server(programs: Programs, netns: Netns, stack: str) -> None:
    """urllib, http.client and create_connection to ``python -m http.server`` on the kernel."""
    programs.start(["-m", "http.server", str(PORT), "--bind", "127.0.0.1"], ns=netns, port=PORT, cwd="/")
    code = f"""
import http.client, socket, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
assert b"Directory listing" in opener.open("http://127.0.0.1:{PORT}/", timeout=20).read()
connection = http.client.HTTPConnection("127.0.0.1", {PORT}, timeout=20)
connection.request("GET", "/")
assert connection.getresponse().status == 200
with socket.create_connection(("127.0.0.1", {PORT}), timeout=20) as sock:
    sock.sendall(b"HEAD / HTTP/1.0\\r\\n\\r\\n")
    assert sock.makefile("rb").readline().startswith(b"HTTP/1.0 200")
print("three answers")
"""
    client = programs.start(["-c", code], stack=stack, ns=netns, options=LO)
    assert client.wait(30) == 0, client.stderr()
    assert client.stdout() == "three answers\n"


def test_outgoing_connection_is_ours(programs: Programs, patched: object, netns: Netns) -> None:
    """While it is open, the kernel has the server's half only and our listing has the client's."""
    need.xdp()
    programs.example("threading_echo", ns=netns, port=PORT)
    code = f"""
import socket, sys
with socket.create_connection(("127.0.0.1", {PORT}), timeout=20) as sock:
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    print(sock.getsockname()[1], flush=True)
    sys.stdin.read()
"""
    client = programs.start(["-c", code], stack=OURS, ns=netns, options=LO, stdin=subprocess.PIPE)
    wait_until(lambda: client.stdout() or not client.running(), lambda: client.stderr())
    assert client.running(), client.stderr()
    local = client.stdout().strip()
    rows = [line.split() for line in netns.run("ss", "-Htn").stdout.splitlines()]
    assert not [row for row in rows if row[3].endswith(f":{local}")], f"the kernel has our half: {rows}"
    assert [row for row in rows if row[4].endswith(f":{local}")], rows
    ours = [c for c in client.listing()["connections"] if c["local"].endswith(f":{local}")]
    assert [(c["state"], c["device"]) for c in ours] == [("ESTAB", "xdp:lo")], ours
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.wait(10) == 0, client.stderr()
