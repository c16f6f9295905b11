"""CPython's own tests of sockets and waiting, plain and on the stack: the same outcome, test by test.

The quick subset of the matrix, with the interpreter that runs pytest; ``make matrix`` runs all modules on all versions.
What differs must be listed, with its reason, in differences.toml.
"""

from __future__ import annotations

import pathlib
import platform

import pytest
from support import need
from support.netns import Netns
from support.programs import Programs

from compat import matrix, runs

MODULES = [
    "test_socket",
    "test_timeout",
    "test_selectors",
    "test_select",
    "test_poll",
    "test_epoll",
    "test_socketserver",
    "test_httpservers",
    "test_ssl",
]
RUN_SECONDS = 240  # test_socket takes 40 alone; the machine may have other things to do


def test_every_difference_has_a_reason() -> None:
    """One that says more than that it happens, and an outcome that exists."""
    for entry in matrix.differences():
        assert len(entry.reason) > 20 and "flaky" not in entry.reason, entry.test
        assert entry.patched in ("any", "ok", "fail", "error", "skip", "hang"), entry.test


@pytest.mark.timeout(2 * RUN_SECONDS + 30)
@pytest.mark.parametrize("module", MODULES)
def test_module(programs: Programs, netns: Netns, tmp_path: pathlib.Path, module: str) -> None:
    """Plain first, then ours, in one namespace."""
    need.stack()
    need.module(f"test.{module}")
    job = runs.Job("cpython", platform.python_version(), module)
    plain, ours = runs.both(job, programs, netns, tmp_path)
    assert not plain.broken, plain.broken
    assert not ours.broken, ours.broken
    assert len(plain.outcomes) > 0
    print(module, "plain", plain.counts(), "ours", ours.counts(), "through the stack", len(ours.touched))
    complaints = runs.complaints(job, plain, ours, matrix.differences())
    assert not complaints, f"{len(complaints)} differences:\n" + "\n".join(complaints)
