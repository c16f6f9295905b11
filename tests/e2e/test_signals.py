"""Signals during blocking calls: handlers run at once, and calls go on afterwards as PEP 475 has it."""

from __future__ import annotations

import signal
import time

import pytest
from support.netns import Netns
from support.programs import Program, Programs, wait_until

PORT = 8000
LO = ("--device", "xdp:lo")

# Each waits for ever in one kind of call; a connected pair within the process serves those that need one.
CALLS = {
    "accept": "listener.accept()",
    "recv": "client.recv(1)",
    "recv_into": "client.recv_into(bytearray(1))",
    "readline": "client.makefile('rb').readline()",
    "recv_with_timeout": "client.settimeout(100); client.recv(1)",
    "sendall": "client.sendall(bytes(100_000_000))",
    "select": "select.select([listener, client], [], [])",
    "poll": "p = select.poll(); p.register(client, select.POLLIN); p.poll()",
    "epoll": "e = select.epoll(); e.register(client, select.EPOLLIN); e.poll()",
    "selectors": "s = selectors.DefaultSelector(); s.register(client, 1); s.select()",
    "asyncio": "asyncio.run(asyncio.sleep(1000))",
}

PROGRAM = """
import asyncio, select, selectors, signal, socket, sys
listener = socket.create_server(("127.0.0.1", 8000))
client = socket.create_connection(("127.0.0.1", 8000))
server, _ = listener.accept()
handled = []
def handler(number, frame):
    print("handled", flush=True)
signal.signal(signal.SIGUSR1, handler)
print("waiting", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""


def start(programs: Programs, ns: Netns, stack: str, call: str) -> Program:
    """The program, about to enter the call."""
    program = programs.start(["-c", PROGRAM.format(call=call)], stack=stack, ns=ns, options=LO)
    wait_until(lambda: "waiting" in program.stdout() or not program.running(), lambda: program.stderr())
    assert program.running(), program.stderr()
    return program


def wait_asleep(program: Program) -> None:
    """Until it sleeps in the kernel, so that the signal meets the wait and not the way into it."""

    def asleep() -> bool:
        with open(f"/proc/{program.pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "S"

    for _ in range(3):  # three looks: a short sleep on the way in does not count
        wait_until(asleep, "the program sleeps")


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """KeyboardInterrupt, at once."""
    program = start(programs, netns, stack, CALLS[name])
    wait_asleep(program)
    assert program.stop(signal.SIGINT) == 7, program.stderr()
    assert "interrupted" in program.stdout()


@pytest.mark.parametrize("name", ["accept", "recv", "select"])
def test_sigterm_by_default(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """Ended by the signal itself."""
    program = start(programs, netns, stack, CALLS[name])
    wait_asleep(program)
    assert program.stop(signal.SIGTERM) == -signal.SIGTERM


@pytest.mark.parametrize("name", ["accept", "recv", "select", "poll", "epoll", "sendall"])
def test_handler_runs_and_the_call_goes_on(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """PEP 475: the handler runs during the call, three times; then the call still waits."""
    program = start(programs, netns, stack, CALLS[name])
    for times in range(1, 4):
        wait_asleep(program)
        program.send_signal(signal.SIGUSR1)
        wait_until(lambda n=times: program.stdout().count("handled") == n, "the handler ran")  # type: ignore[misc]
    assert program.running(), program.stderr()
    assert program.stop(signal.SIGINT) == 7


@pytest.mark.parametrize("name", ["selectors_echo", "threading_echo", "asyncio_protocol_echo", "gevent_echo"])
def test_servers_end_by_ctrl_c(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """With a connection open, at whatever point the signal finds the server just after an answer: five tries."""
    for port in range(PORT, PORT + 5):
        server = programs.example(name, stack=stack, ns=netns, port=port, options=LO)
        with netns.connect(("127.0.0.1", port)) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            if name == "gevent_echo":
                # libev loses a signal that comes just before it sleeps, on either stack
                wait_asleep(server)
                time.sleep(0.1)
            assert server.stop(signal.SIGINT) == 0, server.stderr()
        printed = server.stderr()
        if name == "threading_echo" and "Bad file descriptor" in printed:
            # The interrupt came before Thread.start() had returned: socketserver then closes the request under its
            # thread, which fails if it was not asleep (on ours if it was, too).
            continue
        if name != "gevent_echo":  # whose hub prints the interrupt that it hands on, on either stack
            assert "Traceback" not in printed, printed
