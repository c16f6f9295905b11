"""A sub-interpreter has no stack (PyO3 and CPython refuse the native part there): said, and refused under --require."""

from __future__ import annotations

import sys

import pytest

from launcher.conftest import Runner

PROGRAM = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import socket
number = interpreters.create()
failed = None
try:
    failed = interpreters.run_string(number, '''
try:
    import socket
except ImportError as error:
    print(error)
else:
    print("kernel" if socket.socket().fileno() < 2**30 else "ours")
''')
except RuntimeError as error:
    failed = error
assert failed is None, failed
interpreters.destroy(number)
print("kernel" if socket.socket().fileno() < 2**30 else "ours")
"""


@pytest.fixture
def program(runner: Runner) -> Runner:
    """A program whose sub-interpreter and then itself say where a socket is."""
    runner.write("program.py", PROGRAM)
    return runner


def test_its_sockets_are_the_kernels_and_that_is_said(program: Runner) -> None:
    seen = program.launch(["--device", "memory", "program.py"])
    assert (seen.status, seen.out) == (0, "kernel\nours\n"), seen.err
    assert seen.err.count("mtcp_patch: a sub-interpreter's sockets are the kernel's") == 1


def test_with_require_it_gets_none(program: Runner) -> None:
    """The process goes on: the main interpreter has what was required."""
    seen = program.launch(["--device", "memory", "--require", "program.py"])
    refusal, main = seen.out.splitlines()
    assert refusal.startswith("mtcp_patch: no sockets in a sub-interpreter"), refusal
    assert (seen.status, main, seen.err) == (0, "ours", ""), sys.version
