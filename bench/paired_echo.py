"""What a request costs the server: the same echo program on our stack and on the kernel, in interleaved pairs.

    python bench/paired_echo.py                      # selectors_echo, 64 connections, 64 bytes, 5 pairs, xdp:lo
    python bench/paired_echo.py --pairs 9 --server asyncio_protocol_echo --json

Each run: a fresh server in a fresh network namespace, pinned to core 0; the load generator (bench/load.c, on the
kernel) pinned to core 1; a warm-up; then the server's CPU time, user and system, over the measured time, divided by
the requests that were answered in it. Ours and the kernel's runs alternate, the order changing from pair to pair, so
that a drift of the machine meets both alike. Printed: each run, then median, minimum and maximum of both, the median
of the pairs' ratios, and how busy both cores were. Nothing here passes or fails by a time.

On loopback the receiver's kernel work runs in the sender's context: the client's share is charged to the server and
the reverse, so the client's CPU a request is printed beside the server's and their sum should be compared as well.
Needs root, gcc, and a release build: it refuses one with debug assertions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.netns import Netns, sweep  # noqa: E402
from support.programs import EXAMPLES, KERNEL, OURS, Program, Programs, clean_environment  # noqa: E402

PORT = 8000
SERVER_CORE, LOAD_CORE = 0, 1
CPUCLOCK_SCHED = 2
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # /proc/stat: user nice system, irq softirq steal; not idle, not iowait


@dataclass(frozen=True)
class Run:
    """One measured run. Times in microseconds, shares of a core from 0 to 1."""

    stack: str
    requests_a_second: float
    server_us: float
    server_user_us: float
    server_system_us: float
    client_us: float
    p50_us: int
    p99_us: int
    server_core_busy: float
    load_core_busy: float
    stack_syscalls_a_request: float | None


def refuse_debug_build() -> None:
    """A figure of a debug build is none."""
    try:
        from mtcp_patch.stack import _native
    except ImportError as error:
        sys.exit(f"paired_echo: the package is not built: {error}. Run `make build` first.")
    if getattr(_native, "DEBUG_BUILD", True):
        sys.exit("paired_echo: this is a debug build; its figures would mean nothing. Run `make build` first.")


def compile_load(directory: str) -> str:
    """Builds the load generator."""
    binary = os.path.join(directory, "load")
    source = str(pathlib.Path(__file__).with_name("load.c"))
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", binary, source], check=True, timeout=60)
    return binary


def process_cpu_seconds(pid: int) -> float:
    """User and system time of a process to the nanosecond: its POSIX CPU clock."""
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def user_and_system(pid: int) -> tuple[int, int]:
    """In clock ticks, for the division between the two only."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def busy_ticks(core: int) -> tuple[int, int]:
    """(busy, all) ticks of a core since the start."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            numbers = [int(tick) for tick in ticks[:8]]
            return sum(numbers[field] for field in BUSY_FIELDS), sum(numbers)
    raise SystemExit(f"paired_echo: there is no core {core}; two are needed")


@dataclass
class Snapshot:
    """What is read at both ends of the measured time."""

    cpu_seconds: float
    user: int
    system: int
    cores: list[tuple[int, int]]
    syscalls: int | None

    @staticmethod
    def take(server: Program, stack: str) -> Snapshot:
        """Of the server and of both cores."""
        syscalls = server.listing()["counters"].get("syscalls") if stack == OURS else None
        user, system = user_and_system(server.pid)
        cores = [busy_ticks(core) for core in (SERVER_CORE, LOAD_CORE)]
        return Snapshot(process_cpu_seconds(server.pid), user, system, cores, syscalls)


@contextlib.contextmanager
def fresh_server(args: argparse.Namespace, stack: str) -> Iterator[tuple[Netns, Program]]:
    """A server in a namespace of its own, pinned; both gone afterwards."""
    ns, programs = Netns("bench"), Programs()
    try:
        argv = [str(EXAMPLES / f"{args.server}.py"), "--host", args.host, "--port", str(PORT)]
        options = ["--device", args.device, "--require"]
        os.sched_setaffinity(0, {SERVER_CORE})  # inherited by the server, threads and all
        try:
            server = programs.start(argv, stack=stack, ns=ns, port=PORT, options=options)
        finally:
            os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE})
        yield ns, server
    finally:
        programs.close()
        ns.delete()


def read_line(process: subprocess.Popen[bytes], seconds: float) -> dict[str, float]:
    """One JSON line of the load generator; an error if none comes."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise SystemExit(f"paired_echo: the load generator said nothing within {seconds} s")
    line = process.stdout.readline()
    if not line:
        raise SystemExit("paired_echo: the load generator ended; its message is above")
    parsed: dict[str, float] = json.loads(line)
    return parsed


def measure(args: argparse.Namespace, load: str, stack: str) -> Run:
    """One run."""
    with fresh_server(args, stack) as (ns, server):
        warm_up_cold_allocations(ns, args.host)
        command = [
            *ns.exec(), "taskset", "-c", str(LOAD_CORE), load, args.host, str(PORT), str(args.connections),
            str(args.bytes), str(int(args.warmup * 1000)), str(int(args.seconds * 1000)),
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(None)
        ) as process:
            try:
                assert process.stdin is not None
                read_line(process, args.warmup + 30)
                before = Snapshot.take(server, stack)
                process.stdin.write(b"g")
                process.stdin.flush()
                result = read_line(process, args.seconds + 30)
                after = Snapshot.take(server, stack)
                process.stdin.write(b"g")
                process.stdin.flush()
                process.wait(10)
            finally:
                process.kill()
        if not server.running():
            raise SystemExit(f"paired_echo: the server ended: {server.stderr()}")
    return to_run(stack, result, before, after)


def warm_up_cold_allocations(ns: Netns, host: str) -> None:
    """asyncio maps and unmaps memory at every message until its first connection has closed."""
    with ns.connect((host, PORT)) as sock:
        sock.sendall(b"first")
        sock.recv(5)


def to_run(stack: str, result: dict[str, float], before: Snapshot, after: Snapshot) -> Run:
    """The figures of a request."""
    requests = result["requests"]
    if not requests:
        raise SystemExit("paired_echo: not one request was answered")
    total_us = (after.cpu_seconds - before.cpu_seconds) * 1e6 / requests
    user, system = after.user - before.user, after.system - before.system
    user_share = user / (user + system) if user + system else 0.0
    busy = [
        (end[0] - start[0]) / max(end[1] - start[1], 1) for start, end in zip(before.cores, after.cores, strict=True)
    ]
    syscalls = None
    if before.syscalls is not None and after.syscalls is not None:
        syscalls = (after.syscalls - before.syscalls) / requests
    return Run(
        stack, requests / result["seconds"], total_us, total_us * user_share, total_us * (1 - user_share),
        result["client_cpu_seconds"] * 1e6 / requests, int(result["p50_us"]), int(result["p99_us"]), busy[0], busy[1],
        syscalls,
    )  # fmt: skip


def spread(values: list[float], digits: int) -> str:
    """median [min-max]"""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def report(args: argparse.Namespace, pairs: list[tuple[Run, Run]]) -> None:
    """The table."""
    print(
        f"\n{args.server}, {args.connections} connections, {args.bytes} bytes there and back, {args.device}, "
        f"{len(pairs)} interleaved pairs of {args.seconds} s, median [min-max]"
    )
    rows = [
        ("server CPU, us a request", "server_us", 2), ("  user (by ticks)", "server_user_us", 2),
        ("  system (by ticks)", "server_system_us", 2), ("client CPU, us a request", "client_us", 2),
        ("requests a second", "requests_a_second", 0), ("latency p50, us", "p50_us", 0),
        ("latency p99, us", "p99_us", 0), ("core of the server, busy", "server_core_busy", 2),
        ("core of the load, busy", "load_core_busy", 2),
    ]  # fmt: skip
    print(f"{'':28}{'ours':>28}{'kernel':>28}")
    for label, name, digits in rows:
        ours = spread([float(getattr(run, name)) for run, _ in pairs], digits)
        kernel = spread([float(getattr(run, name)) for _, run in pairs], digits)
        print(f"{label:28}{ours:>28}{kernel:>28}")
    syscalls = [run.stack_syscalls_a_request for run, _ in pairs if run.stack_syscalls_a_request is not None]
    if syscalls:
        print(f"{'system calls of our stack':28}{spread(syscalls, 3):>28}   a request")
    cpu = [kernel.server_us / ours.server_us for ours, kernel in pairs]
    both = [(kernel.server_us + kernel.client_us) / (ours.server_us + ours.client_us) for ours, kernel in pairs]
    rate = [ours.requests_a_second / kernel.requests_a_second for ours, kernel in pairs]
    print(f"\nserver CPU a request, kernel / ours:        {spread(cpu, 2)}  (above 1: ours is cheaper)")
    print(f"server + client CPU, kernel / ours:         {spread(both, 2)}")
    print(f"requests a second, ours / kernel:           {spread(rate, 2)}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", default="selectors_echo", help="an echo server of examples/")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=64, help="of a message (default 64)")
    parser.add_argument("--pairs", type=int, default=5, help="at least 5 (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of a run (default 3)")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before it (default 1)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--device", default="xdp:lo")
    parser.add_argument("--json", action="store_true", help="print every run as JSON too")
    args = parser.parse_args()
    if args.pairs < 5:
        parser.error("fewer than 5 pairs say nothing on a machine that is shared")
    return args


def main() -> None:
    args = parse_arguments()
    refuse_debug_build()
    if os.geteuid() != 0:
        sys.exit("paired_echo: needs root, for network namespaces and XDP")
    sweep()
    pairs = []
    with tempfile.TemporaryDirectory() as directory:
        load = compile_load(directory)
        for number in range(args.pairs):
            order = [OURS, KERNEL] if number % 2 == 0 else [KERNEL, OURS]
            runs = {stack: measure(args, load, stack) for stack in order}
            pairs.append((runs[OURS], runs[KERNEL]))
            for stack in order:
                run = runs[stack]
                print(
                    f"pair {number + 1} {stack:6} {run.server_us:6.2f} us a request, "
                    f"{run.requests_a_second:8.0f} a second",
                    file=sys.stderr,
                )
    if args.json:
        print(json.dumps([[asdict(run) for run in pair] for pair in pairs]))
    report(args, pairs)


if __name__ == "__main__":
    main()
