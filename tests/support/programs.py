"""Programs under test: started on the kernel or on our stack, watched from outside, ended for certain.

``start`` gives a Program; its listing() is what ``python -m mtcp_patch.ss --json`` reads: the control socket of that
process. Readiness is observed (a listener exists), never slept for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.netns import Netns

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
KERNEL, OURS = "kernel", "ours"
BOTH = "both"  # some of the connections each
READY_SECONDS = 20
# A thread that waits in our stack has an eventfd, which is kept for the next: as many as ever waited at once.
FOR_WAITING = 8
NOBODY = 65534
CAP_DAC_READ_SEARCH = "dac_read_search"


def wait_until(what: Callable[[], Any], why: str | Callable[[], str], seconds: float = READY_SECONDS) -> Any:
    """Asks until the answer is true and returns it; AssertionError after the given time."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {why() if callable(why) else why}")
        time.sleep(0.02)


def unprivileged(argv: Sequence[str]) -> list[str]:
    """The command as user nobody, without any network capability.

    CAP_DAC_READ_SEARCH is left, because the interpreter may live below /root; it gives reading and nothing else.
    """
    keep = f"-all,+{CAP_DAC_READ_SEARCH}"
    return [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps={keep}",
        f"--ambient-caps={keep}", f"--bounding-set={keep}", *argv,
    ]  # fmt: skip


def clean_environment(runtime_dir: str | None, **more: str) -> dict[str, str]:
    """The environment without anything of ours or of a proxy's, then what the test sets."""
    dropped = ("MTCP_PATCH", "PYTHONPATH", "GEVENT_LOOP", "XDG_RUNTIME_DIR")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped) and "proxy" not in k.lower()}
    if runtime_dir is not None:
        environment["MTCP_PATCH_RUNTIME_DIR"] = runtime_dir
    return environment | more


def parse_listing(document: str) -> dict[str, Any]:
    """The JSON of one process."""
    parsed = json.loads(document)
    assert isinstance(parsed, dict), parsed
    return parsed


class Program:
    """A running child process; everything it writes is kept."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], cwd: str | None, stdin: int) -> None:
        self.argv = list(argv)
        self.runtime_dir = environment.get("MTCP_PATCH_RUNTIME_DIR")
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 (closed in kill)
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            self.argv, env=environment, cwd=cwd, stdin=stdin, stdout=self._out, stderr=self._err
        )

    @property
    def pid(self) -> int:
        """Of the program itself: neither ip, setpriv nor the launcher stays in between."""
        return self.process.pid

    def _text(self, file: Any) -> str:
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), size, 0).decode(errors="replace")

    def stdout(self) -> str:
        """What it wrote so far."""
        return self._text(self._out)

    def stderr(self) -> str:
        """What it wrote so far."""
        return self._text(self._err)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 10) -> int:
        """Its exit status (negative: the signal that ended it); AssertionError if it does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv} did not end within {seconds} s; stderr: {self.stderr()}") from None

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """Signals and waits."""
        self.send_signal(number)
        return self.wait(seconds)

    def kill(self) -> None:
        """Ends it whatever state it is in; for teardown."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        self._out.close()
        self._err.close()

    def control_path(self) -> Path:
        """Where the process's control socket is."""
        return Path(self.runtime_dir or "") / f"{self.pid}.sock"

    def listing(self) -> dict[str, Any]:
        """Its listeners, connections and counters; OSError while it has no control socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(str(self.control_path()))
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
        return parse_listing(b"".join(parts).decode())

    def listens_on_stack(self, port: int) -> bool:
        """Whether our stack has a listener on the port."""
        try:
            listeners = self.listing()["listeners"]
        except OSError:
            return False
        return any(entry["local"].endswith(f":{port}") for entry in listeners)

    def listens_in_kernel(self, port: int) -> bool:
        """Whether the kernel of the program's namespace has a listener on the port."""
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                        return True
        return False

    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """How many kernel descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Programs:
    """Starts programs and ends them all in teardown."""

    def __init__(self) -> None:
        self.runtime_dir = tempfile.mkdtemp(prefix="mtcpt-", dir="/tmp")  # short: sun_path has 108 bytes
        self._started: list[Program] = []

    def start(
        self,
        argv: Sequence[str],
        *,
        stack: str = KERNEL,
        ns: Netns | None = None,
        port: int | None = None,
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        as_nobody: bool = False,
        expect_on_stack: bool = True,
        cwd: str | None = None,
        stdin: int = subprocess.DEVNULL,
        python: str = sys.executable,
    ) -> Program:
        """Starts ``python argv`` on the given stack and, with a port, waits until it listens there."""
        launcher = ["-m", "mtcp_patch", *options] if stack == OURS else []
        command = [python, *launcher, *argv]
        if as_nobody:
            command = unprivileged(command)
        if ns is not None:
            command = [*ns.exec(), *command]
        runtime_dir = None if as_nobody else self.runtime_dir
        program = Program(command, clean_environment(runtime_dir, **(environment or {})), cwd, stdin)
        self._started.append(program)
        if as_nobody:
            program.runtime_dir = f"/tmp/mtcp_patch-{NOBODY}"
        if port is not None:
            on_stack = stack == OURS and expect_on_stack
            self.wait_listening(program, port, on_stack=on_stack)
        return program

    def start_command(
        self, command: Sequence[str], *, environment: dict[str, str] | None = None, cwd: str | None = None
    ) -> Program:
        """Starts any command, on the kernel."""
        program = Program(command, clean_environment(None, **(environment or {})), cwd, subprocess.DEVNULL)
        self._started.append(program)
        return program

    def wait_listening(self, program: Program, port: int, *, on_stack: bool) -> None:
        """Until the program listens; at once an error if it has ended."""

        def ready() -> bool:
            if not program.running():
                raise AssertionError(f"{program.argv} ended with {program.wait()}: {program.stderr()}")
            return program.listens_on_stack(port) if on_stack else program.listens_in_kernel(port)

        where = "our stack" if on_stack else "the kernel"
        wait_until(ready, lambda: f"{program.argv} listens on {where} at {port}; stderr: {program.stderr()}")

    def example(self, name: str, *, port: int = 8000, host: str = "127.0.0.1", **more: Any) -> Program:
        """Starts a server of examples/ and waits until it listens."""
        argv = [str(EXAMPLES / f"{name}.py"), "--host", host, "--port", str(port)]
        return self.start(argv, port=port, **more)

    def close(self) -> None:
        """Ends every program and removes the control sockets' directory."""
        for program in reversed(self._started):
            program.kill()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
