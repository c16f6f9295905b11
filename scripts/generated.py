"""What the scripts that write documents share: a part of a file between two marks, and ``--check``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def with_part(text: str, marks: tuple[str, str], part: str, script: str) -> str:
    """``text`` of README.md with ``part``, which begins and ends with the marks, in the place of the one it has."""
    before, mark, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not mark or not end:
        raise SystemExit(f"{script}: README.md lacks {marks[0]} or {marks[1]}")
    return before + part + after


def main(script: str, usage: str | None, root: Path, wanted: Callable[[], dict[Path, str]]) -> None:
    """Write what the files under ``root`` should contain; with ``--check`` say which do not, and exit with 1."""
    contents = wanted()
    if sys.argv[1:] == ["--check"]:
        stale = [path for path, text in contents.items() if not path.exists() or path.read_text() != text]
        if stale:
            names = ", ".join(path.relative_to(root).as_posix() for path in stale)
            sys.exit(f"{script}: not current: {names}; run python scripts/{script}.py")
        return
    if sys.argv[1:]:
        sys.exit(usage)
    for path, text in contents.items():
        path.write_text(text)
