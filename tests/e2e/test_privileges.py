"""Without privileges, and with the queue owned by another process: everything works, said once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from support import need
from support.clients import echo_matches
from support.netns import Netns
from support.programs import EXAMPLES, OURS, Program, Programs, wait_until

PORT, OTHER_PORT = 8000, 8001
LO = ("--device", "xdp:lo")

# A server and a client in one process; the connection stays open until stdin ends.
WITHIN_ONE_PROCESS = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    sock, _ = listener.accept()
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)
threading.Thread(target=serve, daemon=True).start()
with socket.create_connection(listener.getsockname(), timeout=20) as sock:
    for number in range(1000):
        sock.sendall(b"%060d" % number)
        assert sock.recv(100) == b"%060d" % number
    print("echoed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _needs() -> Iterator[None]:
    need.stack()
    need.root()
    need.tool("setpriv")
    yield


def lines(text: str) -> list[str]:
    """The lines that are not empty."""
    return [line for line in text.splitlines() if line.strip()]


def wait_for_output(program: Program, text: str) -> None:
    """Until the program has written it; at once an error if it ends."""
    wait_until(lambda: text in program.stdout() or not program.running(), lambda: program.stderr())
    assert text in program.stdout(), program.stderr()


def test_nobody_serves_by_the_kernel(programs: Programs, netns: Netns) -> None:
    """A stock client is answered; one line on stderr says by whom."""
    argv = [str(EXAMPLES / "selectors_echo.py"), "--port", str(PORT)]
    server = programs.start(argv, stack=OURS, ns=netns, port=PORT, as_nobody=True, expect_on_stack=False)
    for _ in range(3):
        with netns.connect(("127.0.0.1", PORT)) as sock:
            assert echo_matches(sock, b"x" * 100_000)
    said = lines(server.stderr())
    assert len(said) == 1, said
    assert "kernel" in said[0], said
    assert "xdp:lo" in said[0], said


def test_nobody_has_the_memory_device(programs: Programs, netns: Netns) -> None:
    """Within the process the connection is on our stack, both ends."""
    program = programs.start(
        ["-c", WITHIN_ONE_PROCESS], stack=OURS, ns=netns, as_nobody=True, stdin=subprocess.PIPE
    )  # fmt: skip
    wait_for_output(program, "echoed")
    document = program.listing()
    states = [(c["state"], c["device"]) for c in document["connections"]]
    assert states == [("ESTAB", "memory")] * 2, document
    assert len(lines(program.stderr())) <= 1, program.stderr()
    assert program.process.stdin is not None
    program.process.stdin.close()
    assert program.wait(10) == 0, program.stderr()


def test_nobody_connects_out(programs: Programs, netns: Netns) -> None:
    """To a kernel server, by the kernel."""
    programs.example("threading_echo", ns=netns, port=PORT)
    argv = [str(EXAMPLES / "client_tcp.py"), "--port", str(PORT)]
    client = programs.start(argv, stack=OURS, ns=netns, as_nobody=True)
    assert client.wait(30) == 0, client.stderr()
    assert len(lines(client.stderr())) == 1, client.stderr()


def test_nobody_with_require(programs: Programs, netns: Netns) -> None:
    """An error that says what is missing, and no traceback."""
    argv = [str(EXAMPLES / "selectors_echo.py"), "--port", str(PORT)]
    server = programs.start(argv, stack=OURS, ns=netns, as_nobody=True, options=[*LO, "--require"])
    assert server.wait(20) not in (0, None)
    assert "xdp:lo" in server.stderr()
    assert "CAP_" in server.stderr() or "permi" in server.stderr().lower() or "privilege" in server.stderr().lower()
    assert "Traceback" not in server.stderr()


def test_second_process(programs: Programs, netns: Netns) -> None:
    """The first owns the queue; the second is served by the kernel and says so once; both answer."""
    need.xdp()
    first = programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=(*LO, "--require"))
    argv = [str(EXAMPLES / "selectors_echo.py"), "--port", str(OTHER_PORT)]
    second = programs.start(argv, stack=OURS, ns=netns, port=OTHER_PORT, options=LO, expect_on_stack=False)
    for port in (PORT, OTHER_PORT, PORT, OTHER_PORT):
        with netns.connect(("127.0.0.1", port)) as sock:
            assert echo_matches(sock, b"x" * 100_000)
    said = lines(second.stderr())
    assert len(said) == 1, said
    assert "kernel" in said[0], said
    assert lines(first.stderr()) == []


def test_second_process_with_require(programs: Programs, netns: Netns) -> None:
    """An error exit, soon; the first is not disturbed."""
    need.xdp()
    programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=(*LO, "--require"))
    argv = [str(EXAMPLES / "selectors_echo.py"), "--port", str(OTHER_PORT)]
    second = programs.start(argv, stack=OURS, ns=netns, options=[*LO, "--require"])
    assert second.wait(20) not in (0, None)
    assert "xdp:lo" in second.stderr()
    assert "Traceback" not in second.stderr()
    with netns.connect(("127.0.0.1", PORT)) as sock:
        assert echo_matches(sock, b"x" * 1000)


def test_next_process_gets_the_queue(programs: Programs, netns: Netns) -> None:
    """One after the other, each owns it, although the kernel frees it with a delay."""
    need.xdp()
    for _ in range(3):
        server = programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=(*LO, "--require"))
        with netns.connect(("127.0.0.1", PORT)) as sock:
            assert echo_matches(sock, b"x" * 1000)
        server.stop()


def test_port_taken(programs: Programs, netns: Netns, stack: str) -> None:
    """EADDRINUSE in the words of the kernel, whichever stack has the port."""
    if stack == OURS:
        need.xdp()
    programs.example("selectors_echo", stack=stack, ns=netns, port=PORT, options=LO if stack == OURS else ())
    for other in ({"stack": OURS, "options": ["--device", "memory"]}, {"stack": "kernel"}):
        argv = [str(EXAMPLES / "selectors_echo.py"), "--port", str(PORT)]
        second = programs.start(argv, ns=netns, **other)
        assert second.wait(20) == 1
        assert "[Errno 98] Address already in use" in second.stderr()
