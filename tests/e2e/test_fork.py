"""Pre-forking servers: a listener made before the fork is accepted in the children."""

from __future__ import annotations

import pytest
from support.netns import Netns
from support.programs import OURS, Programs

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
