"""Post-import hooks: call a function once a module has been imported, wherever and whenever that happens.

It owns one finder on ``sys.meta_path``, there only while hooks wait. ``patcher`` is the only caller.
The finder asks the other finders for the module and puts a loader around theirs which runs the hooks after
the module's body, before anybody else sees the module; the module's own ``__loader__`` and ``__spec__`` stay what
they would have been. What never happens here: nothing is imported that the interpreter has not loaded anyway.

Why not ``wrapt``'s hooks, which do the same: importing wrapt 2 takes 55 to 65 ms in every process (it loads asyncio,
and with it socket, select and ssl before they could be patched); this file takes 0.2 ms.
"""

from __future__ import annotations

import sys
from _thread import RLock, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    ModuleHook = Callable[[ModuleType], None]
    Around = Callable[[], Callable[[], None]]

_lock = RLock()  # guards the tables; never held while a hook or a finder runs
_waiting: dict[str, list[ModuleHook]] = {}
# By module: called before its body runs; what it returns is called after.
_around: dict[str, Around] = {}
# Hooks of modules whose body was running when they were registered (`import selectors` imports `select` on the way):
# such a module went by unseen, so its hooks run after the next import that we do see, or the next registration.
_unfinished: list[tuple[ModuleType, ModuleHook]] = []
# Modules whose body is over and whose hooks run now: they count as initializing still, and are complete.
_complete: list[ModuleType] = []
_searching: set[tuple[str, int]] = set()


def when_imported(name: str, hook: ModuleHook) -> None:
    """Call ``hook(module)`` after the module called ``name`` has been imported; at once if it already was."""
    with _lock:
        module = sys.modules.get(name)
        if module is None:
            _waiting.setdefault(name, []).append(hook)
            if _finder not in sys.meta_path:
                sys.meta_path.insert(0, _finder)
            return
        _unfinished.append((module, hook))
    _run_finished()


def around_import(name: str, enter: Around) -> None:
    """Call ``enter()`` before the body of the module called ``name`` runs, and what it returns afterwards.

    For a module whose body captures what cannot be reached later. Nothing happens if it was imported already.
    """
    with _lock:
        if name not in sys.modules:
            _around[name] = enter
            if _finder not in sys.meta_path:
                sys.meta_path.insert(0, _finder)


def _run_finished() -> None:
    """Run the hooks in ``_unfinished`` whose module is complete by now."""
    with _lock:
        ready = [entry for entry in _unfinished if not _is_initializing(entry[0])]
        _unfinished[:] = [entry for entry in _unfinished if entry not in ready]
    for module, hook in ready:
        hook(module)


def _is_initializing(module: ModuleType) -> bool:
    if any(module is complete for complete in _complete):
        return False
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def cancel(hook: ModuleHook) -> None:
    """Forget a hook that has not run yet; the finder goes when no hook is left."""
    with _lock:
        for name, hooks in list(_waiting.items()):
            if hook in hooks:
                hooks.remove(hook)
            if not hooks:
                del _waiting[name]
        _unfinished[:] = [entry for entry in _unfinished if entry[1] is not hook]
        _drop_idle_finder()


def cancel_around(enter: Around) -> None:
    """Forget what was to be called around an import."""
    with _lock:
        for name in [name for name, known in _around.items() if known is enter]:
            del _around[name]
        _drop_idle_finder()


def _drop_idle_finder() -> None:
    if not _waiting and not _around and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _run_hooks(module: ModuleType, name: str) -> None:
    with _lock:
        hooks = _waiting.pop(name, [])
        # Registered while the body ran, which is over now although the module still counts as initializing.
        hooks += [hook for unfinished, hook in _unfinished if unfinished is module]
        _unfinished[:] = [entry for entry in _unfinished if entry[0] is not module]
        _drop_idle_finder()
        _complete.append(module)
    try:
        for hook in hooks:
            hook(module)
    finally:
        with _lock:
            _complete.remove(module)
    _run_finished()


class _Finder:
    """Finds only what a hook waits for, by asking the finders after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name not in _waiting and name not in _around:
            return None
        search = (name, get_ident())
        with _lock:
            if search in _searching:
                return None  # another finder that asks everybody, as we do
            _searching.add(search)
        try:
            spec = _ask_others(name, path, target)
        finally:
            with _lock:
                _searching.discard(search)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # a loader by its methods
        return spec


def _ask_others(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        if finder is not _finder:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


class _Loader:
    """The real loader, and the hooks after it. It takes itself out before the module's body runs."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See importlib.abc.Loader."""
        module: ModuleType | None = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """See importlib.abc.Loader; then the hooks run."""
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._real
        module.__loader__ = self._real
        name = spec.name if spec is not None else module.__name__
        with _lock:
            enter = _around.pop(name, None)
        leave = enter() if enter is not None else None
        try:
            self._real.exec_module(module)
        finally:
            if leave is not None:
                leave()
        _run_hooks(module, name)


_finder = _Finder()
