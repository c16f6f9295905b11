"""The grammar of ``python -m mtcp_patch …``: words in, one :class:`Command` out.

    python [python's flags] -m mtcp_patch [our options, python's flags] app.py args…

It owns which words are ours, which are python's, and where the program begins. ``__main__`` is the only caller.
What never happens here: nothing is run, opened, printed or read from the environment.

Python's own flags are known one by one (``python --help``), so that a value is never taken for the program's name
and a mistyped option never becomes a program's argument. ``-v`` is ours (say what is done); python's own ``-v`` can
still be given before ``-m mtcp_patch`` or after ``--``.
"""

from __future__ import annotations

from .config import SETTINGS, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    Action = Literal["run", "help", "version", "info", "restore"]

# CPython 3.11 to 3.13, Python/getopt.c and initconfig.c.
_PYTHON_SWITCHES = frozenset("bBdiOPqRsuvx")
_PYTHON_VALUES = frozenset("WX")
_PYTHON_LONG_VALUES = ("--check-hash-based-pycs",)
_REFUSED = {
    "I": "-I (isolated mode) ignores PYTHONPATH, by which the stack gets into the program",
    "E": "-E ignores PYTHONPATH, by which the stack gets into the program",
    "S": "-S skips the site module, by which the stack gets into the program",
}
_ACTIONS: dict[str, Action] = {
    "--help": "help",
    "-h": "help",
    "-?": "help",
    "--version": "version",
    "-V": "version",
    "--info": "info",
    "--restore": "restore",
}


class UsageError(Exception):
    """The command line cannot be understood; the text is for a person."""


class Command:
    """What was asked for.

    ``given``: our settings by public name, with the text of each value (see ``config.load``).
    ``flags``: python's own flags, in order. ``program``: the rest of python's command line: a script, ``-m``, ``-c``
    or ``-``, then the program's arguments; empty if no program was named. ``interactive``: ``-i`` is among the flags.
    """

    def __init__(self) -> None:
        self.action: Action = "run"
        self.given: dict[str, object] = {}
        self.flags: list[str] = []
        self.program: list[str] = []
        self.interactive = False


def parse(words: Sequence[str]) -> Command:
    """Parse what stands after ``python -m mtcp_patch``. Raises UsageError."""
    command = Command()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            flags, command.program = split_python_flags(rest)
            command.flags += flags
            break
        if word.startswith("--"):
            _long_option(word, rest, command)
        elif word.startswith("-") and word != "-":
            if _short_options(word, rest, command):
                break
        else:
            command.program = [word, *rest]
            break
    return command


def split_python_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split python's own command line into its flags and the program (with all that follows it).

    Raises UsageError for a flag that keeps the stack out of the program.
    """
    flags: list[str] = []
    rest = list(words)
    while rest:
        word = rest[0]
        if word == "--":
            return flags, rest[1:]
        if not word.startswith("-") or word == "-":
            break
        rest.pop(0)
        if word in _PYTHON_LONG_VALUES:
            flags += [word, _value(word, rest)]
            continue
        for position, letter in enumerate(word[1:], 1):
            attached = word[position + 1 :]
            if letter in "cm":
                before = [word[:position]] if position > 1 else []
                return flags + before, [f"-{letter}", *([attached] if attached else []), *rest]
            _refuse(letter)
            if letter in _PYTHON_VALUES:
                flags += [word] if attached else [word, _value(f"-{letter}", rest)]
                break
        else:
            flags.append(word)
    return flags, rest


def _long_option(word: str, rest: list[str], command: Command) -> None:
    name, equals, value = word.partition("=")
    if name in _PYTHON_LONG_VALUES:
        command.flags += [name, value if equals else _value(name, rest)]
        return
    if name in _ACTIONS:
        if equals:
            raise UsageError(f"{name} takes no value")
        command.action = _ACTIONS[name]
        return
    by_option = {setting.option: setting for setting in SETTINGS.values() if setting.option}
    if name not in by_option:
        known = [*by_option, *_ACTIONS, *_PYTHON_LONG_VALUES, "--verbose"]
        if name == "--verbose":
            _give("verbose", "1", command)
            return
        raise UsageError(f"unknown option {name}{did_you_mean(name, known)}")
    setting = by_option[name]
    if setting.metavar is None:
        if equals:
            raise UsageError(f"{name} takes no value")
        _give(setting.name, "1", command)
    else:
        _give(setting.name, value if equals else _value(name, rest), command)


def _short_options(word: str, rest: list[str], command: Command) -> bool:
    """Handle one word of single-letter options. Returns whether the program was found in it."""
    pythons = "-"  # the letters of this word that are python's, which keep their word
    for position, letter in enumerate(word[1:], 1):
        attached = word[position + 1 :]
        if letter in "cm":
            command.flags += [pythons] if pythons != "-" else []
            command.program = [f"-{letter}", attached or _value(f"-{letter}", rest), *rest]
            return True
        _refuse(letter)
        if f"-{letter}" in _ACTIONS:
            command.action = _ACTIONS[f"-{letter}"]
        elif letter == "v":
            _give("verbose", "1", command)
        elif letter in _PYTHON_VALUES:
            pythons += letter + attached
            command.flags += [pythons] if attached else [pythons, _value(f"-{letter}", rest)]
            return False
        elif letter in _PYTHON_SWITCHES:
            pythons += letter
            command.interactive |= letter == "i"
        else:
            # "-require" is a long option with a dash missing, rather than seven letters
            options = [setting.option for setting in SETTINGS.values() if setting.option] + list(_ACTIONS)
            raise UsageError(f"unknown option {word}{did_you_mean('-' + word, options) if len(word) > 2 else ''}")
    command.flags += [pythons] if pythons != "-" else []
    return False


def _give(name: str, value: str, command: Command) -> None:
    """Note one setting. Devices and -v add up, everything else is said once; the last one counts, as usual."""
    before = command.given.get(name)
    if name == "device" and before is not None:
        command.given[name] = f"{before},{value}"
    elif name == "verbose" and before is not None:
        command.given[name] = str(int(str(before)) + 1)
    else:
        command.given[name] = value


def _value(option: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"{option} needs a value")
    return rest.pop(0)


def _refuse(letter: str) -> None:
    if letter in _REFUSED:
        raise UsageError(
            f"python {_REFUSED[letter]}. Leave -{letter} out; or call mtcp_patch.install() at the top of the program "
            "and start it with plain python"
        )
