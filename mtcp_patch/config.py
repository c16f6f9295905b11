"""Every setting, in one dataclass, and the four places that it may come from.

    command line  >  MTCP_PATCH_* environment  >  TOML in the current directory  >  default

It owns: names, types, limits, help texts, defaults, the errors that a person sees, and the origin of each value.
The launcher (``__main__``) and ``mtcp_patch.install()`` call :func:`load`; nothing else reads the environment or TOML.

TOML is ``mtcp_patch.toml`` (the keys at the top level) or ``[tool.mtcp_patch]`` of ``pyproject.toml``; where both say
something, ``mtcp_patch.toml`` counts alone. What never happens here: no device is opened, nothing is printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

ENV_PREFIX = "MTCP_PATCH"
# Variables of ours that are no settings: where the control sockets are, and what the launcher tells its child.
RUNTIME_DIR_VARIABLE = "MTCP_PATCH_RUNTIME_DIR"
ORIGINS_VARIABLE = "MTCP_PATCH_ORIGINS"

COMMAND_LINE = "command line"
ARGUMENT = "install() argument"
ENVIRONMENT = "environment"
DEFAULT = "default"

MAX_EXIT_LINGER_MS = 60_000


class ConfigError(Exception):
    """A setting that cannot be used. Its text is for a person: where it stands, what is wrong, what would be right."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the nearest known word, or nothing if none is near."""
    import difflib  # here, as some others below: only a person who made a mistake pays for loading it

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
        if word in ("0", "false", "no", "off", ""):
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


def _parse_layout(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a word: unified")
    if value in ("merged", "split"):
        raise ValueError(f"layout {value} is not there yet: it comes with the layouts for comparison; use unified")
    if value != "unified":
        raise ValueError("expected unified" + did_you_mean(value, ("unified", "merged", "split")))
    return value


def _parse_cores(value: object) -> int:
    cores = _parse_int(1, 1024)(value)
    if cores != 1:
        raise ValueError("more than one core is not there yet: it comes with the many-core work; use 1")
    return cores


_DEVICE_KINDS = ("memory", "xdp")
_LATER_DEVICE_KINDS = ("tap", "packet")
# IFNAMSIZ - 1; no slash and no white space, as the kernel's dev_valid_name() has it.
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


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
        if not _INTERFACE.fullmatch(interface):
            raise ValueError(f"device {name!r} names no interface; write xdp:IFACE, for example xdp:lo")
        return
    if kind in _LATER_DEVICE_KINDS:
        raise ValueError(f"device {name!r} is not there yet: {kind} devices come later; use memory or xdp:IFACE")
    hint = did_you_mean(kind, _DEVICE_KINDS) if colon else did_you_mean(name, ("memory", "xdp:lo"))
    raise ValueError(f"unknown device {name!r}{hint} (known: memory, xdp:IFACE)")


# --- the dataclass -------------------------------------------------------------------------------------------------


def _setting(
    default: Any,
    *,
    name: str,
    parse: Callable[[object], Any],
    help: str,
    metavar: str | None = None,
    option: str | None = "--",
    env: str | None = None,
) -> Any:
    """A dataclass field that carries all that the four sources need to know of it.

    ``option``: the command-line spelling; ``"--"`` means ``--name``, None means that there is none.
    ``metavar``: the word for the option's value; None for a switch.
    """
    metadata = {
        "name": name,
        "parse": parse,
        "help": help,
        "metavar": metavar,
        "option": f"--{name.replace('_', '-')}" if option == "--" else option,
        "env": env or f"{ENV_PREFIX}_{name.upper()}",
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process runs with. Immutable; ``origins`` tells where each value was said."""

    enabled: bool = _setting(
        True,
        name="enabled",
        parse=_parse_bool,
        option=None,
        env=ENV_PREFIX,
        help="MTCP_PATCH=0 switches everything off",
    )
    devices: tuple[str, ...] = _setting(
        ("xdp:lo",),
        name="device",
        parse=_parse_devices,
        metavar="DEV",
        help="memory or xdp:IFACE; may be given several times (memory is always on)",
    )
    require: bool = _setting(
        False, name="require", parse=_parse_bool, help="an error, not the kernel, when a device cannot be opened"
    )
    layout: str = _setting(
        "unified", name="layout", parse=_parse_layout, metavar="NAME", help="who runs the stack: unified"
    )
    cores: int = _setting(1, name="cores", parse=_parse_cores, metavar="N", help="how many cores: 1")
    exit_linger_ms: int = _setting(
        500,
        name="exit_linger_ms",
        parse=_parse_int(0, MAX_EXIT_LINGER_MS),
        metavar="MS",
        help="longest time in ms to send what is left in the send buffers when the program ends",
    )
    verbose: int = _setting(
        0, name="verbose", parse=_parse_int(0, 3), option="-v", help="say on stderr what is done (-vv: more)"
    )
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def origin(self, name: str) -> str:
        """Where the setting called ``name`` (its public name) was said."""
        return self.origins.get(name, DEFAULT)

    def value(self, name: str) -> Any:
        """The value of the setting called ``name`` (its public name)."""
        return getattr(self, _BY_NAME[name].name)

    def for_native(self) -> dict[str, object]:
        """The dictionary that ``_native.configure`` takes: plain types, the dataclass's field names."""
        values = {item.name: getattr(self, item.name) for item in _BY_NAME.values() if item.name != "enabled"}
        values["devices"] = list(self.devices)
        return values

    def to_environ(self) -> dict[str, str]:
        """The MTCP_PATCH_* variables that make a child process load exactly these settings, origins included."""
        variables = {item.metadata["env"]: _to_text(getattr(self, item.name)) for item in _BY_NAME.values()}
        said = {name: [variables[_BY_NAME[name].metadata["env"]], self.origin(name)] for name in _BY_NAME}
        import json

        variables[ORIGINS_VARIABLE] = json.dumps(said, separators=(",", ":"))
        return variables


_BY_NAME: Mapping[str, Field[Any]] = MappingProxyType(
    {item.metadata["name"]: item for item in fields(Settings) if item.metadata}
)


def setting_fields() -> Mapping[str, Field[Any]]:
    """Every setting by its public name; the metadata holds option, env, metavar, help, parse."""
    return _BY_NAME


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
    directory: Path | None = None,
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
        _load_toml(Path.cwd() if directory is None else directory, values, origins)
    _load_environment(environ, values, origins)
    for name, value in (given or {}).items():
        if name not in _BY_NAME:
            raise ConfigError(f"unknown setting {name!r}{did_you_mean(name, _BY_NAME)}")
        values[name] = _parse(name, value, f"{given_origin}: {_spelling(name, given_origin)}")
        origins[name] = given_origin
    return Settings(
        **{_BY_NAME[name].name: value for name, value in values.items()},  # type: ignore[arg-type]
        origins=MappingProxyType(origins),
    )


def _spelling(name: str, origin: str) -> str:
    option = _BY_NAME[name].metadata["option"]
    return str(option) if origin == COMMAND_LINE and option else name


def _parse(name: str, value: object, where: str) -> object:
    """Parse one value; ``where`` starts the error's text."""
    try:
        return _BY_NAME[name].metadata["parse"](value)
    except ValueError as error:
        shown = "" if repr(value) in str(error) else f" = {value!r}"
        raise ConfigError(f"{where}{shown}: {error}") from None


def _load_environment(environ: Mapping[str, str], values: dict[str, object], origins: dict[str, str]) -> None:
    by_variable = {item.metadata["env"]: name for name, item in _BY_NAME.items()}
    told = _told_origins(environ)
    for variable, text in environ.items():
        if variable != ENV_PREFIX and not variable.startswith(ENV_PREFIX + "_"):
            continue
        if variable in (RUNTIME_DIR_VARIABLE, ORIGINS_VARIABLE):
            continue
        if variable not in by_variable:
            raise ConfigError(f"environment: unknown variable {variable}{did_you_mean(variable, by_variable)}")
        name = by_variable[variable]
        values[name] = _parse(name, text, f"environment: {variable}")
        # The launcher's word counts only for the value that it was said of.
        origins[name] = told[name][1] if told.get(name, ("", ""))[0] == text else f"{ENVIRONMENT} {variable}"


def _told_origins(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The origins that the launcher passed on: name -> (text of the value, origin). Anything malformed is ignored."""
    import json

    try:
        document = json.loads(environ.get(ORIGINS_VARIABLE, "{}"))
        return {str(name): (str(text), str(origin)) for name, (text, origin) in document.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _load_toml(directory: Path, values: dict[str, object], origins: dict[str, str]) -> None:
    for path, table_path in (
        (directory / "mtcp_patch.toml", ()),
        (directory / "pyproject.toml", ("tool", "mtcp_patch")),
    ):
        text = _read_text(path)
        if text is None:
            continue
        table = _find_table(path, text, table_path)
        if table is None:
            continue
        for key, value in table.items():
            line = _line_of(text, key)
            where = f"{path.name}:{line}"
            if key not in _BY_NAME:
                raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(key, _BY_NAME)}")
            values[key] = _parse(key, value, f"{where}: {key}")
            origins[key] = where
        return


def _read_text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path.name}:{line}: not UTF-8, which TOML must be") from None
    except OSError as error:
        raise ConfigError(f"{path.name}: cannot be read: {error.strerror}") from None


def _find_table(path: Path, text: str, table_path: tuple[str, ...]) -> dict[str, object] | None:
    import tomllib

    try:
        table: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = found.group(1) if found else str(text.count("\n") + 1)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"{path.name}:{line}: malformed TOML: {reason}") from None
    for key in table_path:
        table = table.get(key) if isinstance(table, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{path.name}:{_line_of(text, table_path[-1])}: {'.'.join(table_path)} must be a table")
    return table


def _line_of(text: str, key: str) -> int:
    """The line in which a key of ours is set (tomllib does not tell); the first line that mentions it otherwise.

    Only lines below the ``[tool.mtcp_patch]`` header count where there is one: pyproject.toml holds other tools' keys.
    """
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
    import socket  # never at the top: the bootstrap loads this module before the program's socket is patched

    present = [name for _index, name in socket.if_nameindex()]
    for device in settings.devices:
        kind, _colon, interface = device.partition(":")
        if kind == "xdp" and interface not in present:
            origin = settings.origin("device")
            hint = did_you_mean(interface, present)
            raise ConfigError(
                f"{origin}: device {device}: no interface {interface!r} here{hint} (there: {', '.join(present)})"
            )
