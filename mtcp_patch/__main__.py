"""``python -m mtcp_patch [options] app.py args…``: flags and settings → environment → exec of plain Python.

The launcher turns into the program: it puts ``bootstrap/`` on PYTHONPATH, the settings into MTCP_PATCH_* variables,
and execs the same interpreter with the same flags. So argv, ``sys.path[0]``, ``__main__``, exit codes, signals and
tracebacks are those of plain ``python app.py``, and child processes inherit the stack by their environment.

What never happens here: no socket is patched in this process (``--info`` excepted, which runs no program in it);
nothing is written to stdout while a program is to run.
"""

from __future__ import annotations

import os
import sys

from . import __version__
from .command_line import Command, UsageError, parse, split_python_flags
from .config import LAUNCHED_VARIABLE, SETTINGS, ConfigError, Settings, check_devices, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

EXIT_USAGE = 2
BOOTSTRAP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap")

_EXAMPLES = """\
examples:
  python -m mtcp_patch -m http.server 8000
      the standard library's web server, on the stack; then: curl http://localhost:8000/
  python -m mtcp_patch --device memory -c "import urllib.request, http.server, threading; \\
      s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler); \\
      threading.Thread(target=s.serve_forever, daemon=True).start(); \\
      print(urllib.request.urlopen('http://127.0.0.1:%d/' % s.server_port).status)"
      server and client in one process: no packet meets the kernel, and no privilege is needed

A setting is taken from the command line, else from its MTCP_PATCH_* variable, else from mtcp_patch.toml or
[tool.mtcp_patch] of pyproject.toml in the current directory, else the default. MTCP_PATCH=0 switches everything off.
See also: python -m mtcp_patch.ss (the stack's connections, as ss shows the kernel's)."""


def main() -> int:
    """Run the command line of this process. Returns an exit status, or never, when a program takes over."""
    try:
        flags = _flags_of_this_interpreter()
        command = parse(sys.argv[1:])
        command.flags[:0] = flags
        settings = load(command.given)
        return _act(command, settings)
    except UsageError as error:
        _say(f"{error}\nusage: {_usage()}\nTry 'python -m mtcp_patch --help'.")
    except ConfigError as error:
        _say(str(error))
    except KeyboardInterrupt:  # before the exec: end as by the signal, with no traceback of ours
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return EXIT_USAGE


def _act(command: Command, settings: Settings) -> int:
    if command.action == "help":
        print(help_text())
        return 0
    if command.action == "version":
        print(f"mtcp_patch {__version__} (Python {sys.version.split()[0]})")
        return 0
    if command.action == "restore":
        return _restore()
    check_devices(settings)
    if command.action == "info":
        from . import info

        # With a program to follow, stdout is the program's.
        info.write(settings, sys.stderr if command.program else sys.stdout)
        if not command.program:
            return 0
    if not command.program and not (command.interactive or sys.flags.interactive):
        raise UsageError("no program given: name a script, a directory or zip file, -m module, -c code, or - for stdin")
    _run(command, settings)


def _run(command: Command, settings: Settings) -> NoReturn:
    """Become the program."""
    if not sys.executable:
        raise ConfigError("this Python does not know its own executable (sys.executable is empty), so it cannot be run")
    argv = [_argv0(), *command.flags, *command.program]
    environment = child_environment(os.environ, settings)
    if settings.verbose:
        for name in SETTINGS:
            _say(f"{name} = {settings.value(name)!r} ({settings.origin(name)})")
        _say(f"exec {' '.join(argv)}")
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(sys.executable, argv, environment)
    except OSError as error:
        raise ConfigError(f"cannot run {sys.executable}: {error.strerror}") from None


def child_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment in which the program and all its children run on the stack (or not, if it is switched off)."""
    child = dict(environment)
    before = child.get("PYTHONPATH", "")
    paths = [path for path in before.split(os.pathsep) if path != BOOTSTRAP] if before else []
    if settings.enabled:
        child.update(settings.to_environ())
        # exec keeps the process id: by it the bootstrap tells the program itself from the program's children.
        child[LAUNCHED_VARIABLE] = str(os.getpid())
        paths.insert(0, BOOTSTRAP)
    if paths:
        child["PYTHONPATH"] = os.pathsep.join(paths)
    elif before:
        del child["PYTHONPATH"]  # nothing but our own bootstrap, from an outer launcher
    return child


def _flags_of_this_interpreter() -> list[str]:
    """Python's flags that stood before ``-m mtcp_patch``. Raises UsageError for those that keep the stack out."""
    own_words = len(sys.argv) - 1
    flags, _program = split_python_flags(sys.orig_argv[1 : len(sys.orig_argv) - own_words])
    return flags


def _argv0() -> str:
    """The name by which this interpreter was called, if that leads to the same one; else its path.

    Python derives ``sys.executable`` and ``sys.prefix`` from it.
    """
    name = sys.orig_argv[0]
    if os.sep in name:
        return name if os.path.abspath(name) == sys.executable else sys.executable
    found = (os.path.join(directory, name) for directory in os.get_exec_path())
    return name if next(filter(os.path.isfile, found), "") == sys.executable else sys.executable


def _restore() -> int:
    """Put back the system settings that a killed process of ours could not."""
    from .stack import _native

    try:
        restored = _native.restore_sysctls()
    except OSError as error:
        _say(f"cannot restore: {error}")
        return 1
    for line in restored:
        print(f"restored {line}")
    if not restored:
        print("nothing to restore")
    return 0


def help_text() -> str:
    """What ``--help`` prints."""
    lines = [
        f"usage: {_usage()}",
        "",
        "Run an unmodified Python program on a user-level TCP stack.",
        "",
        "program:",
        "  app.py | directory | file.zip | -m module | -c code | -    as python takes it, with its arguments",
        "",
        "options:",
    ]
    for setting in SETTINGS.values():
        if setting.option is None:
            continue
        left = f"{setting.option} {setting.metavar}" if setting.metavar else setting.option
        shown = ",".join(setting.default) if isinstance(setting.default, tuple) else setting.default
        lines.append(f"  {left:<22}{setting.help}{f' [{shown}]' if setting.metavar else ''}")
    for left, right in (
        ("--info", "say what is patched, what stays on the kernel and why, devices, cores, settings"),
        ("--restore", "put back system settings left behind by a killed process"),
        ("--version, -V", "print the version"),
        ("--help, -h", "print this"),
        ("--", "end of our options; python's own may follow"),
        ("-u -O -W… -X…", "python's own flags, here or before -m mtcp_patch (not -I, -E, -S)"),
    ):
        lines.append(f"  {left:<22}{right}")
    return "\n".join([*lines, "", _EXAMPLES])


def _usage() -> str:
    return "python -m mtcp_patch [options] program [arguments]"


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"mtcp_patch: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
