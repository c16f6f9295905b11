"""What ``python -m mtcp_patch --info`` prints: what is patched, what is not and why, devices, cores, settings.

The launcher is the only caller, in a process in which no program runs: the stack is installed here for a moment and
the devices are really opened, because "is it there" is best answered by trying. What never happens here: nothing is
left behind (devices are closed and system settings restored before it returns).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import textwrap
from typing import TYPE_CHECKING, Any, TextIO

from . import __version__, bypass_shim, config, install, status, uninstall

if TYPE_CHECKING:
    from .config import Settings

# The modules that the shims wait for; importing them makes every name show up in the list.
_PATCHED_MODULES = ("socket", "select", "selectors", "fcntl", "ssl", "socketserver", "subprocess")

_WIDTH = 100  # columns of the whole report
_LABEL = 16  # columns of the words at the left

_BY_NATURE = {
    "UDP, AF_UNIX, raw and all other sockets": "only TCP over IPv4 and IPv6 is ours",
}
_NOT_YET = {
    "a connection accepted before os.fork": "stays the parent's (socketserver's forking servers are the kernel's)",
    "urgent data (MSG_OOB)": "refused with EINVAL or EOPNOTSUPP",
    "more than one core, tap and packet devices": "refused where they are asked for",
}


def write(settings: Settings, out: TextIO) -> None:
    """Write the whole report."""
    print(f"mtcp_patch {__version__}, Python {platform.python_version()}, Linux {platform.release()}", file=out)
    _section(out, "settings", [_setting_line(settings, name) for name in config.SETTINGS])
    allowed = sorted(os.sched_getaffinity(0))
    cores = f"{settings.cores} used by a process; {len(allowed)} allowed here ({_ranges(allowed)})"
    _section(out, "cores", [cores])
    if not settings.enabled:
        _section(out, "devices", ["none: switched off by MTCP_PATCH=0"])
        _section(out, "patched", ["nothing"])
        return
    try:
        install(**{name: settings.value(name) for name in config.SETTINGS if name != "enabled"})
    except ImportError as error:
        _section(out, "devices", [f"none: the native part does not load: {error}"])
        _section(out, "patched", ["nothing"])
        return
    try:
        for name in _PATCHED_MODULES:
            importlib.import_module(name)
        _section(out, "devices", _device_lines(settings))
        report = status()
        _section(out, "patched", _by_module(report["patched"]))
        kernel = {**_BY_NATURE, **report["on_kernel"], **_programs_found()}
        _section(out, "stays on the kernel", [f"{what}: {why}" for what, why in kernel.items()])
        _section(out, "not there yet", [f"{what}: {why}" for what, why in _NOT_YET.items()])
    finally:
        from .stack import _native

        _native.shutdown_process()
        uninstall()


def _section(out: TextIO, title: str, lines: list[str]) -> None:
    print(f"\n{title}", file=out)
    for line in lines:
        print(f"  {line}", file=out)


def _setting_line(settings: Settings, name: str) -> str:
    value = settings.value(name)
    shown = ",".join(value) if isinstance(value, tuple) else str(value).lower()
    return f"{name:<{_LABEL}}{shown:<{_LABEL}}{settings.origin(name)}"


def _device_lines(settings: Settings) -> list[str]:
    """Every device asked for: open with its mode, or the reason why not."""
    from .lifecycle import open_devices, stack_status

    peers = settings.memory_peers
    among = f" and with at most {peers} other patched ones of this user" if peers else ""
    lines = [f"memory: open (connections within this process{among})"]
    reason = ""
    try:
        open_devices()
    except (OSError, RuntimeError) as error:
        reason = str(error)
    stack = stack_status()
    opened: dict[str, dict[str, Any]] = {device["name"]: device for device in stack.get("devices", [])}
    for name in settings.devices:
        if name == "memory":
            continue
        device = opened.get(name)
        if device is None:
            why = reason or "; ".join(stack.get("messages", [])) or "no reason given"
            lines.append(f"{name}: not open: {why.removeprefix(f'{name}: ')}")
            lines.append("    connections that need it are served by the kernel; --require makes this an error")
        else:
            lines.append(f"{name}: open, {device.get('mode', '?')} mode, {device.get('queues', '?')} queue(s)")
            lines += [f"    {note}" for note in device.get("notes", [])]
    return lines


def _by_module(names: list[str]) -> list[str]:
    """One entry a module, folded: ``select`` with all of its names that are patched."""
    modules: dict[str, list[str]] = {"socket": ["socket (its base class)"]}
    for name in names:
        module, _dot, attribute = name.partition(".")
        modules.setdefault(module, []).append(attribute)
    lines = []
    for module, attributes in sorted(modules.items()):
        folded = textwrap.wrap(", ".join(attributes), _WIDTH - len("  ") - _LABEL)
        lines += [f"{module if index == 0 else '':<{_LABEL}}{text}" for index, text in enumerate(folded)]
    return lines


def _programs_found() -> dict[str, str]:
    """The installed packages that make their own system calls."""
    return {name: bypass_shim.sentence(name) for name in bypass_shim.BYPASSING if importlib.util.find_spec(name)}


def _ranges(numbers: list[int]) -> str:
    """``0-3,6`` for [0, 1, 2, 3, 6]."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
