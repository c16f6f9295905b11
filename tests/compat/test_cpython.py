"""CPython's own tests of sockets and waiting, plain and on the stack: the same outcome, test by test.

The quick subset of the matrix, with the interpreter that runs pytest; ``make matrix`` runs all modules on all versions.
What differs must be listed, with its reason, in differences.toml.
"""

from __future__ import annotations

import pathlib
import platform
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import need
from support.netns import Netns
from support.programs import KERNEL, OURS, Programs

from compat import matrix, runs

# Of a few seconds each and through the stack, but for test_socket, which takes 35.
MODULES = [
    "test_socket",
    "test_epoll",
    "test_socketserver",
    "test_httpservers",
    "test_httplib",
    "test_ftplib",
    "test_poplib",
    "test_urllib2_localnet",
    "test_asyncio.test_streams",
    "test_asyncio.test_sock_lowlevel",
]
RUN_SECONDS = 240  # the machine may have other things to do


def test_every_difference_has_a_reason() -> None:
    """One that says more than that it happens, and an outcome that exists."""
    for entry in matrix.differences():
        assert len(entry.reason) > 20 and "flaky" not in entry.reason, entry.test
        assert entry.patched in ("any", "ok", "fail", "error", "skip", "hang"), entry.test


@pytest.mark.timeout(RUN_SECONDS + 30)
@pytest.mark.parametrize("module", MODULES)
def test_module(programs: Programs, netns: Netns, tmp_path: pathlib.Path, module: str) -> None:
    """Both at a time, each in a namespace of its own: they wait for most of their time."""
    need.stack()
    need.module(f"test.{module}")
    job = runs.Job("cpython", platform.python_version(), module)
    other = Netns("plain")
    try:
        with ThreadPoolExecutor(2) as pool:
            started = [
                pool.submit(runs.run_once, job, stack, programs, ns, tmp_path)
                for stack, ns in ((KERNEL, other), (OURS, netns))
            ]
            plain, ours = (run.result() for run in started)
    finally:
        other.delete()
    assert not plain.broken, plain.broken
    assert not ours.broken, ours.broken
    assert len(plain.outcomes) > 0
    assert ours.touched, "no test sent a segment through the stack"
    print(module, "plain", plain.counts(), "ours", ours.counts(), "through the stack", len(ours.touched))
    complaints = runs.complaints(job, plain, ours, matrix.differences())
    assert not complaints, f"{len(complaints)} differences:\n" + "\n".join(complaints)
