"""Runs a Python command line plainly and by the launcher, in one directory, and compares all that a person can see."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from support import need
from support.programs import clean_environment

TIMEOUT_S = 30
# Says all of itself that differs, or must not, between the two ways to start it.
PROBE = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "orig_argv": sys.orig_argv, "executable": sys.executable, "prefix": sys.prefix,
    "name": __name__, "file": globals().get("__file__"), "package": __package__, "doc": __doc__,
    "loader": type(__loader__).__name__, "spec": getattr(__spec__, "name", None), "cached": globals().get("__cached__"),
    "globals": sorted(globals()), "flags": list(sys.flags), "xoptions": sys._xoptions, "warnings": sys.warnoptions,
    "cwd": os.getcwd(), "dunder_main_is_here": sys.modules["__main__"].__dict__ is globals(),
    "sitecustomize": getattr(sys.modules.get("sitecustomize"), "__file__", None),
    "importer_cache": [path for path in sys.path_importer_cache if "bootstrap" in path],
    "stdin": sys.stdin.read() if not sys.stdin.isatty() and "-" not in sys.orig_argv else None,
}, indent=1))
"""


class Seen(NamedTuple):
    """What is left of a run."""

    status: int
    out: str
    err: str


class Runner:
    """Starts command lines in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, text: str) -> Path:
        """A file in the directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, words: Sequence[str], stdin: str = "", env: Mapping[str, str] | None = None) -> Seen:
        """The interpreter with these words."""
        done = subprocess.run(
            [sys.executable, *words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=clean_environment(None, **(env or {})),
            timeout=TIMEOUT_S,
            check=False,
            # A test runner in the background has SIGINT ignored, and hands that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        return Seen(done.returncode, done.stdout, done.stderr)

    def launch(self, words: Sequence[str], flags: Sequence[str] = (), **more: object) -> Seen:
        """The same by the launcher; ``flags`` are python's, before ``-m mtcp_patch``."""
        return self.run([*flags, "-m", "mtcp_patch", "--device", "memory", *words], **more)  # type: ignore[arg-type]

    def both(self, words: Sequence[str], **more: object) -> Seen:
        """Runs both ways and asserts that nothing differs. Returns what was seen."""
        plain = self.run(words, **more)  # type: ignore[arg-type]
        assert self.launch(words, **more) == plain
        return plain


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A Runner in an empty directory, with the native part there."""
    need.stack()
    return Runner(tmp_path)


@pytest.fixture
def probe(runner: Runner) -> Callable[[str], Path]:
    """probe("name.py") writes the program that describes itself."""
    return lambda name: runner.write(name, PROBE)
