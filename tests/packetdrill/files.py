"""The files that a script makes with shell commands, in a folder of the run's own.

Nothing is executed: `rm` and `dd` of zeros are what scripts use, and what they mean is done here. A path of the
script, `/tmp/testfile`, is a name in the folder; nothing outside of it is ever touched.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .wire import Unsupported

MAX_FILE_BYTES = 1 << 24

_UNITS = {"k": 1 << 10, "K": 1 << 10, "M": 1 << 20}


class Files:
    """The files of one run; the folder goes with it."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove everything."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def find(self, path: str) -> Path | None:
        """The file that the script made under this path."""
        if self._folder is None:
            return None
        found = self._place(path)
        return found if found.is_file() else None

    def take(self, words: list[str]) -> bool:
        """Do what a command says; False when it is none of these. Raises Unsupported for what it would read or keep."""
        match Path(words[0]).name, words[1:]:
            case "rm", ["-f", *paths] if all(path.startswith("/tmp/") for path in paths):
                for path in paths:
                    self._place(path).unlink(missing_ok=True)
            case "dd", operands:
                self._dd(dict(operand.partition("=")[::2] for operand in operands))
            case _:
                return False
        return True

    def _dd(self, operands: dict[str, str]) -> None:
        if operands.get("if") != "/dev/zero" or not operands.get("of", "").startswith("/tmp/"):
            raise Unsupported(f"dd from {operands.get('if')} to {operands.get('of')}")
        count = _number(operands.get("bs", "512")) * _number(operands.get("count", "0"))
        if count > MAX_FILE_BYTES:
            raise Unsupported(f"a file of {count} bytes")
        self._place(operands["of"]).write_bytes(bytes(count))

    def _place(self, path: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="packetdrill-")
        return Path(self._folder.name) / path.strip("/").replace("/", "_")


def _number(text: str) -> int:
    unit = _UNITS.get(text[-1:], 1)
    return int(text if unit == 1 else text[:-1]) * unit
