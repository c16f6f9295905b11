"""``mtcp_patch.ss`` against control sockets that this test serves itself, as processes of every kind would."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtcp_patch import ss

DOCUMENT: dict[str, Any] = {
    "pid": 4242,
    "argv": ["python", "-m", "http.server"],
    "version": "0.1.0",
    "devices": [{"name": "xdp:lo", "mode": "generic", "queues": 1, "notes": ["without zero-copy"]}],
    "listeners": [{"local": "[::]:8123", "recv_q": 0, "send_q": 128, "device": "*"}],
    "connections": [
        {"state": "ESTAB", "local": "127.0.0.1:8123", "remote": "127.0.0.1:5555", "recv_q": 3, "send_q": 1448,
         "device": "xdp:lo", "srtt_us": 90, "rto_us": 200000, "cwnd": 10, "retransmits": 0},
        {"state": "TIME-WAIT", "local": "[::1]:8123", "remote": "[::1]:6", "recv_q": 0, "send_q": 0, "device": "xdp:lo",
         "srtt_us": 90, "rto_us": 200000, "cwnd": 10, "retransmits": 2},
    ],
    "counters": {"packets_in": 1234, "packets_out": 5, "bytes_in": 6, "bytes_out": 7, "retransmits": 2,
                 "drops": {"bad_tcp_checksum": 9, "truncated": 0}, "syscalls": 11},
    "messages": ["xdp:eth0: not permitted"],
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of control sockets, ours alone."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("MTCP_PATCH_RUNTIME_DIR", str(path))
    return path


@pytest.fixture
def serve(directory: Path) -> Iterator[Callable[..., None]]:
    """serve(pid, content) answers every connection to <pid>.sock with content; None: accepts, and says nothing."""
    listeners: list[socket.socket] = []
    silent: list[socket.socket] = []

    def start(pid: int, content: bytes | None) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / f"{pid}.sock"))
        listener.listen()
        listeners.append(listener)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if content is None:
                    silent.append(connection)
                    continue
                with connection:
                    connection.sendall(content)

        threading.Thread(target=answer, daemon=True).start()

    yield start
    for each in listeners:
        each.shutdown(socket.SHUT_RDWR)
        each.close()
    for each in silent:
        each.close()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The program itself."""
    return subprocess.run(
        [sys.executable, "-m", "mtcp_patch.ss", *words], capture_output=True, text=True, timeout=30, check=False
    )


def dead_pid() -> int:
    """A process id that is no process any more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_the_columns_of_ss(serve: Callable[..., None]) -> None:
    serve(4242, json.dumps(DOCUMENT).encode())
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    header, listener, established, timewait = done.stdout.splitlines()[:4]
    assert re.split(r"  +", header) == [
        "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Device", "Process",
    ]  # fmt: skip
    assert listener.split() == ["LISTEN", "0", "128", "[::]:8123", "[::]:*", "*", "pid=4242"]
    assert established.split() == ["ESTAB", "3", "1448", "127.0.0.1:8123", "127.0.0.1:5555", "xdp:lo", "pid=4242"]
    assert timewait.split() == ["TIME-WAIT", "0", "0", "[::1]:8123", "[::1]:6", "xdp:lo", "pid=4242"]
    assert len({line.index("pid=") for line in (listener, established, timewait)}) == 1


def test_the_counters_of_each_process(serve: Callable[..., None]) -> None:
    serve(4242, json.dumps(DOCUMENT).encode())
    text = run().stdout
    for pattern in (
        r"^pid 4242: python -m http.server$",
        r"^  device +xdp:lo \(generic, 1 queue\(s\); without zero-copy\)$",
        r"^  in +1,234 packets, 6 bytes$",
        r"^  retransmits +2$",
        r"^  syscalls +11 ",
        r"^  drops +bad_tcp_checksum 9$",
        r"^  message +xdp:eth0: not permitted$",
    ):
        assert re.search(pattern, text, re.MULTILINE), pattern


def test_json_is_a_list_of_the_documents(serve: Callable[..., None]) -> None:
    other = DOCUMENT | {"pid": 7}
    serve(4242, json.dumps(DOCUMENT).encode())
    serve(7, json.dumps(other).encode())
    assert json.loads(run("--json").stdout) == [other, DOCUMENT]


def test_one_process(serve: Callable[..., None]) -> None:
    serve(4242, json.dumps(DOCUMENT).encode())
    serve(7, json.dumps(DOCUMENT | {"pid": 7}).encode())
    assert [document["pid"] for document in json.loads(run("--json", "--pid", "7").stdout)] == [7]
    missing = run("--pid", "8")
    assert missing.returncode == 1
    assert "process 8 has no stack" in missing.stderr


@pytest.mark.usefixtures("directory")
def test_nothing_runs() -> None:
    assert run().stdout.split()[:2] == ["State", "Recv-Q"]
    assert json.loads(run("--json").stdout) == []


def test_no_directory_yet(directory: Path) -> None:
    directory.rmdir()
    assert (run("--json").returncode, json.loads(run("--json").stdout)) == (0, [])


def test_stale_files_of_dead_processes_go(directory: Path) -> None:
    stale = directory / f"{dead_pid()}.sock"
    own = directory / f"{os.getpid()}.sock"  # between bind() and listen(): refuses too, but its process lives
    for path in (stale, own):
        socket.socket(socket.AF_UNIX).bind(str(path))
    other = directory / "notes.txt"
    other.write_text("not a socket")
    assert run().returncode == 0
    assert not stale.exists()
    assert own.exists()
    assert other.exists()


def test_a_dead_processes_name_that_is_still_served_stays(directory: Path, serve: Callable[..., None]) -> None:
    """As from another pid namespace."""
    pid = dead_pid()
    serve(pid, json.dumps(DOCUMENT).encode())
    assert "4242" in run().stdout
    assert (directory / f"{pid}.sock").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", json.dumps(DOCUMENT).encode()[:200]])
def test_an_answer_that_is_no_document(serve: Callable[..., None], content: bytes) -> None:
    serve(4242, content)
    serve(7, json.dumps(DOCUMENT | {"pid": 7}).encode())
    done = run()
    assert done.returncode == 1
    assert "mtcp_patch.ss: process 4242: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "pid=7" in done.stdout


def test_a_process_that_does_not_answer(serve: Callable[..., None]) -> None:
    serve(4242, None)
    done = run()
    assert done.returncode == 1
    assert "process 4242 does not answer" in done.stderr


def test_a_document_with_next_to_nothing_in_it(serve: Callable[..., None]) -> None:
    serve(4242, b'{"connections": [{}]}')
    assert run().returncode == 0


def test_a_directory_that_others_may_use_is_not_read(directory: Path, serve: Callable[..., None]) -> None:
    serve(4242, json.dumps(DOCUMENT).encode())
    directory.chmod(0o777)
    done = run()
    assert done.returncode == 1
    assert "only you" in done.stderr
    assert "4242" not in done.stdout


def test_where_the_sockets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTCP_PATCH_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/5")
    assert ss.runtime_directory() == "/run/user/5/mtcp_patch"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert ss.runtime_directory() == f"/tmp/mtcp_patch-{os.getuid()}"


def test_a_pipe_that_closes_early(serve: Callable[..., None]) -> None:
    many = DOCUMENT | {"connections": DOCUMENT["connections"] * 5000}
    serve(4242, json.dumps(many).encode())
    done = subprocess.run(
        f"{sys.executable} -m mtcp_patch.ss | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.startswith("State")
    assert done.stderr == ""
