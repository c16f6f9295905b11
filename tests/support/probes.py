"""A probe: a real program in a namespace of its own, a stock peer, and the proof which stack carried the bytes.

The proof is taken from the control socket of every patched process of the probe: what our stack received and sent. A
probe that expects our stack fails when the bytes went by the kernel, however right the answers were; one that expects
the kernel fails when they did not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support import need
from support.netns import Netns
from support.programs import KERNEL, OURS, ROOT, Program, Programs, clean_environment, parse_listing, wait_until

APPS = ROOT / "tests" / "compat" / "programs" / "apps"
PORT = 8000
LO = ("--device", "xdp:lo")
CURL_SECONDS = 20
ECHOED_BYTES = 300_000


def load_app(name: str) -> ModuleType:
    """A module of apps/, for what test and program must agree on."""
    spec = importlib.util.spec_from_file_location(f"probe_{name}", APPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Probe:
    """One program under test and what stands around it."""

    def __init__(
        self, ns: Netns, programs: Programs, stack: str, directory: Path, record: pytest.FixtureRequest
    ) -> None:
        self.ns, self.programs, self.stack, self.directory = ns, programs, stack, directory
        self._record = record

    # --- starting ------------------------------------------------------------------------------------------------

    def serve(
        self,
        argv: Sequence[str],
        *,
        port: int = PORT,
        on: str = OURS,
        environment: dict[str, str] | None = None,
        options: Sequence[str] = LO,
        cwd: Path = APPS,
    ) -> Program:
        """Starts a server; returns when it, or a child of its, listens where it should."""
        program = self.programs.start(
            argv, stack=self.stack, ns=self.ns, options=options, environment=environment, cwd=str(cwd)
        )
        self.wait_listening(program, port, on)
        return program

    def wait_listening(self, program: Program, port: int = PORT, on: str = OURS) -> None:
        """Until somebody listens on the port."""

        def ready() -> bool:
            if not program.running():
                raise AssertionError(f"{program.argv} ended with {program.wait()}: {program.stderr()}")
            if self.stack == OURS and on == OURS:
                listeners = [entry["local"] for document in self.documents() for entry in document["listeners"]]
                return any(local.endswith(f":{port}") for local in listeners)
            return self.ns.listens(port)

        where = on if self.stack == OURS else KERNEL
        wait_until(ready, lambda: f"{program.argv} listens on {port} ({where}); stderr: {program.stderr()}", 30)

    def start(self, argv: Sequence[str], **more: Any) -> Program:
        """Starts a program on the stack under test."""
        more.setdefault("options", LO)
        return self.programs.start(argv, stack=self.stack, ns=self.ns, cwd=str(APPS), **more)

    def run(self, argv: Sequence[str], *, seconds: float = 40, expect: str = OURS, least: int = 1) -> str:
        """Runs a client on the stack under test to its end and returns what it wrote.

        It is run by apps/counted.py, which leaves behind what our stack carried in it; children are asked while they
        run. That must be at least ``least`` bytes both ways, or none if the kernel is expected.
        """
        need.tool("ip")
        counters = self.directory / f"counters-{len(list(self.directory.glob('counters-*')))}.json"
        program = self.start([str(APPS / "counted.py"), str(counters), *argv])
        seen = self._watch(program, seconds)
        assert program.wait(1) == 0, f"{argv}: {program.stdout()[-2000:]}{program.stderr()[-4000:]}"
        if self.stack == OURS:
            counted = json.loads(counters.read_text())
            self._judge(*max(seen, (counted["bytes_in"], counted["bytes_out"]), key=sum), expect, least)
        return program.stdout()

    def _watch(self, program: Program, seconds: float) -> tuple[int, int]:
        """Waits for its end; the most that all its processes together were seen to have carried."""
        end, most = time.monotonic() + seconds, (0, 0)
        while program.running():
            if time.monotonic() > end:
                raise AssertionError(f"{program.argv} did not end within {seconds} s: {program.stderr()[-4000:]}")
            most = max(most, self.carried(), key=sum)
            time.sleep(0.1)
        return most

    def python(self, *argv: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs Python on the kernel, inside: the stock client of a library."""
        more.setdefault("env", clean_environment(None))
        return self.ns.run(sys.executable, *argv, check=check, cwd=str(APPS), **more)

    def tool(self, *argv: str, environment: dict[str, str] | None = None, port: int | None = None) -> Program:
        """Starts a program that is not Python's, on the kernel, and waits for its listener."""
        program = self.programs.start_command(
            [*self.ns.exec(), *argv], environment=environment, cwd=str(self.directory)
        )
        if port is not None:
            self.wait_listening(program, port, on=KERNEL)
        return program

    # --- the proof -----------------------------------------------------------------------------------------------

    def documents(self) -> list[dict[str, Any]]:
        """The listing of every patched process of this probe that runs now."""
        found = []
        for path in sorted(Path(self.programs.runtime_dir).glob("*.sock")):
            try:
                found.append(parse_listing(_ask(path)))
            except (OSError, ValueError):
                continue  # it ended meanwhile
        return found

    def carried(self) -> tuple[int, int]:
        """(in, out) in bytes of our stack, all patched processes together."""
        counters = [document["counters"] for document in self.documents()]
        return sum(c["bytes_in"] for c in counters), sum(c["bytes_out"] for c in counters)

    def check_carried(self, expect: str = OURS, *, least: int = 1) -> None:
        """That the bytes went where they should."""
        if self.stack == OURS:
            self._judge(*self.carried(), expect, least)

    def _judge(self, received: int, sent: int, expect: str, least: int) -> None:
        self._record.node.user_properties.append(("stack", OURS if received and sent else KERNEL))
        self._record.node.user_properties.append(("bytes", received + sent))
        if expect == OURS:
            assert min(received, sent) > 0 and received + sent >= least, f"our stack carried only {received}, {sent}"
        else:
            assert (received, sent) == (0, 0), f"our stack carried {received}, {sent} bytes, expected none"

    # --- HTTP ----------------------------------------------------------------------------------------------------

    def check_web(self, *, tls: Path | None = None, on: str = OURS, load: bool = True, port: int = PORT) -> None:
        """A small page twice on one connection, 2 MB, a POST that comes back, then load; by stock curl and wrk."""
        content = load_app("content")
        base = f"{'https' if tls else 'http'}://localhost:{port}"
        trust = ("--cacert", str(tls / "cert.pem")) if tls else ()
        curl = ["curl", "-sS", "-4", "--fail", "--max-time", str(CURL_SECONDS), *trust]
        need.tool("curl")
        small = self.ns.run(*curl, f"{base}/", f"{base}/").stdout
        assert small == content.HELLO.decode() * 2, small
        copy, body = self.directory / "copy.bin", self.directory / "body.bin"
        self.ns.run(*curl, "-o", str(copy), f"{base}/big")
        assert _digest(copy.read_bytes()) == _digest(content.BIG)
        body.write_bytes(content.BIG[:ECHOED_BYTES])
        text = ("-H", "Content-Type: text/plain", "-H", "Expect:")
        self.ns.run(*curl, *text, "--data-binary", f"@{body}", "-o", str(copy), f"{base}/")
        assert _digest(copy.read_bytes()) == _digest(content.BIG[:ECHOED_BYTES])
        if load:
            self.load(f"{base}/")
        self.check_carried(on, least=len(content.BIG) + 2 * ECHOED_BYTES)

    def load(self, url: str) -> None:
        """16 connections for a second, no error."""
        need.tool("wrk")
        output = self.ns.run("wrk", "-c", "16", "-t", "1", "-d", "1", "--timeout", "10", url).stdout
        assert "requests in" in output and "Socket errors" not in output and "Non-2xx" not in output, output


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def _ask(path: Path) -> str:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def make_certificate(directory: Path) -> Path:
    """cert.pem and key.pem for localhost and 127.0.0.1 in the directory; returns it."""
    need.tool("openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", directory / "key.pem",
         "-out", directory / "cert.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    os.chmod(directory / "key.pem", 0o644)
    return directory
