"""``select`` and ``selectors`` over virtual and kernel descriptors at once.

It owns the replacement of ``select.select``, ``select.poll`` and ``select.epoll`` by their native counterparts, and of
every copy of the originals that was made at import: the class attributes in ``selectors``, and the pristine ``select``
that eventlet imports for its hub. The natives wait; this module only puts them in place.

Who calls it: ``patcher``, once, when ``select`` has been imported. What never happens here: no waiting, and no change
of a class beyond the attributes named below.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType

from .stack import _native

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from .patcher import Patcher

# The body of `selectors` imports `select`: named here too, it is seen to its end, whichever comes first.
TARGETS = ("select", "selectors", "eventlet.patcher")

# The class attributes of `selectors` that hold one of `select`'s objects, captured when it was imported.
_CAPTURED = (
    ("SelectSelector", "_select", "select"),
    ("PollSelector", "_selector_cls", "poll"),
    ("EpollSelector", "_selector_cls", "epoll"),
)
# Where eventlet.patcher.original("select") looks before it imports a second, unpatched copy.
_EVENTLET_PRISTINE = "__original_module_select"


def patch(patcher: Patcher) -> None:
    """Replace the three ways to wait in ``select``, and their copies in ``selectors`` and ``eventlet``."""
    import select

    for name in ("select", "poll"):
        # As CPython's own have it, so that they are named and pickled alike.
        getattr(_native, name).__module__ = "select"
    for name in ("select", "poll", "epoll"):
        patcher.replace(select, name, getattr(_native, name))
    patcher.when_imported("selectors", lambda module: _patch_selectors(patcher, module))
    patcher.when_imported("eventlet.patcher", lambda _module: _seed_eventlet(patcher, select))


def _patch_selectors(patcher: Patcher, selectors: ModuleType) -> None:
    """Give the classes the new objects, where they still hold the old ones.

    Imported after ``select`` was patched they hold the new ones already. ``EpollSelector.select`` itself is native too:
    its loop in Python costs as much as the stack does; what a subclass overrides is still called.
    """
    for class_name, attribute, name in _CAPTURED:
        selector = getattr(selectors, class_name, None)
        new = getattr(_native, name)
        if selector is None:
            continue
        if vars(selector).get(attribute) is new:
            patcher.on_restore(functools.partial(setattr, selector, attribute, patcher.original(f"select.{name}")))
        else:
            patcher.replace(selector, attribute, new)
    patcher.replace(selectors.EpollSelector, "select", _native.epoll_select(selectors.EpollSelector))


def _seed_eventlet(patcher: Patcher, select: ModuleType) -> None:
    """Keep eventlet's hub from importing an unpatched ``select`` of its own.

    It must be another module object than ``select``: ``eventlet.monkey_patch()`` deletes names from that one.
    """
    pristine = ModuleType("select", select.__doc__)
    vars(pristine).update(vars(select))
    for name in ("select", "poll", "epoll"):
        setattr(pristine, name, getattr(_native, name))
    before = sys.modules.get(_EVENTLET_PRISTINE)
    sys.modules[_EVENTLET_PRISTINE] = pristine

    def undo() -> None:
        if before is not None:
            sys.modules[_EVENTLET_PRISTINE] = before
        elif sys.modules.get(_EVENTLET_PRISTINE) is pristine:
            del sys.modules[_EVENTLET_PRISTINE]

    patcher.on_restore(undo)
