"""`python -m tests.packetdrill [--json] FILES…`: a line a script, then totals; status 0 only when nothing failed."""

from __future__ import annotations

import argparse
import collections
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import mtcp_patch


def scripts(names: list[str]) -> Iterator[tuple[Path, Path]]:
    """The files, and every `*.pkt` in the folders, in order; each with its corpus, the folder that was named."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            yield from ((file, path) for file in sorted(path.rglob("*.pkt")))
        else:
            yield path, path.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.packetdrill", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILES", help="scripts, or folders of *.pkt")
    parser.add_argument("--json", action="store_true", help='a line an object {"file", "result", "detail"}')
    parser.add_argument(
        "--ip_version", choices=["ipv4", "ipv6", "ipv4-mapped-ipv6"], help="where a script says nothing"
    )
    parser.add_argument("--tolerance_usecs", type=int, help="where a script says nothing; 4000 as in packetdrill")
    arguments = parser.parse_args()
    overrides = {
        name: str(value)
        for name in ("ip_version", "tolerance_usecs")
        if (value := getattr(arguments, name)) is not None
    }
    mtcp_patch.install(device=["memory"])
    from .run import Result, run_file

    counts: collections.Counter[str] = collections.Counter()
    for path, corpus in scripts(arguments.files):
        try:
            result = run_file(path, corpus, overrides)
        except Exception:  # noqa: BLE001 (a fault of the runner fails its script, and the others go on)
            result = Result("fail", "the runner: " + traceback.format_exc(limit=-3).replace("\n", " | "))
        counts[result.outcome] += 1
        detail = "; ".join(filter(None, [result.detail, *(f"note: {note}" for note in result.notes)]))
        if arguments.json:
            print(json.dumps({"file": str(path), "result": result.outcome, "detail": detail}), flush=True)
        else:
            print(f"{result.outcome:11} {path}: {detail}", flush=True)
    total = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("pass", "fail", "unsupported"))
    print(total, file=sys.stderr if arguments.json else sys.stdout)
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
