"""What a machine must have for a test, and saying loudly when it has not.

A skipped test is listed with its reason at the end of the run; with ``--require-all`` it fails instead, so that CI
cannot go green by skipping. Whether XDP should work is judged without our own code: a bug of ours must not skip.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import socket
from typing import NoReturn

import pytest

AF_XDP = 44
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39

fail_instead_of_skipping = False  # --require-all, set by conftest.py


def skip(reason: str) -> NoReturn:
    """Skips the test, or fails it under --require-all."""
    if fail_instead_of_skipping:
        pytest.fail(f"cannot run here (--require-all): {reason}", pytrace=False)
    pytest.skip(reason)


def root() -> None:
    """Namespaces and raw sockets need root."""
    if os.geteuid() != 0:
        skip("needs root: network namespaces and raw sockets")


def tool(name: str) -> str:
    """The path of a command-line tool."""
    path = shutil.which(name)
    if path is None:
        skip(f"needs {name}, which is not installed")
    return path


def module(name: str) -> None:
    """A Python package."""
    if importlib.util.find_spec(name) is None:
        skip(f"needs the Python package {name}: pip install {name}")


def stack() -> None:
    """mtcp_patch installed with its native part."""
    for name in ("mtcp_patch.__main__", "mtcp_patch.stack._native"):
        if importlib.util.find_spec(name) is None:
            skip(f"needs {name}: build and install the package first (make test does)")


@functools.cache
def why_no_xdp() -> str | None:
    """None when this process may use AF_XDP, else what is missing."""
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    if not effective >> CAP_NET_ADMIN & 1:
        return "needs CAP_NET_ADMIN for XDP"
    if not (effective >> CAP_BPF & 1 or effective >> CAP_SYS_ADMIN & 1):
        return "needs CAP_BPF (or CAP_SYS_ADMIN) for XDP"
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return f"needs AF_XDP sockets in the kernel: {error}"
    return None


def xdp() -> None:
    """AF_XDP and the privileges for it."""
    reason = why_no_xdp()
    if reason is not None:
        skip(reason)
