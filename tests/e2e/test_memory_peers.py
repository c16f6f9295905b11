"""``memory`` between patched processes: by itself where both are ours, without privileges, and what a death does."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest
from support.programs import OURS, Program, Programs, wait_until

PORT = 8431
MEMORY = ("--device", "memory")

# Waits for data of a server that never sends any.
WAITING = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
sock.sendall(b"x" * 100)
while sock.recv(1000):
    print("connected", flush=True)
"""

PAGES = """
import sys, urllib.request
for _ in range(20):
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/big", timeout=20) as reply:
        print(len(reply.read()))
"""

FORKS = """
import os, socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
sock.sendall(b"x")
assert sock.recv(10) == b"x"
if os.fork() == 0:
    time.sleep(60)  # as long as it lives it could keep its parent's sockets open
print("forked", flush=True)
time.sleep(60)
"""


def echo(programs: Programs, **more: object) -> Program:
    """An echo server that has nothing but memory."""
    return programs.example("selectors_echo", stack=OURS, port=PORT, options=MEMORY, **more)


def client(programs: Programs, code: str, *options: str) -> Program:
    """A client that has nothing but memory."""
    return programs.start(["-c", code, str(PORT)], stack=OURS, options=[*MEMORY, *options])


def devices(program: Program) -> list[str]:
    """The devices of its established connections."""
    return [c["device"] for c in program.listing()["connections"] if c["state"] == "ESTAB"]


def says(program: Program, word: str) -> None:
    """Waits until it has written the word."""
    wait_until(lambda: word in program.stdout(), lambda: f"{word!r}; stderr: {program.stderr()}")


def entries(programs: Programs) -> list[str]:
    """What is published, without the processes' names."""
    nets = pathlib.Path(programs.runtime_dir).glob("net-*/*@*")
    return sorted(entry.name.partition("@")[0] for entry in nets)


def test_both_ends_say_memory(programs: Programs) -> None:
    """Neither end has a device, and the kernel sees no connection."""
    server = echo(programs)
    waiting = client(programs, WAITING)
    says(waiting, "connected")
    assert devices(server) == [f"memory:{waiting.pid}"]
    assert devices(waiting) == [f"memory:{server.pid}"]
    (link,) = server.listing()["devices"][0]["peers"]
    assert link["pid"] == waiting.pid
    assert link["frames_in"] >= 3
    kernel = pathlib.Path(f"/proc/{server.pid}/net/tcp").read_text()
    established = [line for line in kernel.splitlines() if f":{PORT:04X} " in line and line.split()[3] == "01"]
    assert established == []


def test_http_server_and_urllib(programs: Programs, tmp_path: pathlib.Path) -> None:
    """Twenty connections and pages of a megabyte over one link."""
    (tmp_path / "big").write_bytes(os.urandom(1_000_000))
    argv = ["-m", "http.server", str(PORT), "--bind", "127.0.0.1"]
    server = programs.start(argv, stack=OURS, port=PORT, options=MEMORY, cwd=str(tmp_path))
    pages = client(programs, PAGES)
    assert pages.wait(60) == 0, pages.stderr()
    assert pages.stdout().split() == ["1000000"] * 20
    assert server.listing()["counters"]["accepted"] == 20


def test_a_killed_server_is_noticed_at_once_and_its_successor_found(programs: Programs) -> None:
    """ECONNRESET for who waits; the dead one's entries are removed by who meets them."""
    server = echo(programs)
    waiting = client(programs, WAITING)
    says(waiting, "connected")
    server.stop(signal.SIGKILL)
    assert waiting.wait(5) == 1
    assert "ConnectionResetError" in waiting.stderr()
    assert entries(programs) == [f"127.0.0.1:{PORT}"]
    refused = client(programs, WAITING)
    assert refused.wait(10) == 1
    assert "ConnectionRefusedError" in refused.stderr()
    assert entries(programs) == []
    successor = echo(programs)
    again = client(programs, WAITING)
    says(again, "connected")
    assert devices(again) == [f"memory:{successor.pid}"]


def test_a_killed_client_is_noticed_at_once(programs: Programs) -> None:
    """Its connection and its link are gone on the server."""
    server = echo(programs)
    waiting = client(programs, WAITING)
    says(waiting, "connected")
    waiting.stop(signal.SIGKILL)
    wait_until(lambda: not devices(server), "the connection is gone", 5)
    assert server.listing()["devices"][0]["peers"] == []


def test_a_forked_child_does_not_keep_its_parents_links(programs: Programs) -> None:
    """The parent's death is seen although the child lives."""
    server = echo(programs)
    forks = client(programs, FORKS)
    says(forks, "forked")
    children = pathlib.Path(f"/proc/{forks.pid}/task/{forks.pid}/children").read_text().split()
    try:
        forks.stop(signal.SIGKILL)
        wait_until(lambda: not devices(server), "the connection is gone", 5)
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)


# Serves one connection by itself, forks, and lets the child accept the next.
FORKING_SERVER = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for turn in range(2):
    if turn == 0 or os.fork() == 0:
        connection, _ = listener.accept()
        connection.sendall(connection.recv(1000))
        try:
            connection.recv(1000)
        except ConnectionResetError:
            pass  # the client was killed
        connection.close()
os.wait()
"""


def test_a_child_that_accepts_on_its_parents_listener_is_reached(programs: Programs) -> None:
    """As on the kernel: who has forked shares its listener, so it is not the parent's alone any more."""
    programs.start(["-c", FORKING_SERVER, str(PORT)], stack=OURS, port=PORT, options=MEMORY)
    first = client(programs, WAITING)
    says(first, "connected")
    first.stop(signal.SIGKILL)
    second = client(programs, WAITING)
    says(second, "connected")


@pytest.mark.parametrize("switched_off", ["server", "client"])
def test_memory_peers_0_goes_by_the_kernel(programs: Programs, switched_off: str) -> None:
    """The setting, on either side."""
    off = ("--memory-peers", "0")
    options = [*MEMORY, *(off if switched_off == "server" else ())]
    server = programs.example("selectors_echo", stack=OURS, port=PORT, options=options)
    waiting = client(programs, WAITING, *(off if switched_off == "client" else ()))
    says(waiting, "connected")
    assert devices(server) == devices(waiting) == []


def test_an_orderly_end_leaves_nothing(programs: Programs) -> None:
    """SIGTERM: entries, socket and directory are gone, and the client reads the end, not a reset."""
    server = echo(programs)
    waiting = client(programs, WAITING)
    says(waiting, "connected")
    assert entries(programs) == [f"127.0.0.1:{PORT}"]
    server.stop(signal.SIGTERM)
    assert waiting.wait(5) == 0, waiting.stderr()
    assert list(pathlib.Path(programs.runtime_dir).glob("net-*")) == []
