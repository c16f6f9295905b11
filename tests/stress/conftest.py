"""Programs that run with the stack installed over the `memory` device: no privileges, and a crash or a hang of one
is a failed test and not the end of the run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import mtcp_patch
mtcp_patch.install(device=["memory"])
import faulthandler, os, select, signal, socket, sys, threading, time
faulthandler.dump_traceback_later(25, exit=True)

def pair():
    "A connected pair within the process: client, server."
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    assert client.fileno() >= 1 << 30 and server.fileno() >= 1 << 30
    return client, server

def until(what, seconds=10):
    "Waits until it is true."
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.002)

def asleep(thread):
    "Waits until a thread sleeps in the kernel, three looks in a row."
    path = f"/proc/self/task/{thread.native_id}/stat"
    for _ in range(3):
        until(lambda: open(path).read().rpartition(")")[2].split()[0] == "S")
        time.sleep(0.005)

def start(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread
"""

RunProgram = Callable[[str], str]


@pytest.fixture
def run_program(tmp_path: Path) -> RunProgram:
    """run_program(code): runs it after HEAD, fails on any other end than a normal one, and gives what it printed."""

    def run(code: str) -> str:
        file = tmp_path / "program.py"
        file.write_text(HEAD + textwrap.dedent(code))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "MTCP_PATCH_RUNTIME_DIR": str(tmp_path / "run")}
        done = subprocess.run(
            [sys.executable, str(file)], capture_output=True, text=True, timeout=30, env=env, check=False
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
