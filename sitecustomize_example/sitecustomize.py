"""Put every Python program of an environment on the stack, without a launcher: copy this file onto sys.path.

See README.md beside it. It does what the launcher's own bootstrap does, in the short form that fits a place of yours.
"""

from __future__ import annotations

import os
import sys


def _chain() -> None:
    """Run the sitecustomize that this one shadows (Debian, Ubuntu and some tools ship one)."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != here])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


try:
    import mtcp_patch
except ImportError as error:
    # Another Python, or an environment without the package: its programs run on the kernel.
    sys.stderr.write(f"sitecustomize: not on the stack: {error}\n")
else:
    mtcp_patch.install()  # settings: MTCP_PATCH_* variables, mtcp_patch.toml; MTCP_PATCH=0 switches it off

_chain()
