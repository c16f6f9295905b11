"""ddtrace throws away what it has imported before the program starts: what the stack lies under is kept.

Where gevent is installed, ddtrace takes every module that it imported out of ``sys.modules``, so that the program gets
fresh copies and gevent patches those alone. A fresh ``socket`` has the kernel's class in it. The modules that the stack
has changed, and those that set it off, are therefore put back; ddtrace then shares them with the program, as with
``DD_UNLOAD_MODULES_FROM_SITECUSTOMIZE=false``. All others are dropped as ddtrace has it.

Who calls it: ``patcher``, once ``ddtrace.bootstrap.cloning`` has been imported.
"""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from .patcher import Patcher

TARGETS = ("ddtrace.bootstrap.cloning",)


def patch(patcher: Patcher) -> None:
    """Wrap the function that drops modules."""
    from ddtrace.bootstrap import cloning

    real = cloning.cleanup_loaded_modules

    @functools.wraps(real)
    def cleanup_loaded_modules() -> None:
        kept = {name: sys.modules[name] for name in _ours(patcher) if name in sys.modules}
        real()
        sys.modules.update(kept)

    patcher.replace(cloning, "cleanup_loaded_modules", cleanup_loaded_modules)


def _ours(patcher: Patcher) -> set[str]:
    """The names of modules that we have changed, or whose import sets something of ours off."""
    from . import _SHIMS

    changed = {label.rpartition(".")[0] for label in patcher.replaced()}
    targets = {target for targets in _SHIMS.values() for target in targets}
    # A class's attribute is labelled module.Class.attribute.
    owners = {name.rpartition(".")[0] for name in changed} - {""}
    return {name for name in changed | owners | targets if not name.startswith("ddtrace")}
