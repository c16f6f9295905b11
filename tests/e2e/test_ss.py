"""``python -m mtcp_patch.ss``: what a person sees, and who may see it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest
from support import need
from support.netns import Netns
from support.programs import OURS, Program, Programs, clean_environment, unprivileged

PORT = 8000
LO = ("--device", "xdp:lo", "--require")


@pytest.fixture
def server(programs: Programs, netns: Netns) -> Program:
    """An echo server on our stack."""
    need.stack()
    need.xdp()
    return programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=LO)


def ss(programs: Programs, *argv: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    command = [sys.executable, "-m", "mtcp_patch.ss", *argv]
    environment = clean_environment(programs.runtime_dir)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=20, check=False
    )  # fmt: skip


def test_columns_of_ss(server: Program, netns: Netns, programs: Programs) -> None:
    """The header of ``ss -tn`` and the device; a listener and a connection."""
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        port = sock.getsockname()[1]
        output = ss(programs)
    assert output.returncode == 0, output.stderr
    for word in ("State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Device"):
        assert word in output.stdout, output.stdout
    rows = [line.split() for line in output.stdout.splitlines()]
    assert any(row[:1] == ["LISTEN"] and f"127.0.0.1:{PORT}" in row for row in rows), output.stdout
    established = [row for row in rows if row[:1] == ["ESTAB"]]
    assert any(f"127.0.0.1:{port}" in row and "xdp:lo" in row for row in established), output.stdout


def test_json(server: Program, netns: Netns, programs: Programs) -> None:
    """The counters move with the traffic; --pid picks one process."""

    def counters() -> dict[str, int]:
        output = ss(programs, "--json", "--pid", str(server.pid))
        assert output.returncode == 0, output.stderr
        document = json.loads(output.stdout)
        process = document[0] if isinstance(document, list) else document
        assert process["pid"] == server.pid
        found: dict[str, int] = process["counters"]
        return found

    before = counters()
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.sendall(b"x" * 1000)
        received = 0
        while received < 1000:
            received += len(sock.recv(1000))
    after = counters()
    assert after["bytes_in"] - before["bytes_in"] >= 1000
    assert after["bytes_out"] - before["bytes_out"] >= 1000
    assert after["packets_in"] > before["packets_in"]
    assert after["packets_out"] > before["packets_out"]


def test_no_such_process(programs: Programs) -> None:
    """An error exit that says so; nothing on stdout but, with --json, nothing either."""
    need.stack()
    output = ss(programs, "--pid", "999999999")
    assert output.returncode != 0
    assert "999999999" in output.stderr
    assert "Traceback" not in output.stderr


def test_only_the_owner_may_look(server: Program, programs: Programs) -> None:
    """The directory is 0700 and another user gets no listing, even with the path known."""
    mode = stat.S_IMODE(os.stat(server.control_path().parent).st_mode)
    assert mode == 0o700, oct(mode)
    need.tool("setpriv")
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(server.control_path())!r})"
    done = subprocess.run(
        unprivileged([sys.executable, "-c", code]), capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert "PermissionError" in done.stderr
