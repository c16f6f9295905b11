"""``python -m compat`` (with tests/ on the path): runs the suites of the matrix on both stacks and writes results/.

    python -m compat                                   # everything that the machine has, four modules at a time
    python -m compat --version 3.11 --module test_ssl  # some of it; results of the others are kept
    python -m compat --programs junit.xml              # the programs' results, from pytest's report of their probes
    python -m compat --debian                          # what apt-get installs for the programs, a line each
    python -m compat --absent                          # which CPythons of matrix.toml the machine lacks, a line each

A module with a test that differs is run again; what differs twice is a difference, the rest is noted as seen once. One
that took longer on ours is run three times, and counts with its best time on each stack. Exits with 1 if something
differs that differences.toml does not list, or is slower for no reason that reasons.toml gives.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from support.netns import Netns, sweep
from support.programs import Programs

from compat import interpreters, matrix, results
from compat.runs import Job, Run, both, differing

PARALLEL = 4  # they wait for most of their time: 0.3 of a core each
ENVIRONMENTS = matrix.ROOT / ".cache/matrix"


def jobs(wanted: argparse.Namespace) -> tuple[list[Job], dict[str, str]]:
    """What is to be run, and for what is absent the reason."""
    loaded = matrix.load()
    found, absent, chosen = interpreters.find(), {}, []
    for version in loaded.suites["cpython"].versions:
        minor = ".".join(version.split(".")[:2])
        if minor not in found:
            absent[version] = "no CPython of this version with its test package was found on the machine"
        elif wanted.suite in (None, "cpython") and wanted.version in (None, minor):
            python = interpreters.environment(found[minor], ENVIRONMENTS)
            chosen += [Job("cpython", found[minor].version, m, python) for m in loaded.suites["cpython"].modules]
    if wanted.suite in (None, "gevent") and wanted.version is None:
        import gevent

        suite = loaded.suites["gevent"]
        chosen += [Job("gevent", gevent.__version__, m, loop=loop) for loop in suite.loops for m in suite.modules]
    if wanted.module:
        chosen = [job for job in chosen if job.module in wanted.module]
    if wanted.loop:
        chosen = [job for job in chosen if job.loop == wanted.loop]
    return chosen, absent


def absent_module(job: Job) -> str | None:
    """Why the version has no such module, None if it has it."""
    import subprocess

    if job.suite == "gevent" or job.is_ours:
        return None
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('test.{job.module}') is None)"
    gone = subprocess.run([job.python, "-c", code], timeout=60, check=False).returncode
    return f"CPython {job.version} has no test.{job.module}" if gone else None


def run_job(job: Job) -> dict[str, object]:
    """Both stacks in a fresh namespace, again if they differ or ours is slower; what results/ keeps of it."""
    if why := absent_module(job):
        return {"absent": why}
    programs, ns = Programs(), Netns("matrix")
    try:
        with tempfile.TemporaryDirectory(prefix="mtcpt-", ignore_cleanup_errors=True) as folder:
            first = both(job, programs, ns, Path(folder))
            more = [both(job, programs, ns, Path(folder)) for _ in range(how_many_more(*first))]
            return results.record([first, *more])
    finally:
        programs.close()
        ns.delete()


def how_many_more(plain: Run, ours: Run) -> int:
    """Runs of both, where one does not tell: a test differs, a run came to no end, or ours was slower (the machine may
    have had other work: each stack counts with its best time)."""
    if differing(plain, ours) or plain.broken or ours.broken:
        return 1
    return 2 if results.is_slower(plain.seconds, ours.seconds) else 0


def run_all(chosen: list[Job]) -> list[str]:
    """Runs them, writes each result as it comes; what differs and is not listed."""
    listed, unlisted = matrix.differences(), []
    chosen.sort(key=lambda job: -results.expected_seconds(job))
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = {pool.submit(run_job, job): job for job in chosen}
        for number, future in enumerate(as_completed(futures), 1):
            job, record = futures[future], future.result()
            results.store(job, record)
            print(f"[{number}/{len(chosen)}] {job.label}: {results.line(record)}", flush=True)
            unlisted += results.unlisted(job, record, listed)
    return unlisted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat", description="The compatibility matrix: its suites.")
    parser.add_argument("--suite", choices=["cpython", "gevent"])
    parser.add_argument("--version", help="of CPython: 3.11, 3.12 ...")
    parser.add_argument("--module", action="append", help="may be given several times")
    parser.add_argument("--loop", help="of gevent")
    parser.add_argument("--debian", action="store_true")
    parser.add_argument("--absent", action="store_true")
    parser.add_argument("--programs", type=Path, nargs="+", metavar="JUNIT.XML")
    wanted = parser.parse_args()
    if wanted.programs:
        failed = results.store_programs(wanted.programs)
        print(f"{len(results.probes())} probes" + "".join(f"\n    failed: {name}" for name in failed))
        return 1 if failed else 0
    if wanted.debian:
        print("\n".join(sorted(matrix.debian_packages(matrix.load()))))
        return 0
    if wanted.absent:
        there = interpreters.find()
        print("\n".join(minor for minor in matrix.minors(matrix.load()) if minor not in there))
        return 0
    if os.geteuid() != 0:
        sys.exit("python -m compat: needs root: network namespaces")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the children of a background job inherit SIG_IGN
    sweep()
    begin = time.monotonic()
    chosen, absent = jobs(wanted)
    results.store_absent(absent)
    unlisted = run_all(chosen)
    print(f"{len(chosen)} modules in {(time.monotonic() - begin) / 60:.1f} minutes")
    if unlisted:
        print(f"{len(unlisted)} differences that differences.toml does not list:\n" + "\n".join(unlisted))
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
