"""``signal.set_wakeup_fd`` for the program and for the stack.

CPython writes to one descriptor when a signal arrives, and the stack's sleeps need it: a signal that comes just before
a sleep ends it only so. The program sees what it would see without us: its own descriptor, or -1.

Who calls it: ``patcher``, once; ``lifecycle`` hands CPython's own function to the native part. What never happens here:
the program's descriptor being replaced by ours; a handler or a mask being changed.
"""

from __future__ import annotations

from .patcher import named_after
from .stack import _native

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from .patcher import Patcher

TARGETS = ("_signal",)


def patch(patcher: Patcher) -> None:
    """Replace ``set_wakeup_fd`` where ``signal`` takes it from, and in ``signal`` itself if that is there."""
    import _signal  # type: ignore[import-not-found]  # typeshed knows only signal

    real = _signal.set_wakeup_fd

    @named_after(real)
    def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        before = real(fd, warn_on_full_buffer=warn_on_full_buffer)
        shown: int = _native.wakeup_replaced(fd, before)
        return shown

    patcher.replace(_signal, "set_wakeup_fd", set_wakeup_fd)
