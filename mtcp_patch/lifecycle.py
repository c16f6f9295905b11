"""The life of a process on the stack: start, fork, exec, exit. The one place that decides who says goodbye.

The kernel closes a dead process's sockets; nobody closes ours. So before this process ends or turns into another
program, the stack sends what is left and the FINs:

| how it ends                          | what happens                                                       |
|--------------------------------------|--------------------------------------------------------------------|
| return from main, sys.exit, exception| atexit, registered first and so run last: FINs, bounded drain      |
| os._exit                             | the same, before the call                                          |
| os.execv, os.execve (all the exec*)  | the same, if the new program is there and executable; inheritable  |
|                                      | listeners go on in it (processes_shim.py)                          |
| os.fork, multiprocessing             | the child starts with an empty stack; its parent's connections stay|
|                                      | the parent's, and the child sends nothing for them; a listener that|
|                                      | has served nobody yet goes to the kernel, where both can accept,   |
|                                      | and the first to wait on it takes it over (runtime/shared.rs)      |
| SIGTERM, SIGHUP left at their default| while a device is open: the same, natively (signals.rs), then the  |
|                                      | signal itself                                                      |
| SIGKILL, other default actions       | nothing runs; the kernel answers the peer's next segment with RST  |

Who calls it: ``mtcp_patch.install()`` calls :func:`start` once an installation; ``uninstall()`` and ``status()`` the
other functions. What never happens here: no socket is patched, no setting is read from anywhere but the argument.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only signal
import atexit
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .config import Settings
    from .patcher import Patcher

_registered = False


def start(settings: Settings, patcher: Patcher) -> None:
    """Load the native part, hand it the settings, and register for exit, fork and exec.

    Raises ImportError if the native part is not built for this interpreter.
    """
    global _registered
    from .stack import _native

    _native.configure(settings.for_native())
    if not _registered:  # atexit and register_at_fork know no way back that would be worth it: once a process
        _registered = True
        atexit.register(_native.shutdown_process)
        os.register_at_fork(
            before=_native.before_fork,
            after_in_parent=_native.after_fork_parent,
            after_in_child=_native.after_fork_child,
        )
    _native.wakeup_begin(_signal.set_wakeup_fd)
    patcher.on_restore(_native.wakeup_end)
    _patch_exits(patcher, _native.shutdown_process)


def open_devices() -> None:
    """Open the devices now, not at the first listen() or connect(). Raises OSError, which says what is missing."""
    from .stack import _native

    _native.open_devices()


def open_descriptors() -> list[int]:
    """The numbers of the virtual descriptors that this process holds open."""
    from .stack import _native

    return list(_native.open_descriptors())


def stack_status() -> dict[str, Any]:
    """The document that the control socket serves, as a dictionary."""
    import json

    from .stack import _native

    document: dict[str, Any] = json.loads(_native.status_json())
    return document


def _patch_exits(patcher: Patcher, say_goodbye: Callable[[], None]) -> None:
    """Say goodbye on the ways out of this program on which atexit does not run.

    ``os.execl``, ``execvp`` and the others end in these two, by the module's own globals.
    """
    from .stack import _native

    def before_exit(status: int) -> None:
        say_goodbye()

    def before_exec(path: Any, *rest: Any, **more: Any) -> None:
        if _is_program(path):
            if _native.inheritable_descriptors():
                from .processes_shim import leave_to_next_program

                leave_to_next_program(more.get("env", rest[1] if len(rest) > 1 else None))
            say_goodbye()

    for name, first in (("_exit", before_exit), ("execv", before_exec), ("execve", before_exec)):
        patcher.replace(os, name, _native.call_before(getattr(os, name), first))


def _is_program(path: Any) -> bool:
    """Whether exec would get as far as replacing us. A failing exec (a search along PATH) must cost no connection."""
    try:
        return os.path.isfile(path) and os.access(path, os.X_OK)
    except (TypeError, ValueError):
        return False  # exec itself raises the right error
