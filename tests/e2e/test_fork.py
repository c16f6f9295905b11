"""Pre-forking servers: a listener made before the fork is accepted in the children."""

from __future__ import annotations

import socket
import subprocess

import pytest
from support.netns import Netns
from support.programs import OURS, Programs, parse_listing, wait_until

PORT = 8000

PRE_FORKING = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", 8000))
children = []
for number in range(2):
    if (pid := os.fork()) == 0:
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"child " + sock.recv(100))
    children.append(pid)
try:
    time.sleep(30)
finally:
    for pid in children:
        os.kill(pid, 9)
"""


@pytest.mark.timeout(60)
def test_children_accept_what_the_parent_listens_on(programs: Programs, netns: Netns, stack: str) -> None:
    """Ten clients, none of whom hangs because the parent, which does not accept, has the device."""
    options = ("--device", "xdp:lo", "--require") if stack == OURS else ()
    programs.start(["-c", PRE_FORKING], stack=stack, ns=netns, port=PORT, options=options, expect_on_stack=False)
    for number in range(10):
        with netns.connect(("127.0.0.1", PORT)) as sock:
            sock.settimeout(10)
            sock.sendall(b"%d" % number)
            assert sock.recv(100) == b"child %d" % number


LISTED = """
import os, socket, sys, time
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(6000)]
print("ready", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    time.sleep(60)
print("forked", flush=True)
time.sleep(60)
"""


EARLY = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 8000))
sys.stdin.readline()
if os.fork() == 0:
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"child " + sock.recv(100))
sys.stdin.readline()
sock, _ = listener.accept()
with sock:
    sock.sendall(b"parent " + sock.recv(100))
sys.stdin.readline()
"""


@pytest.mark.timeout(60)
def test_a_connection_that_came_before_the_fork_keeps_nobody_out(programs: Programs, netns: Netns) -> None:
    """It waits for the parent, on our stack; those that come later are the child's to accept."""
    options = ("--device", "xdp:lo", "--require")
    program = programs.start(["-c", EARLY], stack=OURS, ns=netns, port=PORT, options=options, stdin=subprocess.PIPE)

    def go_on() -> None:
        assert program.process.stdin is not None
        program.process.stdin.write(b"\n")
        program.process.stdin.flush()

    with netns.connect(("127.0.0.1", PORT)) as early:
        early.sendall(b"early")
        wait_until(lambda: program.listing()["listeners"][0]["recv_q"] == 1, program.stderr)
        go_on()
        wait_until(lambda: len(netns.pids()) == 2, program.stderr)
        for number in range(5):
            with netns.connect(("127.0.0.1", PORT)) as late:
                late.sendall(b"%d" % number)
                assert late.recv(100) == b"child %d" % number
        go_on()
        assert early.recv(100) == b"parent early"
    assert program.listing()["counters"]["accepted"] == 1


@pytest.mark.timeout(60)
def test_who_asks_for_the_listing_is_not_kept_waiting_by_a_fork(programs: Programs, netns: Netns) -> None:
    """A child has the connection too that the answer goes by, and it does not keep it open."""
    options = ("--device", "memory")
    program = programs.start(["-c", LISTED], stack=OURS, ns=netns, options=options, stdin=subprocess.PIPE)
    wait_until(lambda: "ready" in program.stdout(), program.stderr)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(program.control_path()))
        first = sock.recv(1)  # more than fits the socket: the answer is under way
        assert program.process.stdin is not None
        program.process.stdin.write(b"\n")
        program.process.stdin.flush()
        wait_until(lambda: "forked" in program.stdout(), program.stderr)
        whole = first + b"".join(iter(lambda: sock.recv(65536), b""))
    assert len(parse_listing(whole.decode())["listeners"]) == 6000
    assert len(whole) > 212_992, "all of it fits the socket: nothing was tested"


@pytest.mark.timeout(60)
def test_a_child_does_not_stand_in_for_its_killed_parent(programs: Programs, netns: Netns) -> None:
    """Whoever asks the parent's control socket is refused at once, and does not wait for an answer."""
    code = "import os, socket, time; sock = socket.create_server(('127.0.0.1', 8000));"
    code += "os.fork() or print('child', flush=True); time.sleep(60)"
    program = programs.start(["-c", code], stack=OURS, ns=netns, options=("--device", "memory"))
    wait_until(lambda: "child" in program.stdout(), program.stderr)
    program.listing()
    program.kill()
    with pytest.raises(ConnectionRefusedError):
        program.listing()
