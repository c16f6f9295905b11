"""The CPythons of this machine, and an environment of each in which this checkout can be imported."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from compat.matrix import ROOT

MINORS = ((3, 11), (3, 12), (3, 13), (3, 14))
SECONDS = 60
# The interpreter of this process first; then what pyenv, uv, PATH, the usual folders and scripts/newer-python have.
PATTERNS = (
    "~/.pyenv/versions/*/bin/python3",
    "~/.local/share/uv/python/*/bin/python3",
    "/usr/local/bin/python3.1[1-4]",
    "/usr/bin/python3.1[1-4]",
    "/opt/*/bin/python3",
    str(ROOT / ".cache/python/*/usr/bin/python3.1[1-4]"),
)
QUESTION = "import sys, test.test_socket; print(sys.implementation.name, '.'.join(map(str, sys.version_info[:3])))"


@dataclass(frozen=True)
class Interpreter:
    """One that has the ``test`` package."""

    version: str
    path: str


def find() -> dict[str, Interpreter]:
    """One of each minor version, by it ("3.11")."""
    candidates = [sys.executable]
    candidates += [path for name in MINORS if (path := shutil.which(f"python{name[0]}.{name[1]}"))]
    candidates += [path for pattern in PATTERNS for path in sorted(glob.glob(os.path.expanduser(pattern)))]
    found: dict[str, Interpreter] = {}
    for path in candidates:
        version = _version(path)
        minor = version and version.rpartition(".")[0]
        if version and minor in {f"{a}.{b}" for a, b in MINORS}:
            found.setdefault(minor, Interpreter(version, path))
    return dict(sorted(found.items()))


def _version(path: str) -> str | None:
    """Of a CPython with tests, else None."""
    try:
        result = subprocess.run([path, "-c", QUESTION], capture_output=True, text=True, timeout=SECONDS, check=False)
    except OSError:
        return None
    match = re.fullmatch(r"cpython (\S+)\n", result.stdout)
    return match.group(1) if match else None


def environment(interpreter: Interpreter, where: Path) -> str:
    """The python of a virtual environment that imports this checkout; the one of this process if it is that version."""
    python = sys.executable
    if interpreter.path != sys.executable:
        folder = where / interpreter.version
        python = str(folder / "bin/python")
        if not os.path.exists(python):
            subprocess.run([interpreter.path, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=SECONDS)
        minor = interpreter.version.rpartition(".")[0]
        (folder / f"lib/python{minor}/site-packages/mtcp_patch_checkout.pth").write_text(f"{ROOT}\n")
    # An installed package has its bytecode; a checkout may never get it (PYTHONDONTWRITEBYTECODE).
    subprocess.run([python, "-m", "compileall", "-q", str(ROOT / "mtcp_patch")], check=True, timeout=SECONDS)
    return python
