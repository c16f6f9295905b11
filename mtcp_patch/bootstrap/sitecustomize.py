"""The sitecustomize that the launcher puts first on PYTHONPATH: it installs the stack, then makes way.

``site`` imports it before any module of the program, so no socket module has been imported yet. It must leave no
trace: its directory goes from sys.path, and the module that it shadows, if there is one, takes its name in
sys.modules. It runs in whatever Python a child process of the program happens to be, hence the plain syntax.
What never happens here: nothing is written to stdout; no exception of ours reaches the program.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn


# In the text of the ImportError by which PyO3 (3.11) or the interpreter (3.12 and later) refuses the native part.
_SUBINTERPRETER = "subinterpreters"


def _say(text: str) -> None:
    sys.stderr.write(f"mtcp_patch: {text}\n")


def _leave_sys_path() -> str:
    """Take this directory from sys.path. Returns the package's directory."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    sys.path_importer_cache.pop(here, None)
    return os.path.dirname(here)


def _load_package(directory: str) -> ModuleType:
    """Import the mtcp_patch that this file belongs to: a checkout need not be on the program's sys.path."""
    # importlib's own names for these: the package importlib would be loaded for nothing else.
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder

    spec = PathFinder.find_spec("mtcp_patch", [os.path.dirname(directory)])
    if spec is None or spec.loader is None:
        raise ImportError(f"no package mtcp_patch in {directory}")
    module = module_from_spec(spec)
    sys.modules["mtcp_patch"] = module
    spec.loader.exec_module(module)
    return module


def _give_up(status: int, text: str) -> NoReturn:
    """End the process before the program starts. (SystemExit from here would be a fatal error of the interpreter.)"""
    _say(text)
    sys.stderr.flush()
    os._exit(status)


def _start(directory: str) -> None:
    """Install the stack in this process. Without it the program runs on the kernel, unless it is required."""
    required = os.environ.get("MTCP_PATCH_REQUIRE", "0") not in ("", "0")
    if sys.version_info < (3, 11):  # noqa: UP036  a child process may be of any version
        problem = f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old (3.11 is needed)"
    else:
        problem = _install(directory, required)
    if not problem:
        return
    if _SUBINTERPRETER in problem:
        _leave_subinterpreter(required)
        return
    if required:
        _give_up(1, f"{problem} (and it is required)")
    _say(f"not active in {sys.executable}, which runs on the kernel: {problem}")


def _leave_subinterpreter(required: bool) -> None:
    """Say that this is not the main interpreter; when the stack is required, its sockets are refused.

    (The process must not end: the main interpreter has the stack.)
    """
    if not required:
        _say("a sub-interpreter's sockets are the kernel's: the stack serves the main interpreter alone")
        return

    class Refusing:
        @staticmethod
        def find_spec(name: str, _path: object = None, _target: object = None) -> None:
            if name == "_socket":
                raise ImportError(
                    "mtcp_patch: no sockets in a sub-interpreter: the stack, which is required, serves the main "
                    "interpreter alone"
                )

    sys.meta_path.insert(0, Refusing)


def _install(directory: str, required: bool) -> str:
    """Returns why it did not work; the empty string if it did."""
    try:
        package = _load_package(directory)
        from mtcp_patch.config import ConfigError
    except Exception as error:  # noqa: BLE001  whatever is wrong with our files, the program must still run
        sys.modules.pop("mtcp_patch", None)
        return f"{type(error).__name__}: {error}"
    try:
        package.install()
        # Children of the program open devices when they need them; the program itself is told before it starts.
        if required and os.environ.get("MTCP_PATCH_LAUNCHED") == str(os.getpid()):
            from mtcp_patch.lifecycle import open_devices

            open_devices()
    except ConfigError as error:
        _give_up(2, str(error))
    except OSError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  as above
        return f"{type(error).__name__}: {error}"
    return ""


_directory = _leave_sys_path()
if os.environ.get("MTCP_PATCH") != "0":
    _start(_directory)

# Now the module that this one shadows. If there is none, ImportError tells site so, as it would without us.
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401
