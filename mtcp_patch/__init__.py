"""A user-level TCP stack under unmodified Python programs.

Most programs need nothing from here: ``python -m mtcp_patch app.py`` runs them unmodified. From code::

    import mtcp_patch
    mtcp_patch.install(device=["memory"])    # from here on, TCP sockets are ours
    mtcp_patch.is_installed()                # True
    mtcp_patch.original("select.epoll")      # what was there before
    mtcp_patch.status()                      # settings, devices, connections, counters
    mtcp_patch.uninstall()                   # only while no descriptor of ours is open

This module owns who is installed and with which settings; it knows the shims by name and what sets them off.
What never happens here: nothing is patched, loaded or printed by importing it.
"""

from __future__ import annotations

import os
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .config import Settings
    from .patcher import Patcher

__all__ = ["__version__", "install", "is_installed", "original", "status", "uninstall"]
__version__ = "0.1.0"

# One module a neighbour of the stack, with its TARGETS: the modules whose import sets it off (see patcher.Shim).
# Said here as well, because a shim is loaded only when it is set off.
_SHIMS = {
    "socket_shim": ("socket",),
    "selectors_shim": ("select", "selectors", "eventlet.patcher"),  # eventlet imports a select of its own
    "os_shim": ("os",),
    "processes_shim": ("subprocess", "socketserver", "multiprocessing.reduction", "multiprocessing.connection"),
    "signals_shim": ("_signal",),
    "ssl_shim": ("ssl",),
    "openssl_shim": ("OpenSSL.SSL",),
    "gevent_shim": ("gevent._config",),
    "ddtrace_shim": ("ddtrace.bootstrap.cloning",),
    "bypass_shim": (
        "uvloop",
        "grpc",
        "psycopg",
        "psycopg2",
        "zmq",
        "pycurl",
        "curl_cffi",
        "MySQLdb",
        "mariadb",
        "pyodbc",
        "confluent_kafka",
        "pynng",
        "granian",
        "bjoern",
        "uvicorn.config",
    ),
}

_lock = RLock()
_patcher: Patcher | None = None
_settings: Settings | None = None


def install(**settings: Any) -> None:
    """Put the stack under this process. Does nothing if it is there already, or if ``MTCP_PATCH=0`` is set.

    ``settings`` are those of the command line with underscores (``device=["xdp:lo"]``, ``require=True``,
    ``exit_linger_ms=200`` …); they come before environment, TOML and default.

    Raises :class:`mtcp_patch.config.ConfigError` for a setting that cannot be used, ImportError if the native part
    does not load in this interpreter, RuntimeError if it is installed with other settings than the ones given; and with
    ``require`` OSError if a device cannot be opened, which is done now then. The stack is not installed after an error.
    """
    global _patcher, _settings
    from . import config, lifecycle
    from .patcher import Patcher

    with _lock:
        if _patcher is not None and _settings is not None:
            _check_same(_settings, settings)
            return
        loaded = config.load(settings, given_origin=config.ARGUMENT)
        if not loaded.enabled:
            return
        if config.ORIGINS_VARIABLE not in os.environ:  # else the launcher has looked
            config.check_devices(loaded)
        patcher = Patcher()
        try:
            lifecycle.start(loaded, patcher)
            for name, targets in _SHIMS.items():
                patcher.add_shim(f"{__name__}.{name}", targets)
            patcher.around_import("uvloop.loop", _around_uvloop)
            if config.INHERITED_VARIABLE in os.environ:
                from .processes_shim import adopt_inherited

                adopt_inherited()
            if loaded.require and config.ORIGINS_VARIABLE not in os.environ:  # else the launcher sees to it
                lifecycle.open_devices()
        except BaseException:
            patcher.restore()
            raise
        _patcher, _settings = patcher, loaded


def uninstall() -> None:
    """Put everything back as it was. Does nothing if the stack is not installed.

    Raises RuntimeError, and changes nothing, while descriptors of ours are open: the message names them.
    """
    global _patcher, _settings
    from . import lifecycle

    with _lock:
        if _patcher is None:
            return
        still_open = lifecycle.open_descriptors()
        if still_open:
            names = ", ".join(str(number) for number in still_open[:10])
            more = f" and {len(still_open) - 10} more" if len(still_open) > 10 else ""
            raise RuntimeError(f"cannot uninstall: descriptors of the stack are open (close them first): {names}{more}")
        _patcher.restore()
        _patcher = _settings = None


def is_installed() -> bool:
    """Whether this process runs on the stack."""
    return _patcher is not None


def original(name: str) -> Any:
    """The object behind a dotted name before it was patched, for example ``original("select.epoll")``.

    A name that is not patched (or not yet) gives what it means now. Raises ImportError or AttributeError if there is
    no such name.
    """
    if _patcher is not None:
        try:
            return _patcher.original(name)
        except LookupError:
            pass
    import importlib

    module, _dot, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def status() -> dict[str, Any]:
    """What this process runs with: ``installed``, ``settings`` (value and origin of each), ``patched`` (names),
    ``on_kernel`` (thing: reason) and, once the stack is in use, ``stack`` (devices, connections, counters)."""
    from . import config, lifecycle

    with _lock:
        if _patcher is None or _settings is None:
            return {"installed": False, "settings": {}, "patched": [], "on_kernel": {}, "stack": None}
        return {
            "installed": True,
            "settings": {
                name: {"value": _settings.value(name), "origin": _settings.origin(name)} for name in config.SETTINGS
            },
            "patched": _patcher.replaced(),
            "on_kernel": _patcher.on_kernel(),
            "stack": lifecycle.stack_status(),
        }


def _around_uvloop() -> Callable[[], None]:
    from .bypass_shim import while_uvloop_is_imported

    return while_uvloop_is_imported()


def _check_same(current: Settings, wanted: dict[str, Any]) -> None:
    from . import config

    asked = config.load(wanted, given_origin=config.ARGUMENT)
    for name in wanted:
        if asked.value(name) != current.value(name):
            raise RuntimeError(
                f"mtcp_patch is installed with {name}={current.value(name)!r} (from {current.origin(name)}); "
                f"uninstall() first to change it"
            )
