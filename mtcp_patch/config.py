"""Every setting, in one record, and the four places that it may come from.

    command line  >  MTCP_PATCH_* environment  >  TOML in the current directory  >  default

It owns: names, types, limits, help texts, defaults, the errors that a person sees, and the origin of each value.
The launcher (``__main__``) and ``mtcp_patch.install()`` call :func:`load`; nothing else reads the environment or TOML.

TOML is ``mtcp_patch.toml`` (the keys at the top level) or ``[tool.mtcp_patch]`` of ``pyproject.toml``; where both say
something, ``mtcp_patch.toml`` counts alone. What never happens here: no device is opened, nothing is printed.

This module is loaded at the start of every child process: what is dear to import (TOML, regular expressions) is
imported where a file or a mistake needs it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import MappingProxyType
    from typing import Any
else:
    MappingProxyType = type(type.__dict__)  # as types has it

ENV_PREFIX = "MTCP_PATCH"
# Variables of ours that are no settings: where the control sockets are, what the launcher or a parent tells its child.
RUNTIME_DIR_VARIABLE = "MTCP_PATCH_RUNTIME_DIR"
ORIGINS_VARIABLE = "MTCP_PATCH_ORIGINS"
INHERITED_VARIABLE = "MTCP_PATCH_INHERITED"  # VIRTUAL=KERNEL,… descriptors for the next Python that starts
LAUNCHED_VARIABLE = "MTCP_PATCH_LAUNCHED"  # the process id of the program that the launcher turned into
NAMED_VARIABLE = "MTCP_PATCH_NAMED"  # what bypasses the stack and was said to do so, by this process or a parent
_NO_SETTINGS = frozenset(
    {RUNTIME_DIR_VARIABLE, ORIGINS_VARIABLE, INHERITED_VARIABLE, LAUNCHED_VARIABLE, NAMED_VARIABLE}
)

COMMAND_LINE = "command line"
ARGUMENT = "install() argument"
ENVIRONMENT = "environment"
DEFAULT = "default"

MAX_EXIT_LINGER_MS = 60_000
MAX_MEMORY_PEERS = 128  # runtime/peers.rs: MAX_PEERS


class ConfigError(Exception):
    """A setting that cannot be used. Its text is for a person: where it stands, what is wrong, what would be right."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the nearest known word, or nothing if none is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


# --- one parser a type: text (command line, environment) or TOML value -> value; ValueError says what was expected --


def _parse_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
    raise ValueError("expected true or false")


def _parse_int(minimum: int, maximum: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        expected = f"expected a whole number from {minimum} to {maximum}"
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(expected)
        try:
            number = int(value)
        except ValueError:
            raise ValueError(expected) from None
        if not minimum <= number <= maximum:
            raise ValueError(expected)
        return number

    return parse


# Who drives the stack: whoever waits; or a thread of its own, on the program's core or on another (DESIGN section 4).
_LAYOUTS = ("unified", "merged", "split")


def _parse_layout(value: object) -> str:
    if not isinstance(value, str) or value not in _LAYOUTS:
        hint = did_you_mean(value, _LAYOUTS) if isinstance(value, str) else ""
        raise ValueError("expected unified, merged or split" + hint)
    return value


def _parse_cores(value: object) -> int:
    cores = _parse_int(1, 1024)(value)
    if cores != 1:
        raise ValueError("more than one core is not there yet: it comes with the many-core work; use 1")
    return cores


_DEVICE_KINDS = ("memory", "xdp")
_LATER_DEVICE_KINDS = ("tap", "packet")
_MAX_INTERFACE_LENGTH = 15  # IFNAMSIZ - 1


def _parse_devices(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        names = [name.strip() for name in value.split(",")]
    elif isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        names = list(value)
    else:
        raise ValueError('expected a device ("memory", "xdp:lo") or a list of them')
    if not names or not all(names):
        raise ValueError("expected at least one device: memory or xdp:IFACE")
    for name in names:
        _check_device_spelling(name)
    return tuple(dict.fromkeys(names))


def _check_device_spelling(name: str) -> None:
    kind, colon, interface = name.partition(":")
    if name == "memory":
        return
    if kind == "xdp":
        # As the kernel's dev_valid_name() has it.
        if not 0 < len(interface) <= _MAX_INTERFACE_LENGTH or any(c in "/:" or c.isspace() for c in interface):
            raise ValueError(f"device {name!r} names no interface; write xdp:IFACE, for example xdp:lo")
        return
    if kind in _LATER_DEVICE_KINDS:
        raise ValueError(f"device {name!r} is not there yet: {kind} devices come later; use memory or xdp:IFACE")
    hint = did_you_mean(kind, _DEVICE_KINDS) if colon else did_you_mean(name, ("memory", "xdp:lo"))
    raise ValueError(f"unknown device {name!r}{hint} (known: memory, xdp:IFACE)")


# --- the record ----------------------------------------------------------------------------------------------------


class Setting:
    """One setting, as all four sources need to know it.

    ``name`` is the public name (TOML key, ``install()`` argument), ``field`` the attribute of :class:`Settings`,
    ``option`` the command-line spelling (None: there is none), ``metavar`` the word for its value (None: a switch),
    ``parse`` turns text or a TOML value into the value, or raises ValueError that says what was expected.
    """

    __slots__ = ("default", "env", "field", "help", "metavar", "name", "option", "parse")

    def __init__(
        self,
        field: str,
        default: object,
        parse: Callable[[object], object],
        help: str,
        *,
        name: str | None = None,
        option: str | None = "--",
        metavar: str | None = None,
        env: str | None = None,
    ) -> None:
        self.field = field
        self.default = default
        self.parse = parse
        self.help = help
        self.name = name or field
        self.option = f"--{self.name.replace('_', '-')}" if option == "--" else option
        self.metavar = metavar
        self.env = env or f"{ENV_PREFIX}_{self.name.upper()}"


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        setting.name: setting
        for setting in (
            Setting("enabled", True, _parse_bool, "MTCP_PATCH=0 switches everything off", option=None, env=ENV_PREFIX),
            Setting(
                "devices",
                ("xdp:lo",),
                _parse_devices,
                "memory or xdp:IFACE; may be given several times (memory is always on)",
                name="device",
                metavar="DEV",
            ),
            Setting("require", False, _parse_bool, "an error, not the kernel, when a device cannot be opened"),
            Setting(
                "layout",
                "unified",
                _parse_layout,
                "who runs the stack: unified, or a thread on the same core (merged) or another (split)",
                metavar="NAME",
            ),
            Setting("cores", 1, _parse_cores, "how many cores: 1", metavar="N"),
            Setting(
                "exit_linger_ms",
                500,
                _parse_int(0, MAX_EXIT_LINGER_MS),
                "longest time, in ms, to send what is left when the program ends",
                metavar="MS",
            ),
            Setting(
                "memory_peers",
                64,
                _parse_int(0, MAX_MEMORY_PEERS),
                "other patched processes to reach by memory at most; 0: none",
                metavar="N",
            ),
            Setting("verbose", 0, _parse_int(0, 3), "say on stderr what is done (-vv: more)", option="-v"),
        )
    }
)


class Settings:
    """What a process runs with; immutable. ``origins`` tells where each value was said.

    A record by hand, not a ``@dataclass``: importing ``dataclasses`` takes as long as starting Python does, and every
    child process of a patched program would pay it.
    """

    __slots__ = (
        "cores", "devices", "enabled", "exit_linger_ms", "layout", "memory_peers", "origins", "require", "verbose",
    )  # fmt: skip

    enabled: bool
    devices: tuple[str, ...]
    require: bool
    layout: str
    cores: int
    exit_linger_ms: int
    memory_peers: int
    verbose: int
    origins: Mapping[str, str]

    def __init__(self, values: Mapping[str, object], origins: Mapping[str, str]) -> None:
        """``values`` and ``origins`` are by public name; what is not there has its default."""
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.field, values.get(setting.name, setting.default))
        object.__setattr__(self, "origins", MappingProxyType(dict(origins)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings do not change once loaded ({name})")

    def origin(self, name: str) -> str:
        """Where the setting called ``name`` (its public name) was said."""
        return self.origins.get(name, DEFAULT)

    def value(self, name: str) -> Any:
        """The value of the setting called ``name`` (its public name)."""
        return getattr(self, SETTINGS[name].field)

    def for_native(self) -> dict[str, object]:
        """The dictionary that ``_native.configure`` takes: plain types, by field name."""
        values = {setting.field: getattr(self, setting.field) for setting in SETTINGS.values()}
        del values["enabled"]
        values["devices"] = list(self.devices)
        return values

    def to_environ(self) -> dict[str, str]:
        """The MTCP_PATCH_* variables that make a child process load exactly these settings, origins included."""
        variables = {setting.env: _to_text(self.value(name)) for name, setting in SETTINGS.items()}
        told = ((name, variables[setting.env], self.origin(name)) for name, setting in SETTINGS.items())
        variables[ORIGINS_VARIABLE] = "\x1e".join("\x1f".join(words) for words in told)
        return variables


def _to_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


# --- loading -------------------------------------------------------------------------------------------------------


def load(
    given: Mapping[str, object] | None = None,
    *,
    given_origin: str = COMMAND_LINE,
    environ: Mapping[str, str] | None = None,
    directory: str | None = None,
) -> Settings:
    """Merge the four sources. ``given`` are the values of the strongest one, by public name.

    Raises ConfigError for anything unknown, malformed or out of range, wherever it stands, even if a stronger source
    overrides it: a typo that happens not to matter today is a surprise tomorrow.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    # With every setting in the environment (a child of the launcher) no file is read: the child may have another
    # directory, and what the launcher decided holds for the whole tree of processes.
    if ORIGINS_VARIABLE not in environ:
        _load_toml(os.curdir if directory is None else directory, values, origins)
    _load_environment(environ, values, origins)
    for name, value in (given or {}).items():
        if name not in SETTINGS:
            raise ConfigError(f"unknown setting {name!r}{did_you_mean(name, SETTINGS)}")
        values[name] = _parse(name, value, f"{given_origin}: {_spelling(name, given_origin)}")
        origins[name] = given_origin
    return Settings(values, origins)


def _spelling(name: str, origin: str) -> str:
    option = SETTINGS[name].option
    return str(option) if origin == COMMAND_LINE and option else name


def _parse(name: str, value: object, where: str) -> object:
    """Parse one value; ``where`` starts the error's text."""
    try:
        return SETTINGS[name].parse(value)
    except ValueError as error:
        shown = "" if isinstance(value, str) and repr(value) in str(error) else f" = {value!r}"
        raise ConfigError(f"{where}{shown}: {error}") from None


def _load_environment(environ: Mapping[str, str], values: dict[str, object], origins: dict[str, str]) -> None:
    by_variable = {setting.env: name for name, setting in SETTINGS.items()}
    told = _told_origins(environ)
    for variable, text in environ.items():
        if variable != ENV_PREFIX and not variable.startswith(ENV_PREFIX + "_"):
            continue
        if variable in _NO_SETTINGS:
            continue
        if not text:
            continue  # as python has it: set to nothing is not set
        if variable not in by_variable:
            raise ConfigError(f"environment: unknown variable {variable}{did_you_mean(variable, by_variable)}")
        name = by_variable[variable]
        values[name] = _parse(name, text, f"environment: {variable}")
        # The launcher's word counts only for the value that it was said of.
        origins[name] = told[name][1] if told.get(name, ("", ""))[0] == text else f"{ENVIRONMENT} {variable}"


def _told_origins(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The origins that the launcher passed on: name -> (text of the value, origin). Anything malformed is ignored."""
    told = (entry.split("\x1f") for entry in environ.get(ORIGINS_VARIABLE, "").split("\x1e"))
    return {entry[0]: (entry[1], entry[2]) for entry in told if len(entry) == 3}


def _load_toml(directory: str, values: dict[str, object], origins: dict[str, str]) -> None:
    for name, table_path in (("mtcp_patch.toml", ()), ("pyproject.toml", ("tool", "mtcp_patch"))):
        text = _read_text(os.path.join(directory, name), name)
        if text is None or (table_path and table_path[-1] not in text):
            continue  # a pyproject.toml that does not know us is not parsed: neither its faults nor its cost are ours
        table = _find_table(name, text, table_path)
        if table is None:
            continue
        for key, value in table.items():
            where = f"{name}:{_line_of(text, key)}"
            if key not in SETTINGS:
                raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(key, SETTINGS)}")
            values[key] = _parse(key, value, f"{where}: {key}")
            origins[key] = where
        return


def _read_text(path: str, name: str) -> str | None:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8, which TOML must be") from None


def _find_table(name: str, text: str, table_path: tuple[str, ...]) -> dict[str, object] | None:
    import re
    import tomllib

    try:
        table: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = found.group(1) if found else str(text.count("\n") + 1)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"{name}:{line}: malformed TOML: {reason}") from None
    for key in table_path:
        table = table.get(key) if isinstance(table, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{name}:{_line_of(text, table_path[-1])}: {'.'.join(table_path)} must be a table")
    return table


def _line_of(text: str, key: str) -> int:
    """The line in which a key of ours is set (tomllib does not tell); the first line that mentions it otherwise.

    Only lines below the ``[tool.mtcp_patch]`` header count where there is one: pyproject.toml holds other tools' keys.
    """
    import re

    lines = text.splitlines()
    header = re.compile(r"\s*\[\s*tool\s*\.\s*[\"']?mtcp_patch[\"']?\s*\]")
    start = next((number for number, line in enumerate(lines) if header.match(line)), 0)
    set_here = re.compile(rf"\s*(?:[\w.\"' ]+\.)?[\"']?{re.escape(key)}[\"']?\s*[=.]")
    for number, line in enumerate(lines[start:], start + 1):
        if set_here.match(line):
            return number
    return next((number for number, line in enumerate(lines[start:], start + 1) if key in line), start + 1)


# --- what exists on this machine ------------------------------------------------------------------------------------


def check_devices(settings: Settings) -> None:
    """Raise ConfigError if a device names an interface that this machine (this network namespace) does not have."""
    import _socket  # the C module: socket itself would be loaded for nothing else

    present = [name for _index, name in _socket.if_nameindex()]
    for device in settings.devices:
        kind, _colon, interface = device.partition(":")
        if kind == "xdp" and interface not in present:
            origin = settings.origin("device")
            hint = did_you_mean(interface, present)
            raise ConfigError(
                f"{origin}: device {device}: no interface {interface!r} here{hint} (there: {', '.join(present)})"
            )
