"""``python -m http.server`` as it stands: every address it is reached by, who owns a connection, load by wrk.

Without ``--bind`` it takes the first address that getaddrinfo() names, which is ``0.0.0.0`` or ``::`` as the machine
has it (glibc's order); so the tests that need both families say ``--bind ::``, the dual-stack listener.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from support import need
from support.netns import Netns, Veth
from support.programs import OURS, Program, Programs, clean_environment, wait_until

PORT = 8123
LO = ("--device", "xdp:lo", "--require")


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """What is served: a small page and a large file."""
    (tmp_path / "index.html").write_text("<p>a page</p>\n")
    with open(tmp_path / "large.bin", "wb") as large:
        for number in range(200):
            large.write(hashlib.sha256(bytes([number])).digest() * 4096)
    return tmp_path


@pytest.fixture
def serve(programs: Programs, directory: pathlib.Path) -> Callable[..., Program]:
    """Starts ``-m http.server`` in a namespace."""

    def start(stack: str, ns: Netns, *argv: str, options: tuple[str, ...] = LO) -> Program:
        command = ["-m", "http.server", str(PORT), *(argv or ("--bind", "::"))]
        return programs.start(command, stack=stack, ns=ns, port=PORT, options=options, cwd=str(directory))

    return start


def packets_in(program: Program) -> int:
    """How many packets our stack has received so far."""
    return int(program.listing()["counters"]["packets_in"])


def test_every_address_answers(serve: Callable[..., Program], stack: str, veth: Veth) -> None:
    """Dual-stack ``::``, as http.server binds it: IPv4, by name, IPv6, and the host's own addresses."""
    need.tool("curl")
    server = serve(stack, veth.server)
    for host in ("127.0.0.1", "localhost", "[::1]", veth.server4, f"[{veth.server6}]", "127.1.2.3"):
        before = packets_in(server) if stack == OURS else 0
        reply = veth.server.run("curl", "-sS", "--max-time", "10", f"http://{host}:{PORT}/", check=False)
        assert reply.returncode == 0, (host, reply.stderr, server.stderr())
        assert reply.stdout == "<p>a page</p>\n", host
        if stack == OURS:
            assert packets_in(server) > before, f"{host} was not answered by our stack"


def test_reached_by_an_interface_that_is_not_steered(serve: Callable[..., Program], stack: str, veth: Veth) -> None:
    """The union listener: only lo is ours here, the client comes by veth, the kernel takes it."""
    need.tool("curl")
    serve(stack, veth.server)
    for host in (veth.server4, f"[{veth.server6}]"):
        reply = veth.client.run("curl", "-sS", "--max-time", "10", f"http://{host}:{PORT}/")
        assert reply.stdout == "<p>a page</p>\n"


def test_two_devices_at_once(serve: Callable[..., Program], patched: object, veth: Veth) -> None:
    """lo and veth both ours."""
    need.xdp()
    need.tool("curl")
    server = serve(OURS, veth.server, options=(*LO, "--device", "xdp:veth"))
    for ns, host in ((veth.server, "127.0.0.1"), (veth.client, veth.server4), (veth.client, f"[{veth.server6}]")):
        before = packets_in(server)
        reply = ns.run("curl", "-sS", "--max-time", "10", f"http://{host}:{PORT}/")
        assert reply.stdout == "<p>a page</p>\n"
        assert packets_in(server) > before, f"{host} was not answered by our stack"


def kernel_connections(ns: Netns) -> list[tuple[str, str]]:
    """(local, peer) of the kernel's established connections, by ss."""
    rows = [line.split() for line in ns.run("ss", "-Htn").stdout.splitlines()]
    return [(row[3], row[4]) for row in rows if row[0] == "ESTAB"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_half_is_where_it_belongs(
    serve: Callable[..., Program], patched: object, netns: Netns, programs: Programs, host: str
) -> None:
    """During a slow download the kernel knows the client's half only, our listing the server's."""
    need.xdp()
    need.tool("ss")
    need.tool("curl")
    server = serve(OURS, netns)
    url = f"http://[{host}]:{PORT}/large.bin" if ":" in host else f"http://{host}:{PORT}/large.bin"
    curl = subprocess.Popen([*netns.exec(), "curl", "-sS", "--limit-rate", "500k", "-o", "/dev/null", url])
    try:
        port = f":{PORT}"
        wait_until(lambda: any(peer.endswith(port) for _, peer in kernel_connections(netns)), "curl is connected")
        wait_until(lambda: any(c["state"] == "ESTAB" for c in server.listing()["connections"]), "it is in our listing")
        in_kernel = kernel_connections(netns)
        assert [peer for local, peer in in_kernel if peer.endswith(port)], in_kernel
        assert not [local for local, _ in in_kernel if local.endswith(port)], f"the kernel has our half: {in_kernel}"
        listed = subprocess.run(
            [sys.executable, "-m", "mtcp_patch.ss", "--json", "--pid", str(server.pid)],
            env=clean_environment(programs.runtime_dir), capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
        document = json.loads(listed)
        process = document[0] if isinstance(document, list) else document
        ours = [c for c in process["connections"] if c["state"] == "ESTAB"]
        assert [c["device"] for c in ours if c["local"].endswith(port)] == ["xdp:lo"], ours
    finally:
        curl.kill()
        curl.wait(10)


def test_large_file_is_the_same(
    serve: Callable[..., Program], stack: str, netns: Netns, tmp_path: pathlib.Path
) -> None:
    """26 MB by curl."""
    need.tool("curl")
    serve(stack, netns)
    copy = tmp_path / "copy.bin"
    netns.run("curl", "-sS", "--max-time", "40", "-o", str(copy), f"http://localhost:{PORT}/large.bin", timeout=50)
    same = hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256((tmp_path / "large.bin").read_bytes()).digest()
    assert same


def test_wrk_without_errors(programs: Programs, stack: str, netns: Netns, request: pytest.FixtureRequest) -> None:
    """256 connections at once; wrk counts every error. The long form is the issue's own: -d 10."""
    need.tool("wrk")
    seconds = 10 if request.config.getoption("--full") else 3
    server = programs.example("http_upload", stack=stack, ns=netns, port=PORT, options=LO)
    output = netns.run("wrk", "-c", "256", "-t", "1", "-d", str(seconds), f"http://127.0.0.1:{PORT}/").stdout
    assert "requests in" in output, output
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    assert server.running()


def test_wrk_on_the_stock_server(serve: Callable[..., Program], stack: str, netns: Netns) -> None:
    """``-m http.server``: HTTP/1.0, a connection a request, a backlog of 5; and it still answers afterwards."""
    need.tool("wrk")
    server = serve(stack, netns)
    output = netns.run("wrk", "-c", "256", "-t", "1", "-d", "3", f"http://127.0.0.1:{PORT}/").stdout
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    assert server.running()
    assert netns.run("curl", "-sS", "--max-time", "10", f"http://127.0.0.1:{PORT}/").stdout == "<p>a page</p>\n"
