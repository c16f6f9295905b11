"""Every program of examples/ answers, on both stacks; that ours carried it is read from its listing, not assumed."""

from __future__ import annotations

import pytest
from support import need
from support.netns import Netns
from support.programs import EXAMPLES, OURS, Program, Programs

PORT = 8000
LO = ("--device", "xdp:lo", "--require")
ECHO_SERVERS = ["threading_echo", "selectors_echo", "asyncio_streams_echo", "asyncio_protocol_echo", "gevent_echo"]
WEB_SERVERS = ["http_upload", "wsgiref_app", "gevent_wsgi"]
HOSTS = ["127.0.0.1", "::1"]


def bytes_carried(program: Program) -> tuple[int, int]:
    """(in, out) of our stack in that process."""
    counters = program.listing()["counters"]
    return counters["bytes_in"], counters["bytes_out"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_echo_server(programs: Programs, netns: Netns, stack: str, name: str, host: str) -> None:
    """One small connection, many messages, then 3 MB through client_tcp.py, then a second client at once."""
    if name.startswith("gevent"):
        need.module("gevent")
    server = programs.example(name, stack=stack, ns=netns, host=host, port=PORT, options=LO)
    with netns.connect((host, PORT)) as first, netns.connect((host, PORT)) as second:
        for number in range(50):
            for sock in (first, second):
                sock.sendall(b"%060d" % number)
                assert sock.recv(100) == b"%060d" % number
    client = netns.run(
        "python3", str(EXAMPLES / "client_tcp.py"), "--host", host, "--port", str(PORT), "--bytes", "3000000"
    )
    assert "the same" in client.stdout
    assert server.running(), server.stderr()
    if stack == OURS:
        received, sent = bytes_carried(server)
        assert received > 3_000_000, received
        assert sent > 3_000_000, sent


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", WEB_SERVERS)
def test_web_server(programs: Programs, netns: Netns, stack: str, name: str, host: str) -> None:
    """GET and a POST by curl, then urllib."""
    if name.startswith("gevent"):
        need.module("gevent")
    need.tool("curl")
    server = programs.example(name, stack=stack, ns=netns, host=host, port=PORT, options=LO)
    url = f"http://[{host}]:{PORT}/" if ":" in host else f"http://{host}:{PORT}/"
    assert netns.run("curl", "-sS", "--max-time", "10", url).stdout == "hello\n"
    body = "x" * 100_000
    reply = netns.run("curl", "-sS", "--max-time", "10", "--data-binary", "@-", url, input=body).stdout
    assert '"bytes": 100000' in reply if name == "http_upload" else reply == body
    client = netns.run("python3", str(EXAMPLES / "client_urllib.py"), "--host", host, "--port", str(PORT))
    assert client.stdout.startswith("200 6 bytes")
    if stack == OURS:
        received, _ = bytes_carried(server)
        assert received > 100_000, received


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("client", "server", "more", "expected"),
    [
        ("client_urllib", "http_upload", ["--path", "/bytes/1000000"], "200 1000000 bytes"),
        ("client_http", "http_upload", ["--bytes", "1000000"], "up 1000000 bytes"),
        ("client_tcp", "threading_echo", ["--bytes", "1000000"], "the same"),
    ],
)
def test_client(
    programs: Programs, netns: Netns, stack: str, host: str, client: str, server: str, more: list[str], expected: str
) -> None:
    """Each client of examples/ to a stock server on the kernel."""
    programs.example(server, ns=netns, host=host, port=PORT)
    argv = [str(EXAMPLES / f"{client}.py"), "--host", host, "--port", str(PORT), *more]
    program = programs.start(argv, stack=stack, ns=netns, options=LO)
    assert program.wait(30) == 0, program.stderr()
    assert expected in program.stdout()


@pytest.mark.parametrize("host", HOSTS)
def test_both_sides_patched_in_two_processes(programs: Programs, patched: object, netns: Netns, host: str) -> None:
    """The second process finds the queue of lo owned; it works all the same, by the kernel."""
    need.xdp()
    programs.example("threading_echo", stack=OURS, ns=netns, host=host, port=PORT, options=LO)
    argv = [str(EXAMPLES / "client_tcp.py"), "--host", host, "--port", str(PORT)]
    client = programs.start(argv, stack=OURS, ns=netns)
    assert client.wait(30) == 0, client.stderr()
    assert "the same" in client.stdout()
