"""``python -m tests.differential``: more seeds than the test has; every difference is printed with its seed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.netns import sweep

from tests.differential.runs import report, run

AT_ONCE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="1-1000", help="one, or first-last (default 1-1000)")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    seeds = list(range(int(first), int(last or first) + 1))
    sweep()
    differing, unrepeated = 0, 0
    explanations: set[str] = set()
    for at in range(0, len(seeds), AT_ONCE):
        outcome = run(seeds[at : at + AT_ONCE])
        differing += len(outcome.differing)
        unrepeated += len(outcome.unrepeated)
        explanations |= outcome.explanations
        if outcome.differing:
            print(report(outcome.differing), flush=True)
    print(
        f"{len(seeds)} seeds; unexplained: {differing}; did not repeat: {unrepeated}; "
        f"explained by docs/differences.md: {', '.join(sorted(explanations)) or 'none'}"
    )
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
