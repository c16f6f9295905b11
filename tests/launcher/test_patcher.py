"""Swap and restore, early imports, hooks, and what install() and uninstall() make of them."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mtcp_patch
from mtcp_patch import import_hooks
from mtcp_patch.patcher import Patcher, named_after


@pytest.fixture
def patcher() -> Iterator[Patcher]:
    """One, undone at the end."""
    made = Patcher()
    yield made
    made.restore()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A loaded module with a function in it."""
    made = types.ModuleType("some_target")
    exec("def function(): return 'old'", vars(made))
    monkeypatch.setitem(sys.modules, "some_target", made)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path, with hooked_module in it; no trace of it afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "hooked_module.py").write_text("value = ['old']\nspec_seen = __spec__.loader\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("hooked_")]:
        del sys.modules[name]


@pytest.fixture
def new() -> Callable[[], str]:
    """What the tests put in the place of function. No module holds it."""
    return lambda: "new"


def test_replace_and_restore(patcher: Patcher, module: Any, new: Callable[[], str]) -> None:
    old = module.function
    assert patcher.replace(module, "function", new) is old
    assert module.function is new
    assert patcher.original("some_target.function") is old
    assert patcher.replaced() == ["some_target.function"]
    patcher.restore()
    assert module.function is old
    assert patcher.replaced() == []
    with pytest.raises(LookupError):
        patcher.original("some_target.function")


def test_replaced_twice_keeps_the_first_original(patcher: Patcher, module: Any, new: Callable[[], str]) -> None:
    old = module.function
    patcher.replace(module, "function", new)
    patcher.replace(module, "function", lambda: "newer")
    assert patcher.original("some_target.function") is old
    patcher.restore()
    assert module.function is old


def test_a_name_that_was_not_there_goes_again(patcher: Patcher, module: Any, new: Callable[[], str]) -> None:
    assert patcher.replace(module, "more", new) is None
    patcher.restore()
    assert not hasattr(module, "more")


def test_an_inherited_attribute_becomes_inherited_again(patcher: Patcher) -> None:
    class Base:
        def method(self) -> str:
            return "base"

    class Derived(Base):
        pass

    patcher.replace(Derived, "method", lambda _self: "new")
    assert Derived().method() == "new"
    patcher.restore()
    assert "method" not in vars(Derived)
    assert Derived().method() == "base"


def test_a_static_method_stays_one(patcher: Patcher, new: Callable[[], str]) -> None:
    class Holder:
        @staticmethod
        def function() -> str:
            return "old"

    before = vars(Holder)["function"]
    patcher.replace(Holder, "function", new)
    patcher.restore()
    assert vars(Holder)["function"] is before
    assert Holder().function() == "old"


def test_undo_runs_in_reverse_order(patcher: Patcher, module: Any, new: Callable[[], str]) -> None:
    order: list[str] = []
    patcher.on_restore(lambda: order.append("first registered"))
    patcher.replace(module, "function", new)
    patcher.on_restore(lambda: order.append(module.function()))
    patcher.restore()
    assert order == ["new", "first registered"]


def test_what_others_replaced_after_us_is_left_with_a_warning(
    patcher: Patcher, module: Any, new: Callable[[], str]
) -> None:
    patcher.replace(module, "function", new)
    module.function = len
    with pytest.warns(RuntimeWarning, match=r"some_target\.function was replaced again"):
        patcher.restore()
    assert module.function is len


def test_early_imports_are_rebound(
    patcher: Patcher, module: Any, monkeypatch: pytest.MonkeyPatch, new: Callable[[], str]
) -> None:
    early, ours, raw = (types.ModuleType(name) for name in ("early", "mtcp_patch.some_shim", "posix"))
    old = module.function
    for holder in (early, ours, raw):
        monkeypatch.setitem(sys.modules, holder.__name__, holder)
        vars(holder)["renamed"] = old
    patcher.when_imported("some_target", lambda target: patcher.replace(target, "function", new) and None)
    assert vars(early)["renamed"] is new
    assert vars(ours)["renamed"] is old
    assert vars(raw)["renamed"] is old
    patcher.restore()
    assert vars(early)["renamed"] is old


def test_late_imports_are_given_back(
    patcher: Patcher, module: Any, monkeypatch: pytest.MonkeyPatch, new: Callable[[], str]
) -> None:
    old = module.function
    patcher.replace(module, "function", lambda: "newer")
    patcher.replace(module, "function", new)
    late = types.ModuleType("late")
    monkeypatch.setitem(sys.modules, "late", late)
    vars(late)["copied"] = module.function
    patcher.restore()
    assert vars(late)["copied"] is old


def test_a_number_is_not_rebound_elsewhere(patcher: Patcher, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("other")
    monkeypatch.setitem(sys.modules, "other", other)
    vars(other).update(one=1, two=2)
    module.number = 1
    patcher.when_imported("some_target", lambda target: patcher.replace(target, "number", 2) and None)
    assert (vars(other)["one"], vars(other)["two"], module.number) == (1, 2, 2)
    patcher.restore()
    assert (vars(other)["one"], vars(other)["two"], module.number) == (1, 2, 1)


def test_hook_runs_after_the_body_and_before_anyone_else(patcher: Patcher, folder: Path) -> None:
    (folder / "hooked_user.py").write_text("from hooked_module import value\n")
    # A list, whose identity is its own: replace() finds an original wherever it was imported to, and a small number
    # is the same object in every module of the process.
    patcher.when_imported("hooked_module", lambda target: patcher.replace(target, "value", ["new"]) and None)
    import hooked_user  # type: ignore[import-not-found]

    assert hooked_user.value == ["new"]


def test_a_hooked_module_looks_like_any_other(patcher: Patcher, folder: Path) -> None:
    finders = list(sys.meta_path)
    seen: list[types.ModuleType] = []
    patcher.when_imported("hooked_module", seen.append)
    import hooked_module  # type: ignore[import-not-found]

    assert seen == [hooked_module]
    kind = "SourceFileLoader"
    for loader in (hooked_module.__loader__, hooked_module.__spec__.loader, hooked_module.spec_seen):
        assert type(loader).__name__ == kind
    assert sys.meta_path == finders, "the finder stays no longer than a hook waits"


@pytest.mark.usefixtures("folder")
def test_no_hook_after_restore() -> None:
    patcher = Patcher()
    seen: list[types.ModuleType] = []
    patcher.when_imported("hooked_module", seen.append)
    patcher.restore()
    import hooked_module  # noqa: F401

    assert seen == []


def test_an_import_that_fails_may_be_tried_again(patcher: Patcher, folder: Path) -> None:
    seen: list[types.ModuleType] = []
    patcher.when_imported("hooked_broken", seen.append)
    with pytest.raises(ModuleNotFoundError):
        import hooked_broken  # type: ignore[import-not-found]
    (folder / "hooked_broken.py").write_text("1 / 0\n")
    sys.path_importer_cache.clear()
    with pytest.raises(ZeroDivisionError):
        import hooked_broken
    (folder / "hooked_broken.py").write_text("fine = True\n# another size, so that the cached code is not taken\n")
    import hooked_broken

    assert seen == [hooked_broken]


def test_a_hook_for_a_module_whose_body_is_running(patcher: Patcher, folder: Path) -> None:
    """As ``selectors`` imports ``select``, whose hook then asks for ``selectors``."""
    (folder / "hooked_outer.py").write_text("import hooked_module\nlast = True\n")
    seen: list[bool] = []
    patcher.when_imported("hooked_outer", lambda _outer: None)
    patcher.when_imported(
        "hooked_module",
        lambda _inner: patcher.when_imported("hooked_outer", lambda outer: seen.append(hasattr(outer, "last"))),
    )
    import hooked_outer  # type: ignore[import-not-found]  # noqa: F401

    assert seen == [True]


def test_find_spec_alone_runs_no_hook(patcher: Patcher, folder: Path) -> None:
    import importlib.util

    seen: list[types.ModuleType] = []
    patcher.when_imported("hooked_module", seen.append)
    spec = importlib.util.find_spec("hooked_module")
    assert spec is not None
    assert spec.origin == str(folder / "hooked_module.py")
    assert seen == []


def test_hooks_of_many_threads(patcher: Patcher, folder: Path) -> None:
    import importlib
    import threading

    seen: list[types.ModuleType] = []
    for number in range(20):
        (folder / f"hooked_{number}.py").write_text(f"import hooked_{(number + 1) % 20}\n")
        patcher.when_imported(f"hooked_{number}", seen.append)
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        for number in range(20):
            importlib.import_module(f"hooked_{number}")

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(module.__name__ for module in seen) == sorted(f"hooked_{number}" for number in range(20))


def test_a_shim_is_loaded_and_patches_once_when_the_first_target_is_there(patcher: Patcher, folder: Path) -> None:
    (folder / "hooked_other.py").write_text("")
    (folder / "hooked_shim.py").write_text("calls = []\npatch = calls.append\n")
    patcher.add_shim("hooked_shim", ("hooked_module", "hooked_other"))
    assert "hooked_shim" not in sys.modules
    import hooked_module  # noqa: F401
    import hooked_other  # type: ignore[import-not-found]  # noqa: F401

    assert sys.modules["hooked_shim"].calls == [patcher]


def test_the_table_of_shims_agrees_with_the_shims() -> None:
    import importlib

    for name, targets in mtcp_patch._SHIMS.items():
        assert targets == importlib.import_module(f"mtcp_patch.{name}").TARGETS


def test_a_hook_can_be_cancelled() -> None:
    def hook(_module: types.ModuleType) -> None:
        raise AssertionError

    finders = list(sys.meta_path)
    import_hooks.when_imported("never_imported", hook)
    assert len(sys.meta_path) == len(finders) + 1
    import_hooks.cancel(hook)
    assert sys.meta_path == finders


def test_what_stays_on_the_kernel(patcher: Patcher) -> None:
    patcher.keep_on_kernel("some.thing", "a reason")
    assert patcher.on_kernel() == {"some.thing": "a reason"}


def test_original_offered(patcher: Patcher) -> None:
    patcher.offer_original("some.thing", len)
    assert patcher.original("some.thing") is len


@pytest.mark.parametrize("real", [sys.intern, Path.exists], ids=["builtin", "function"])
def test_a_wrapper_is_named_as_functools_would(real: Callable[..., Any]) -> None:
    def new(*_arguments: Any) -> None: ...

    def other(*_arguments: Any) -> None: ...

    ours, theirs = named_after(real)(new), functools.wraps(real)(other)
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__", "__wrapped__"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert inspect.signature(ours) == inspect.signature(theirs)
