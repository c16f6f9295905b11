"""The hosts of the internet that CPython's test_timeout connects to, played by the kernel of a test's namespace.

It wants one that accepts and stays silent (www.python.org:80), a port that refuses (pythontest.net:56667) and one that
drops every SYN (pythontest.net:56666), and skips the tests of TCP where it does not find them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from support.netns import Netns

SILENT, PORTS = "127.0.0.80", "127.0.0.81"
HTTP_PORT, DROPPING_PORT = 80, 56666
HOSTS = f"""127.0.0.1 localhost
::1 localhost
{SILENT} www.python.org www.python.org.
{PORTS} pythontest.net
"""


@contextlib.contextmanager
def standing(ns: Netns) -> Iterator[None]:
    """``ip netns exec`` lays the files of /etc/netns/NAME over those of /etc."""
    folder = Path("/etc/netns") / ns.name
    folder.mkdir(parents=True)
    (folder / "hosts").write_text(HOSTS)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        silent = stack.enter_context(ns.new_socket())
        silent.bind((SILENT, HTTP_PORT))
        silent.listen()
        dropping = stack.enter_context(ns.new_socket())
        dropping.bind((PORTS, DROPPING_PORT))
        dropping.listen(0)
        # A listener whose queue is full drops further SYNs: Linux takes one more than the backlog says.
        stack.enter_context(ns.connect((PORTS, DROPPING_PORT)))
        yield
