"""``python -m mtcp_patch.bench [COMMAND …]``: measures, writes the JSON, then the page and its plots from it."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from . import namespaces, results, run, stamp
from .cases import COMMANDS
from .children import BenchError
from .plan import Plan
from .settings import SETTINGS

LEAST_PAIRS = 5


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mtcp_patch.bench", description="Our stack against the kernel's, side by side."
    )
    known = ", ".join(COMMANDS)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {known}, page; all when none is given")
    parser.add_argument("--out", type=Path, default=Path("mtcp-bench"), help="where JSON, page and plots go")
    parser.add_argument("--quick", action="store_true", help="3 short pairs of fewer points; not for publishing")
    parser.add_argument("--setting", action="append", choices=sorted(SETTINGS), help="K, X, M; all when none is given")
    parser.add_argument("--row", action="append", default=[], help="only cases whose id begins with this")
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help=f"at least {LEAST_PAIRS} (default)")
    parser.add_argument("--seconds", type=float, default=0.7, help="measured time of a run (default 0.7)")
    args = parser.parse_args(argv)
    unknown = [name for name in args.commands if name not in COMMANDS and name != "page"]
    if unknown:
        parser.error(f"no command {unknown[0]}: {known}, page")
    if args.pairs < LEAST_PAIRS:
        parser.error(f"fewer than {LEAST_PAIRS} pairs say nothing on a machine that is shared")
    if not 0.05 <= args.seconds <= 60:
        parser.error("--seconds: 0.05 to 60")
    return args


def plan_of(args: argparse.Namespace) -> Plan:
    """What was asked for."""
    settings = tuple(args.setting or SETTINGS)
    if args.quick:
        return Plan(True, settings, args.row, pairs=3, measure_ms=300, warmup_ms=150)
    return Plan(False, settings, args.row, args.pairs, int(args.seconds * 1000))


def measure(args: argparse.Namespace, names: list[str], document: results.Document) -> results.Document:
    """Every command in turn; what is done is on the disk before the next begins."""
    plan = plan_of(args)
    stamp.refuse_unfit()
    namespaces.sweep()
    with tempfile.TemporaryDirectory(prefix="mtcpb-", dir="/tmp") as runtime_dir:  # short: sun_path has 108 bytes
        run.RUNTIME_DIR.name = runtime_dir
        for name in names:
            begun = time.monotonic()
            print(f"== {name}", file=sys.stderr, flush=True)
            taken = stamp.take(quick=plan.quick, pairs=plan.pairs, seconds=plan.measure_ms / 1000)
            if taken["busy_before"] > stamp.BUSY_SHARE:
                print(f"bench: the machine is busy: {taken['busy_before']:.0%} of both cores", file=sys.stderr)
            document = results.merged(document, name, taken, COMMANDS[name](plan))
            results.write(args.out / results.NAME, document)
            print(f"== {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return document


def end_in_order(number: int, frame: object) -> NoReturn:
    """SIGTERM as Ctrl-C: children and namespaces go first."""
    raise KeyboardInterrupt


def main() -> int:
    args = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, end_in_order)
    try:
        document = results.read(args.out / results.NAME)
        names = [name for name in args.commands or COMMANDS if name != "page"]
        if names:
            document = measure(args, names, document)
        from . import page

        page.write(document, args.out)
        print(args.out / page.NAME)
    except KeyboardInterrupt:
        print("bench: interrupted; what was complete is in the JSON", file=sys.stderr)
        return 130
    except (BenchError, results.BadResults) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
