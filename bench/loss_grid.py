"""Goodput over bad links: ours and the Linux kernel against each other, in every cell of a grid.

    python bench/loss_grid.py --json grid.json                    # the whole grid, 3 repetitions: half an hour
    python bench/loss_grid.py --loss 1 5 --rtt 10 --faults none --repetitions 5 --json grid.json
    python bench/loss_grid.py --loss 5 --rtt 0.1 --keep --json grid.json          # these cells anew, the others stay
    python bench/loss_grid.py --publish docs/loss-grid.md --json grid.json        # runs nothing: the page from the file

A cell is a loss (percent of the TCP segments, each way), a round trip (ms, both ways' propagation together) and a
fault: none; reordering (5 % of the segments held back by up to a quarter of a round trip, at least 1 ms); spikes (the
link stands still for 200 to 400 ms, every 0.75 to 2.25 s). The link carries 100 Mbit/s and queues one
bandwidth-delay product, at least 100 packets.

       namespace A                 namespace in the middle                  namespace B
    transfer.py send  veth --- to_a [link_emulator, FIFO] to_b --- veth  transfer.py receive

The whole grid is run once, then again; --json is written after every cell, and --minutes begins no cell later than
that, so that an early end costs repetitions and no cells. In each repetition of a cell the three pairings run one after
the other, in changing order, over links with the same seed: the n-th segment meets the same luck. Linux to Linux is the
measure; ours to Linux and Linux to ours are given as shares of it, medians of the repetitions. Goodput is what the
receiver read within the time from the sender's connect() on. Linux uses CUBIC (--congestion); its route metrics are not
kept between connections.

Linux's TCP runs where frames are handed over, within the emulator's priority; ours within the program. So that other
work on the machine weighs on both alike, everything but the emulator runs at a nice value of -15.

Cells that need little of the machine run side by side (--at-once Mbit/s of expected goodput together). Printed as
well: how late the emulator released frames, what it missed (nothing, or the run is void), how busy the machine was.
Needs root, ethtool, cargo, and a release build. Nothing here passes or fails by itself: --least 0.9 makes it so.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from paired_echo import BUSY_FIELDS, refuse_debug_build  # noqa: E402
from support.netns import Netns, join, sweep  # noqa: E402
from support.programs import KERNEL, OURS, Programs, parse_listing  # noqa: E402

A4, B4, A6, B6, PORT = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2", 8000
RATE_MBIT = 100.0
MSS, PACKET = 1448, 1514
TRANSFER = str(pathlib.Path(__file__).with_name("transfer.py"))
OURS_OPTIONS = ("--device", "xdp:veth", "--require")
LINUX_LINUX, OURS_LINUX, LINUX_OURS = (KERNEL, KERNEL), (OURS, KERNEL), (KERNEL, OURS)
PAIRINGS = {LINUX_LINUX: "Linux→Linux", OURS_LINUX: "ours→Linux", LINUX_OURS: "Linux→ours"}
FAULTS = ("none", "reordering", "spikes")
SHARES = ("ours→Linux", "Linux→ours")
NICE = -15
# About, for the whole grid once.
MINUTES = 9


@dataclass(frozen=True)
class Cell:
    """One place of the grid: percent, milliseconds, which fault."""

    loss: float
    rtt: float
    fault: str

    def emulator_options(self, seed: int) -> list[str]:
        """What link_emulator is told."""
        queue = max(RATE_MBIT * 1e6 / 8 * self.rtt / 1e3, 100 * PACKET)
        options = {"rate-mbit": RATE_MBIT, "queue-bytes": queue, "delay-us": self.rtt * 500, "loss": self.loss / 100}
        if self.fault == "reordering":
            options |= {"reorder": 0.05, "reorder-by-us": max(self.rtt * 250, 1000)}
        elif self.fault == "spikes":
            options |= {"spike-every-ms": 1500, "spike-length-ms": 300}
        options |= {"seed": seed, "priority": 1}
        return [word for name, value in options.items() for word in (f"--{name}", f"{value:.10g}")]

    def expected_mbit(self) -> float:
        """About what a Reno would get (Mathis et al. 1997), for sharing the machine only."""
        if not self.loss:
            return RATE_MBIT
        return min(RATE_MBIT, 1.5 * MSS * 8 / ((self.rtt + 0.5) / 1e3 * (self.loss / 100) ** 0.5) / 1e6)

    def seconds(self) -> float:
        """How long a transfer takes: some tens of round trips and several spikes."""
        return 8.0 if self.rtt > 20 else 6.0 if self.fault == "spikes" else 4.0


@dataclass(frozen=True)
class Run:
    """One transfer. Shares of all cores from 0 to 1; lateness in microseconds."""

    pairing: str
    seed: int
    mbit: float
    sender_cpu_seconds: float
    receiver_cpu_seconds: float
    emulator_cpu_seconds: float
    machine_busy: float
    emulator: dict[str, object]
    failure: str | None = None
    # Which sources it was.
    commit: str = ""


@dataclass(frozen=True)
class Environment:
    """Where and when the grid was run."""

    commit: str
    kernel: str
    cores: int
    congestion: str
    when: str


class RunFailed(Exception):
    """A transfer that did not end as it should; counts as no goodput at all."""


class Link:
    """Three namespaces in a row, kept for many runs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self.a, self.middle, self.b = (self._namespace(undo, label) for label in ("a", "middle", "b"))
            join(self.a, self.middle, "to_a", A4, A6)
            join(self.b, self.middle, "to_b", B4, B6)
            for ns in (self.a, self.b):
                ns.sysctl("net.ipv4.tcp_no_metrics_save", "1")
            # nobody waits for ARP over a slow link, or loses it
            for ns, other, address in ((self.a, self.b, B4), (self.b, self.a, A4)):
                link = json.loads(other.run("ip", "-j", "link", "show", "veth").stdout)[0]["address"]
                ns.ip("neigh", "replace", address, "lladdr", link, "dev", "veth", "nud", "permanent")
            self._undo = undo.pop_all()

    @staticmethod
    def _namespace(undo: contextlib.ExitStack, label: str) -> Netns:
        ns = Netns(f"grid-{label}")
        undo.callback(ns.delete)
        return ns

    def close(self) -> None:
        """Removes the namespaces and ends what runs in them."""
        self._undo.close()

    @contextlib.contextmanager
    def emulated(self, args: argparse.Namespace, cell: Cell, seed: int) -> Iterator[dict[str, object]]:
        """The link carries frames meanwhile; afterwards the dictionary holds the emulator's account."""
        account: dict[str, object] = {}
        argv = [*self.middle.exec(), args.emulator, "to_a", "to_b", *cell.emulator_options(seed)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    raise SystemExit("loss_grid: the emulator did not start; its message is above")
                yield account
                process.stdin.close()
                account |= json.loads(process.stdout.read())
            finally:
                process.kill()


def last_line(program_output: str, why: str) -> dict[str, float]:
    """The JSON object that an end of the transfer printed last."""
    lines = program_output.splitlines()
    if not lines:
        raise RunFailed(why)
    parsed: dict[str, float] = parse_listing(lines[-1])
    return parsed


def busy_ticks() -> tuple[int, int]:
    """(busy, all) ticks of all cores since the start."""
    ticks = [int(tick) for tick in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks[field] for field in BUSY_FIELDS), sum(ticks)


def ends(args: argparse.Namespace, link: Link, cell: Cell, pairing: tuple[str, str]) -> tuple[dict[str, float], ...]:
    """Lets one transfer happen; what sender and receiver say of it, and the sender's last word."""
    programs = Programs()
    try:
        options = [OURS_OPTIONS if stack == OURS else () for stack in pairing]
        argv = [TRANSFER, "receive", B4, str(PORT), str(cell.seconds())]
        receiver = programs.start(argv, stack=pairing[1], ns=link.b, port=PORT, options=options[1])
        # by the socket: a namespace cannot have another default than the machine allows
        argv = [TRANSFER, "send", B4, str(PORT), *([args.congestion] if pairing[0] == KERNEL else [])]
        sender = programs.start(argv, stack=pairing[0], ns=link.a, options=options[0])
        if receiver.wait(cell.seconds() + 40) != 0:
            raise RunFailed(f"receiver: {receiver.stderr()[-400:]} sender: {sender.stderr()[-400:]}")
        with contextlib.suppress(AssertionError):  # the reset is lost as often as anything else
            sender.wait(2)
        sent = parse_listing(sender.stdout().splitlines()[0])
        return sent, last_line(receiver.stdout(), "nothing received"), last_line(sender.stdout(), "nothing sent")
    finally:
        programs.close()


def transfer(args: argparse.Namespace, link: Link, cell: Cell, pairing: tuple[str, str], seed: int) -> Run:
    """One run of one pairing."""
    before = busy_ticks()
    with link.emulated(args, cell, seed) as account:
        try:
            sent, received, last = ends(args, link, cell, pairing)
        except (RunFailed, AssertionError) as error:
            print(f"loss_grid: {cell} {PAIRINGS[pairing]} seed {seed}: {error}", file=sys.stderr, flush=True)
            return Run(PAIRINGS[pairing], seed, 0.0, 0.0, 0.0, 0.0, 0.0, account, str(error), args.commit)
    after = busy_ticks()
    for stack, end in zip(pairing, (sent, received), strict=True):
        if bool(end["ours"]) != (stack == OURS):
            raise SystemExit(f"loss_grid: {cell} {pairing}: an end ran on the other stack: {end}")
    mbit = received["bytes"] * 8 / (received["end"] - sent["connected"]) / 1e6
    busy = (after[0] - before[0]) / max(after[1] - before[1], 1)
    emulator_cpu = account.pop("cpu_seconds")
    assert isinstance(emulator_cpu, float)
    sender_cpu = last.get("cpu_seconds", float("nan"))
    receiver_cpu = received["cpu_seconds"]
    return Run(PAIRINGS[pairing], seed, mbit, sender_cpu, receiver_cpu, emulator_cpu, busy, account, commit=args.commit)


class Share:
    """The machine's throughput, given out in Mbit/s; what asks for all of it runs alone."""

    def __init__(self, mbit: float) -> None:
        self._all = self._left = mbit
        self._changed = threading.Condition()
        self.stopped = False

    @contextlib.contextmanager
    def of(self, mbit: float) -> Iterator[None]:
        """Waits for its turn."""
        mbit = min(mbit, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= mbit or self.stopped)
            if self.stopped:
                raise KeyboardInterrupt
            self._left -= mbit
        try:
            yield
        finally:
            with self._changed:
                self._left += mbit
                self._changed.notify_all()

    def stop(self) -> None:
        """Nobody gets a turn any more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


def measure(args: argparse.Namespace, cell: Cell, repetition: int, share: Share) -> tuple[Cell, list[Run]]:
    """One repetition of one cell; nothing when the time is up."""
    runs = []
    with share.of(cell.expected_mbit()):
        if time.monotonic() > args.last_start:
            return cell, []
        with contextlib.closing(Link(args)) as link:
            turn = repetition % len(PAIRINGS)
            for pairing in list(PAIRINGS)[turn:] + list(PAIRINGS)[:turn]:
                if share.stopped:
                    raise KeyboardInterrupt
                runs.append(transfer(args, link, cell, pairing, args.seed + repetition))
    return cell, runs


def median_mbit(runs: list[Run], pairing: str) -> float:
    """Of the repetitions."""
    return statistics.median(run.mbit for run in runs if run.pairing == pairing)


def ratios(runs: list[Run]) -> tuple[float, float]:
    """Ours to Linux and Linux to ours, as shares of Linux to Linux."""
    linux = median_mbit(runs, "Linux→Linux") or float("nan")
    return median_mbit(runs, "ours→Linux") / linux, median_mbit(runs, "Linux→ours") / linux


def row(mark: float, cell: Cell, runs: list[Run]) -> str:
    """One line of the table."""

    def spread(pairing: str) -> str:
        values = [run.mbit for run in runs if run.pairing == pairing]
        return f"{statistics.median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"

    def marked(ratio: float) -> str:
        return f"{ratio:.2f}" if ratio >= mark else f"**{ratio:.2f}**"

    cells = [f"{cell.rtt:g}", f"{cell.loss:g}", cell.fault, *map(spread, PAIRINGS.values())]
    cells += [*map(marked, ratios(runs)), str(len(runs) // len(PAIRINGS)), runs[0].commit]
    return "| " + " | ".join(cells) + " |"


def verdict(mark: float, results: dict[Cell, list[Run]]) -> str:
    """How many shares reach the mark, and which is the worst."""
    shares = [
        (share, where, cell) for cell in results for share, where in zip(ratios(results[cell]), SHARES, strict=True)
    ]
    good = [share for share, _, _ in shares if share >= mark]
    share, where, cell = min(shares, key=lambda entry: entry[0])
    place = f"{cell.rtt:g} ms, {cell.loss:g} %, {cell.fault}"
    return f"{len(good)} of {len(shares)} shares reach {mark:g}; the worst is {share:.2f} ({where}, {place})."


def report(mark: float, environment: Environment, results: dict[Cell, list[Run]]) -> str:
    """The table and what it was made with, as Markdown."""
    runs = list(itertools.chain.from_iterable(results.values()))
    whole = [run.emulator for run in runs if run.failure is None]
    p99 = max((account["late_us"]["p99"] for account in whole), default=0)  # type: ignore[index]
    missed = sum(account[way]["missed"] for account in whole for way in ("a_to_b", "b_to_a"))  # type: ignore[index]
    busy = spread_of([run.machine_busy for run in runs if run.failure is None] or [0.0])
    lines = [
        f"Mbit/s, median [min–max] of the repetitions; link {RATE_MBIT:g} Mbit/s; Linux {environment.kernel} with "
        f"{environment.congestion}; {environment.when}.",
        f"Machine busy {busy} of {environment.cores} cores; emulator: worst 99th percentile of lateness {p99} µs, "
        f"frames missed {missed}; runs failed: {len(runs) - len(whole)} of {len(runs)}.",
        "",
        verdict(mark, results),
        "",
        "| RTT ms | loss % | fault | Linux→Linux | ours→Linux | Linux→ours | ours→Linux / L→L | Linux→ours / L→L | n "
        "| commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ordered = sorted(results, key=lambda cell: (cell.rtt, FAULTS.index(cell.fault), cell.loss))
    return "\n".join([*lines, *(row(mark, cell, results[cell]) for cell in ordered)])


def spread_of(values: list[float]) -> str:
    """median [min–max]"""
    return f"{statistics.median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"


def commit() -> str:
    """Which sources these are."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip() or "unknown"


def build_emulator() -> str:
    """The path of the emulator's program."""
    command = ["cargo", "build", "-q", "-p", "mtcp-host", "--example", "link_emulator", "--message-format", "json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=900).stdout
    executables = [json.loads(line).get("executable") for line in output.splitlines()]
    return str(next(path for path in executables if path))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--loss", type=float, nargs="+", default=[0, 0.1, 1, 3, 5], help="percent")
    parser.add_argument("--rtt", type=float, nargs="+", default=[0.1, 10, 100], help="ms")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the first repetition")
    parser.add_argument("--at-once", type=float, default=100.0, help="Mbit/s of cells that run side by side")
    parser.add_argument("--congestion", default="cubic", help="of the Linux ends")
    parser.add_argument("--json", type=pathlib.Path, help="where every run is written")
    parser.add_argument("--keep", action="store_true", help="cells of --json that are not run stay in it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no cell later than that")
    parser.add_argument("--publish", type=pathlib.Path, help="run nothing; write the runs of --json as a page")
    parser.add_argument("--mark", type=float, default=0.9, help="shares below are set in bold (default 0.9)")
    parser.add_argument("--least", type=float, help="exit with 1 if a share is below")
    return parser.parse_args()


def write_json(path: pathlib.Path, environment: Environment, results: dict[Cell, list[Run]]) -> None:
    """Every run, whole; never half a file."""
    cells = [asdict(cell) | {"runs": [asdict(run) for run in runs]} for cell, runs in results.items()]
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"environment": asdict(environment), "cells": cells}, indent=1))
    partial.replace(path)


def read_json(path: pathlib.Path) -> tuple[Environment, dict[Cell, list[Run]]]:
    """What write_json has written."""
    document = json.loads(path.read_text())
    results = {}
    environment = Environment(**document["environment"])
    for entry in document["cells"]:
        runs = [Run(**({"commit": environment.commit} | run)) for run in entry.pop("runs")]
        results[Cell(**entry)] = runs
    return environment, results


PAGE = """# Loss grid

Goodput of one connection over bad links, ours and the Linux kernel against each other. What a cell is and how it is
measured stands at the head of [bench/loss_grid.py](../bench/loss_grid.py). Made by

    {command}
    python bench/loss_grid.py --publish docs/loss-grid.md --json grid.json

(root, `ethtool`; some {minutes:.0f} minutes). Shares below {mark:g} are set in bold. `n` counts the repetitions:
fewer where `--minutes` ended the run. `commit`: the sources of that row; some cells were run again (`--keep`), with
more repetitions where the network's luck scatters the figures widely.

{report}
"""


def publish(args: argparse.Namespace) -> None:
    """The page of docs/."""
    environment, results = read_json(args.json)
    runs = statistics.mode(len(of_cell) for of_cell in results.values()) // len(PAIRINGS)
    command = f'make grid ARGS="--repetitions {runs} --json grid.json"'
    page = PAGE.format(
        command=command, minutes=MINUTES * runs, mark=args.mark, report=report(args.mark, environment, results)
    )
    args.publish.write_text(page)


def run_all(args: argparse.Namespace, environment: Environment) -> dict[Cell, list[Run]]:
    """Every cell once, then every cell again; with --keep the earlier ones besides."""
    cells = [Cell(*place) for place in itertools.product(args.loss, args.rtt, args.faults)]
    cells.sort(key=Cell.expected_mbit)
    kept = read_json(args.json)[1] if args.keep else {}
    results = {cell: runs for cell, runs in kept.items() if cell not in cells}
    share = Share(args.at_once)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(measure, args, cell, n, share) for n in range(args.repetitions) for cell in cells]
        try:
            for job in as_completed(jobs):
                cell, runs = job.result()
                if runs:
                    results.setdefault(cell, []).extend(runs)
                    print(row(args.mark, cell, results[cell]), file=sys.stderr, flush=True)
                    if args.json:
                        write_json(args.json, environment, results)
        except BaseException:
            share.stop()
            raise
    return results


def main() -> None:
    args = parse_arguments()
    if (args.keep or args.publish) and not args.json:
        sys.exit("loss_grid: --keep and --publish need --json")
    if args.publish:
        publish(args)
        return
    refuse_debug_build()
    if os.geteuid() != 0:
        sys.exit("loss_grid: needs root, for network namespaces and XDP")
    args.emulator = build_emulator()
    sweep()
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    args.last_start = time.monotonic() + 60 * args.minutes
    args.commit = commit()
    environment = Environment(
        args.commit, os.uname().release, os.cpu_count() or 0, args.congestion, time.strftime("%Y-%m-%d", time.gmtime())
    )
    results = run_all(args, environment)
    print(report(args.mark, environment, results))
    worst = min(itertools.chain.from_iterable(map(ratios, results.values())))
    if args.least is not None and worst < args.least:
        sys.exit(f"loss_grid: a share of {worst:.2f} is below {args.least}")


if __name__ == "__main__":
    main()
