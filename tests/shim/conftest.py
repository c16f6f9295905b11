"""Fixtures of the shim's tests: the same body on the kernel's sockets and on ours, in this process.

Ours runs on the `memory` device only, so no privileges are needed. What a test leaves open is closed after it, and
the stack is taken out again: a test that leaks a virtual descriptor fails.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

KERNEL, OURS = "kernel", "ours"
VFD_BASE = 1 << 30
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[KERNEL, OURS])
def stack(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which stack the test's TCP sockets run on."""
    if request.param == KERNEL:
        yield KERNEL
        return
    import mtcp_patch

    mtcp_patch.install(device=["memory"])
    try:
        yield OURS
    finally:
        gc.collect()
        mtcp_patch.uninstall()


class Sockets:
    """Makes sockets of the stack under test and closes them all."""

    def __init__(self, stack: str) -> None:
        self.stack = stack
        self._made: list[socket.socket] = []

    def keep(self, made: socket.socket) -> socket.socket:
        """Closes `made` at the end of the test."""
        self._made.append(made)
        return made

    def tcp(self, family: int = socket.AF_INET) -> socket.socket:
        """A fresh TCP socket; it is checked that it is of the stack under test."""
        made = self.keep(socket.socket(family, socket.SOCK_STREAM))
        assert (made.fileno() >= VFD_BASE) == (self.stack == OURS)
        return made

    def listener(self, host: str = "127.0.0.1", backlog: int = 8) -> socket.socket:
        """A listening socket on a free port."""
        made = self.tcp(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.bind((host, 0))
        made.listen(backlog)
        return made

    def pair(self, host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """A connected client and the server's side of it."""
        listener = self.listener(host)
        client = self.tcp(listener.family)
        client.settimeout(10)
        client.connect(listener.getsockname())
        listener.settimeout(10)
        server = self.keep(listener.accept()[0])
        server.settimeout(10)
        listener.close()
        return client, server

    def close(self) -> None:
        """Closes everything made."""
        for made in self._made:
            with suppress(OSError):
                made.close()
        self._made.clear()


@pytest.fixture
def sockets(stack: str) -> Iterator[Sockets]:
    """See `Sockets`."""
    made = Sockets(stack)
    yield made
    made.close()


def readable(sock: socket.socket, timeout_s: float = 10) -> None:
    """Waits until there is something to read."""
    assert select.select([sock], [], [], timeout_s)[0], "nothing to read"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """run_python(code, stack): runs a program with the stack installed (or not) before its first line.

    SIGINT is at its default action in it, whatever this test run inherited.
    """

    def run(
        code: str, stack: str = OURS, timeout_s: float = 30, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        head = "import mtcp_patch; mtcp_patch.install(device=['memory'])\n" if stack == OURS else ""
        file = tmp_path / "program.py"
        file.write_text(head + textwrap.dedent(code))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        done = subprocess.run(
            [sys.executable, "-X", "dev", str(file)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=env,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        if check:
            assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with cert.pem and key.pem for localhost."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return directory
