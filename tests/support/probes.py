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
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support import need
from support.netns import Netns
from support.programs import BOTH, KERNEL, OURS, ROOT, Program, Programs, clean_environment, parse_listing, wait_until

APPS = ROOT / "tests" / "compat" / "programs" / "apps"
PORT = 8000
LO = ("--device", "xdp:lo")
# How long anything may take before it is said to hang. The machine may have any amount of other work: what is told
# apart here is "slow" from "never", and a probe that passes waits for nothing.
PATIENCE_SECONDS = 120
ECHOED_BYTES = 300_000


def load_app(name: str) -> ModuleType:
    """A module of apps/, for what test and program must agree on."""
    spec = importlib.util.spec_from_file_location(f"probe_{name}", APPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Carried:
    """What our stack carried, all patched processes of a probe together."""

    bytes_in: int = 0
    bytes_out: int = 0
    segments: int = 0
    connections: int = 0

    @classmethod
    def of(cls, counters: list[dict[str, int]]) -> Carried:
        """From the counters of each process."""

        def total(*names: str) -> int:
            return sum(c[name] for c in counters for name in names)

        segments, connections = total("packets_in", "packets_out"), total("opened", "accepted")
        return cls(total("bytes_in"), total("bytes_out"), segments, connections)


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
            if self.stack == OURS and on != KERNEL:
                listeners = [entry["local"] for document in self.documents() for entry in document["listeners"]]
                return any(local.endswith(f":{port}") for local in listeners)
            return self.ns.listens(port)

        where = on if self.stack == OURS else KERNEL
        wait_until(
            ready, lambda: f"{program.argv} listens on {port} ({where}); stderr: {program.stderr()}", PATIENCE_SECONDS
        )

    def start(self, argv: Sequence[str], **more: Any) -> Program:
        """Starts a program on the stack under test."""
        more.setdefault("options", LO)
        return self.programs.start(argv, stack=self.stack, ns=self.ns, cwd=str(APPS), **more)

    def run(
        self, argv: Sequence[str], *, seconds: float = PATIENCE_SECONDS, expect: str | None = OURS, least: int = 1
    ) -> str:
        """Runs a program on the stack under test to its end and returns what it wrote.

        It is run by apps/counted.py, which leaves behind what our stack carried in it; children are asked while they
        run. That must be at least ``least`` bytes both ways, or none if the kernel is expected; ``expect=None`` leaves
        the judgement to the caller.
        """
        need.tool("ip")
        counters = self.directory / f"counters-{len(list(self.directory.glob('counters-*')))}.json"
        program = self.start([str(APPS / "counted.py"), str(counters), *argv])
        seen = self._watch(program, seconds)
        assert program.wait(1) == 0, f"{argv}: {program.stdout()[-2000:]}{program.stderr()[-4000:]}"
        if self.stack == OURS and expect is not None:
            counted = json.loads(counters.read_text())
            self._judge(max(seen, Carried.of([counted]), key=lambda c: c.bytes_in + c.bytes_out), expect, least)
        return program.stdout()

    def _watch(self, program: Program, seconds: float) -> Carried:
        """Waits for its end; the most that all its processes together were seen to have carried."""
        end, most = time.monotonic() + seconds, Carried()
        while program.running():
            if time.monotonic() > end:
                raise AssertionError(f"{program.argv} did not end within {seconds} s: {program.stderr()[-4000:]}")
            most = max(most, self.carried(), key=lambda c: c.bytes_in + c.bytes_out)
            time.sleep(0.1)
        return most

    def python(self, *argv: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs Python on the kernel, inside: the stock client of a library."""
        more.setdefault("env", clean_environment(None))
        more.setdefault("timeout", PATIENCE_SECONDS)
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

    def carried(self) -> Carried:
        """By the patched processes that run now."""
        return Carried.of([document["counters"] for document in self.documents()])

    def check_carried(self, expect: str = OURS, *, least: int = 1) -> None:
        """That the bytes went where they should."""
        if self.stack == OURS:
            self._judge(self.carried(), expect, least)

    def _judge(self, carried: Carried, expect: str, least: int) -> None:
        """BOTH: the kernel may have carried some of it or most, so there is no least."""
        number = carried.bytes_in + carried.bytes_out
        self.record(expect if number else KERNEL, number, segments=carried.segments, connections=carried.connections)
        if expect == KERNEL:
            assert number == 0, f"our stack carried {carried}, expected none"
        else:
            enough = min(carried.bytes_in, carried.bytes_out) > 0 and (expect == BOTH or number >= least)
            assert enough, f"our stack carried only {carried}"

    def record(self, stack: str, number: int, **more: int) -> None:
        """Leaves in pytest's report on which stack the bytes went, and how many ours carried."""
        self._record.node.user_properties += [("stack", stack), ("bytes", number), *more.items()]

    # --- HTTP ----------------------------------------------------------------------------------------------------

    def check_web(self, *, tls: Path | None = None, on: str = OURS, load: bool = True, port: int = PORT) -> None:
        """A small page twice on one connection, 2 MB, a POST that comes back, then load; by stock curl and wrk."""
        content = load_app("content")
        base = f"{'https' if tls else 'http'}://localhost:{port}"
        trust = ("--cacert", str(tls / "cert.pem")) if tls else ()
        curl = ["curl", "-sS", "-4", "--fail", "--max-time", str(PATIENCE_SECONDS), *trust]
        need.tool("curl")
        small = self.fetch(*curl, f"{base}/", f"{base}/")
        assert small == content.HELLO.decode() * 2, small
        copy, body = self.directory / "copy.bin", self.directory / "body.bin"
        self.fetch(*curl, "-o", str(copy), f"{base}/big")
        assert _digest(copy.read_bytes()) == _digest(content.BIG)
        body.write_bytes(content.BIG[:ECHOED_BYTES])
        text = ("-H", "Content-Type: text/plain", "-H", "Expect:")
        self.fetch(*curl, *text, "--data-binary", f"@{body}", "-o", str(copy), f"{base}/")
        assert _digest(copy.read_bytes()) == _digest(content.BIG[:ECHOED_BYTES])
        if load:
            self.load(f"{base}/")
        self.check_carried(on, least=len(content.BIG) + 2 * ECHOED_BYTES)

    def fetch(self, *curl: str) -> str:
        """What a curl on the kernel writes, inside."""
        return self.ns.run(*curl, timeout=PATIENCE_SECONDS).stdout

    def load(self, url: str) -> None:
        """16 connections for a second, no error."""
        need.tool("wrk")
        output = self.ns.run(
            "wrk", "-c", "16", "-t", "1", "-d", "1", "--timeout", "60", url, timeout=PATIENCE_SECONDS
        ).stdout
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
