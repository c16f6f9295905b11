"""The registry of every name that mtcp_patch swaps, and the way back.

It owns: the list of replaced attributes with their originals, the undo actions of the shims, the post-import
hooks, and the two lists that ``--info`` prints (what is patched; what stays on the kernel, and why).

Who calls it, in this order:

1. ``mtcp_patch.install()`` makes one :class:`Patcher` and hands it every shim with :meth:`Patcher.add_shim`;
2. when the first module named in the shim's ``TARGETS`` has been imported (at once if it already was), the shim's
   ``patch(patcher)`` is called, **once**. It calls :meth:`Patcher.replace`, :meth:`Patcher.on_restore`,
   :meth:`Patcher.when_imported` (for further modules), :meth:`Patcher.keep_on_kernel`;
3. ``mtcp_patch.uninstall()`` calls :meth:`Patcher.restore`, which undoes everything, last change first.

What never happens here: no name of a patched module is known, no native code is loaded, nothing is printed; and
nothing is imported that the interpreter has not loaded anyway (this runs at the start of every child process).

A shim therefore names in ``TARGETS`` only modules after whose import ``patch()`` can do all that it does outside
``when_imported``. (``_socket`` is imported in the middle of ``socket``: a shim that needs ``socket.socket`` names
``socket``.)
"""

from __future__ import annotations

import sys
from _thread import RLock

from . import import_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any, Protocol, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

    ModuleHook = Callable[[ModuleType], None]
    Around = Callable[[], Callable[[], None]]

    class Shim(Protocol):
        """What every ``*_shim.py`` module offers."""

        TARGETS: tuple[str, ...]

        def patch(self, patcher: Patcher) -> None:
            """Swap what this shim swaps; called once, after one of ``TARGETS`` was imported."""

else:
    ModuleType = type(sys)  # as types has it


class _Absent:
    """Stands for "the owner's own namespace had no such name" (it may have inherited one)."""


_ABSENT = _Absent()

# Modules whose globals are never rebound: the interpreter's own raw modules, on which import itself runs.
_RAW_MODULES = frozenset({"posix", "_frozen_importlib", "_frozen_importlib_external", "builtins", "sys"})


class _Replacement:
    """One swapped attribute: enough to put it back, and to see whether somebody swapped it again."""

    __slots__ = ("label", "name", "new", "original", "owner")

    def __init__(self, owner: object, name: str, original: object, new: object, label: str) -> None:
        self.owner = owner
        self.name = name
        self.original = original
        self.new = new
        self.label = label

    def undo(self) -> str | None:
        """Put the original back.

        Returns a sentence if the attribute was changed by somebody else in the meantime; it is then left as it is.
        """
        if vars(self.owner).get(self.name, _ABSENT) is not self.new:
            return f"{self.label} was replaced again by other code and is left as it is"
        if self.original is _ABSENT:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.original)
        return None


class Patcher:
    """Swaps attributes, remembers the originals, restores them in reverse order."""

    def __init__(self) -> None:
        # Guards the tables only. Never held while a hook runs: a hook may import, and another thread that holds that
        # import's lock may be waiting for this one.
        self._lock = RLock()
        self._undo: list[_Replacement | Callable[[], None]] = []
        self._originals: dict[str, object] = {}
        self._on_kernel: dict[str, str] = {}
        self._to_rebind: dict[int, tuple[object, object]] = {}
        self._hooks: list[ModuleHook] = []
        self._around: list[Around] = []
        self._active = True

    # --- for the shims -------------------------------------------------------------------------------------------

    def replace(self, owner: object, name: str, new: object, *, rebind: bool = True) -> object:
        """Set ``owner.name`` to ``new`` and return what was there (looked up through the owner's own namespace first).

        ``rebind``: modules that had already done ``from owner import name`` get ``new`` as well, if it is a function
        or a class: a number is the same object wherever it is used.
        Replacing the same attribute twice keeps the first original. ``new`` is an object that stands for nothing
        else: on restore, modules that copied it in the meantime get the original.
        """
        with self._lock:
            own = vars(owner).get(name, _ABSENT)
            original = getattr(owner, name, _ABSENT) if own is _ABSENT else own
            label = f"{_path_of(owner)}.{name}"
            setattr(owner, name, new)
            self._undo.append(_Replacement(owner, name, own, new, label))
            if original is not _ABSENT:
                self._originals.setdefault(label, original)
                if rebind and isinstance(owner, ModuleType) and callable(original):
                    self._to_rebind[id(original)] = (original, new)
            return None if original is _ABSENT else original

    def on_restore(self, undo: Callable[[], None]) -> None:
        """Register an undo action for a change that :meth:`replace` cannot express (``__bases__``, defaults)."""
        with self._lock:
            self._undo.append(undo)

    def offer_original(self, name: str, value: object) -> None:
        """Answer ``value`` to ``mtcp_patch.original(name)``, for originals that no :meth:`replace` recorded."""
        with self._lock:
            self._originals[name] = value

    def keep_on_kernel(self, what: str, why: str) -> None:
        """Tell ``--info`` that ``what`` is left to the kernel, and the reason in one clause."""
        with self._lock:
            self._on_kernel[what] = why

    def when_imported(self, module: str, hook: ModuleHook) -> None:
        """Call ``hook(module)`` once the named module has been imported; at once if it already was.

        The hook does not run any more after :meth:`restore`.
        """

        def run(imported: ModuleType) -> None:
            if self._active:
                hook(imported)
                self._rebind_early_imports()

        with self._lock:
            self._hooks.append(run)
        import_hooks.when_imported(module, run)

    def around_import(self, module: str, enter: Around) -> None:
        """Call ``enter()`` before the named module's body runs, and what it returns after it: see ``import_hooks``."""
        with self._lock:
            self._around.append(enter)
        import_hooks.around_import(module, enter)

    # --- for mtcp_patch/__init__.py ------------------------------------------------------------------------------

    def add_shim(self, module: str, targets: Iterable[str]) -> None:
        """Load the named shim and call its ``patch(self)``, once, when the first of its targets has been imported."""
        done = False

        def run(_imported: ModuleType) -> None:
            nonlocal done
            with self._lock:
                first, done = not done, True
            if first:
                __import__(module)
                shim: Shim = sys.modules[module]
                shim.patch(self)

        for target in targets:
            self.when_imported(target, run)

    def original(self, name: str) -> object:
        """The object behind a dotted name before it was patched. Raises LookupError if it was not patched."""
        with self._lock:
            return self._originals[name]

    def replaced(self) -> list[str]:
        """The dotted names that are patched now, sorted."""
        with self._lock:
            return sorted({entry.label for entry in self._undo if isinstance(entry, _Replacement)})

    def on_kernel(self) -> dict[str, str]:
        """What the shims leave to the kernel: thing -> reason."""
        with self._lock:
            return dict(self._on_kernel)

    def restore(self) -> None:
        """Undo every change, last one first. An attribute that other code replaced after us is left, with a warning."""
        for hook in self._hooks:
            import_hooks.cancel(hook)
        for enter in self._around:
            import_hooks.cancel_around(enter)
        with self._lock:
            self._active = False
            late: dict[int, tuple[object, object]] = {
                id(entry.new): (entry.new, self._originals.get(entry.label, entry.original))
                for entry in self._undo
                if isinstance(entry, _Replacement) and isinstance(entry.owner, ModuleType) and callable(entry.new)
            }
            left = [_undo_one(entry) for entry in reversed(self._undo)]
            # Modules that copied the new objects while we were there.
            for module, name, _new, original in _holders(late):
                if original is not _ABSENT:
                    setattr(module, name, original)
            self._undo.clear()
            self._originals.clear()
            self._on_kernel.clear()
            self._to_rebind.clear()
        if any(left):
            import warnings
        for sentence in filter(None, left):
            warnings.warn(f"mtcp_patch: {sentence}", RuntimeWarning, stacklevel=3)

    # --- internal ------------------------------------------------------------------------------------------------

    def _rebind_early_imports(self) -> None:
        """Give the new objects to modules that copied the old ones by ``from x import y`` before we came."""
        with self._lock:
            table, self._to_rebind = self._to_rebind, {}
            for module, name, old, new in _holders(table):
                self._undo.append(_Replacement(module, name, old, new, f"{_path_of(module)}.{name}"))
                setattr(module, name, new)


def named_after(real: Callable[..., Any]) -> Callable[[Function], Function]:
    """``functools.wraps`` for the shims of every process, at whose start functools is mostly not loaded yet."""

    def name(new: Function) -> Function:
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(real, attribute):
                setattr(new, attribute, getattr(real, attribute))
        new.__wrapped__ = real  # type: ignore[attr-defined]
        return new

    return name


def _holders(table: dict[int, tuple[object, object]]) -> Iterator[tuple[ModuleType, str, object, object]]:
    """Where modules hold a key of ``table`` (by id; the pair is the object itself and its successor)."""
    if not table:
        return
    for module in _application_modules(sys.modules.values()):
        for name, value in list(vars(module).items()):
            found = table.get(id(value))
            if found is not None and found[0] is value:
                yield module, name, *found


def _undo_one(entry: _Replacement | Callable[[], None]) -> str | None:
    if isinstance(entry, _Replacement):
        return entry.undo()
    entry()
    return None


def _application_modules(modules: Iterable[object]) -> list[ModuleType]:
    """The loaded modules in which a rebinding is right: not our own (they keep originals on purpose), not raw ones."""
    return [
        module
        for module in list(modules)
        if isinstance(module, ModuleType)
        and module.__name__ not in _RAW_MODULES
        and module.__name__.partition(".")[0] != "mtcp_patch"
    ]


def _path_of(owner: object) -> str:
    """``module`` for a module, ``module.Class`` for a class."""
    if isinstance(owner, ModuleType):
        return owner.__name__
    module = getattr(owner, "__module__", None)
    name = getattr(owner, "__qualname__", type(owner).__qualname__)
    return f"{module}.{name}" if module else str(name)
