"""Child processes of a run: pinned, in their namespace, and gone when the bench is, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .namespaces import Namespace, setns

READY_SECONDS = 20.0
LOOK_SECONDS = 0.01
LISTEN = "0A"  # of /proc/net/tcp
PR_SET_PDEATHSIG = 1
PROGRAMS = Path(__file__).with_name("programs")

_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """Why there is no figure."""


def clean_environment(runtime_dir: str) -> dict[str, str]:
    """The environment without anything that changes what is measured."""
    dropped = ("MTCP_PATCH", "PYTHON", "GEVENT_", "LD_PRELOAD")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {"MTCP_PATCH_RUNTIME_DIR": runtime_dir}


def descriptor_limit() -> int:
    """What a child may have open (idle connections are descriptors): the hard limit, which not every root can raise."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class Child:
    """One process, from its start to its end."""

    def __init__(
        self, argv: Sequence[str], *, core: int, namespace: Namespace | None, runtime_dir: str, cwd: str = "/"
    ) -> None:
        self.argv = list(argv)
        self.runtime_dir = runtime_dir
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in end)

        limit = descriptor_limit()

        def before_exec() -> None:
            # The bench may be killed: its children go with it.
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, {core})
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            if namespace is not None:
                setns(namespace.path)

        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=cwd,
            env=clean_environment(runtime_dir), preexec_fn=before_exec, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the program itself: nothing stays in between."""
        return self.process.pid

    def errors(self) -> str:
        """What it wrote on stderr so far."""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode(errors="replace").strip()

    def fail(self, what: str) -> BenchError:
        """An error whose first line says what went wrong, in the child's own words where it has any."""
        status = self.process.poll()
        said = self.errors().splitlines()
        reason = said[-1] if said else f"{what}{'' if status is None else f' (ended with {status})'}"
        rest = "\n".join(said[:-1])
        return BenchError(f"{reason}\n{what}: {' '.join(self.argv[1:])}\n{rest}".rstrip())

    def line(self, seconds: float) -> str:
        """The next line that it writes."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise self.fail(f"nothing was said within {seconds:.0f} s")
        line = self.process.stdout.readline().decode()
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            raise self.fail("it ended without a word")
        return line

    def json_line(self, seconds: float) -> dict[str, Any]:
        """The same, as an object."""
        parsed = json.loads(self.line(seconds))
        assert isinstance(parsed, dict)
        return parsed

    def go_on(self) -> None:
        """Lets a load generator pass its next stop."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"g")
        self.process.stdin.flush()

    def listing(self) -> dict[str, Any]:
        """What our stack in it tells `mtcp_patch.ss`; OSError while there is none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(f"{self.runtime_dir}/{self.pid}.sock")
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
        parsed = json.loads(b"".join(parts))
        assert isinstance(parsed, dict)
        return parsed

    def listens(self, port: int, *, ours: bool) -> bool:
        """Whether it has a listener, on our stack or on the kernel's."""
        if ours:
            with contextlib.suppress(OSError):
                return any(entry["local"].endswith(f":{port}") for entry in self.listing()["listeners"])
            return False
        rows: list[list[str]] = []
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(OSError):  # it has ended
                lines = Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()
                rows += [line.split() for line in lines[1:]]
        return any(row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port for row in rows)

    def wait_for(self, what: Callable[[], bool], why: str, seconds: float = READY_SECONDS) -> None:
        """Until it is true; an error at once when the child ends."""
        end = time.monotonic() + seconds
        while not what():
            if self.process.poll() is not None or time.monotonic() > end:
                raise self.fail(why)
            time.sleep(LOOK_SECONDS)

    def move_thread(self, name: str, core: int) -> None:
        """Binds one of its threads to a core."""
        tasks = Path(f"/proc/{self.pid}/task")
        found = [int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name]
        if len(found) != 1:
            raise self.fail(f"{len(found)} threads are called {name}")
        os.sched_setaffinity(found[0], {core})

    def end(self) -> None:
        """Ends it, by SIGTERM first: a device is given back in order. Twice does no harm."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._errors.close()


@contextlib.contextmanager
def child(argv: Sequence[str], **more: Any) -> Iterator[Child]:
    """A Child that is ended for certain."""
    started = Child(argv, **more)
    try:
        yield started
    finally:
        started.end()


def native(*words: str) -> list[str]:
    """The command line of a native end."""
    return [sys.executable, "-m", "mtcp_patch.bench._end", *words]


def python(program: str, *words: str, devices: Sequence[str] | None, layout: str = "") -> list[str]:
    """The command line of a program of `programs/`: plain, or with `devices` on our stack."""
    command = [sys.executable]
    if devices is not None:
        command += ["-m", "mtcp_patch", *(word for name in devices for word in ("--device", name)), "--require"]
        command += ["--layout", layout] if layout else []
    return [*command, str(PROGRAMS / f"{program}.py"), *words]
