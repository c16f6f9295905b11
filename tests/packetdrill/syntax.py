"""From a script's text to its events. Lark reads the grammar; this module gives the trees names.

A library and not a hand parser: the language is a yacc grammar of fifty rules whose tokens depend on the place (a flag
is a word, a point or both; `<` begins a packet or its options), which is what an LALR(1) parser with a contextual lexer
is for, and a syntax error then names its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args


class SyntaxFault(Exception):
    """The text is no script, as far as the grammar goes; says the line."""


@dataclass(frozen=True)
class Time:
    """When an event happens: `kind` is relative, absolute, anytime, between or relative_between; microseconds."""

    kind: str
    start_us: int = 0
    end_us: int = 0


@dataclass(frozen=True)
class Tcp:
    """A TCP segment as the script says it; None: not said. `options` None: not to be compared."""

    flags: str
    seq: int | None
    payload_bytes: int
    ack: int | None
    window: int | None
    urgent: int | None
    options: tuple[tuple[Any, ...], ...] | None
    ports: tuple[int, int] | None = None
    encapsulation: str | None = None
    #: FreeBSD's "!": the sequence number is the one on the wire.
    raw_seq: bool = False


@dataclass(frozen=True)
class Icmp:
    """An ICMP message: its type, its words (code, `mtu` and so on) and the sequence number that it echoes."""

    kind: str
    words: tuple[str, ...]
    seq: int | None
    payload_bytes: int


@dataclass(frozen=True)
class Udp:
    """A UDP datagram, which nothing here sends."""

    payload_bytes: int


@dataclass(frozen=True)
class Packet:
    """One line `<` or `>`."""

    inbound: bool
    ip: tuple[str, ...]
    body: Tcp | Icmp | Udp


@dataclass(frozen=True)
class Word:
    """A name in an argument."""

    name: str


@dataclass(frozen=True)
class Applied:
    """`name(arguments)` in an argument."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Struct:
    """`{a=1, b, …}`: named fields and bare ones."""

    fields: dict[str, Any]
    bare: tuple[Any, ...]


@dataclass(frozen=True)
class Flags:
    """Alternatives joined by `|`, or a shift, to be evaluated with names known."""

    operator: str
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """A system call; `end_us` None: it does not block. Arguments hold int, str, list and the classes above."""

    name: str
    arguments: tuple[Any, ...]
    result: Any
    errno: str | None
    end_us: int | None = None


@dataclass(frozen=True)
class Command:
    """Shell text between backticks."""

    text: str


@dataclass(frozen=True)
class Code:
    """Python text between `%{` and `}%`."""

    text: str


@dataclass(frozen=True)
class Event:
    """One line with its time."""

    line: int
    time: Time
    action: Packet | Call | Command | Code


@dataclass
class Script:
    """A script that was read."""

    options: list[tuple[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def microseconds(text: str) -> int:
    """Seconds of the script in microseconds."""
    return round(float(text) * 1_000_000)


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    def start(self, *children: Any) -> Script:
        script = Script()
        for child in children:
            if isinstance(child, Command):  # without a time: at the one of the event before
                script.events.append(Event(0, Time("relative"), child))
            elif isinstance(child, Event):
                script.events.append(child)
            else:
                script.options.append(child)
        return script

    def option(self, token: Token) -> tuple[str, str]:
        name, _, value = token[2:].partition("=")
        return name, value.strip('"')

    def command(self, token: Token) -> Command:
        return Command(token[1:-1])

    def code(self, token: Token) -> Code:
        return Code(token[2:-2].strip(" \t"))

    @v_args(inline=False, meta=True)
    def event(self, meta: Any, children: list[Any]) -> Event:
        return Event(meta.line, children[0], children[1])

    def relative(self, start: Token) -> Time:
        return Time("relative", microseconds(start), microseconds(start))

    def absolute(self, start: Token) -> Time:
        return Time("absolute", microseconds(start), microseconds(start))

    def anytime(self) -> Time:
        return Time("anytime")

    def between(self, start: Token, end: Token) -> Time:
        return Time("between", microseconds(start), microseconds(end))

    def relative_between(self, start: Token, end: Token) -> Time:
        return Time("relative_between", microseconds(start), microseconds(end))

    def packet(self, direction: Token, *rest: Any) -> Packet:
        *ip, quoted, body = rest
        if quoted is not None:
            if not isinstance(body, Icmp):
                raise SyntaxFault("what a message echoes stands before one that is not ICMP")
            body = replace(body, seq=quoted[1], payload_bytes=quoted[2])
        return Packet(direction == "<", tuple(word for info in ip for word in info), body)

    def quoted(self, seq: Any) -> Any:
        return seq

    def ip_info(self, *words: Any) -> tuple[str, ...]:
        return tuple(str(word) for word in words if word is not None)

    def ip_word(self, word: Token | None = None) -> str | None:
        return None if word is None else str(word)

    def ports(self, source: Token, destination: Token) -> Any:
        return ("ports", int(source), int(destination))

    def flags(self, *parts: Token) -> Any:
        return ("flags", "".join(parts))

    def known_seq(self, first: Token, last: Token, length: Token) -> Any:
        if (int(first) + int(length) - int(last)) % (1 << 32):
            raise SyntaxFault(f"{first}:{last}({length}): the numbers disagree")
        return ("seq", int(first), int(length))

    def raw_seq(self, first: Token, last: Token, length: Token) -> Any:
        return (*self.known_seq(first, last, length), "raw")

    def any_seq(self, _any: Token, length: Token) -> Any:
        return ("seq", None, int(length))

    def ack(self, number: Token) -> int:
        return int(number)

    window = urgent = ack

    def sack_block(self, left: Token, right: Token) -> tuple[int, int]:
        return int(left), int(right)

    def tcp_option(self, *words: Any) -> tuple[Any, ...]:
        return tuple(word if isinstance(word, tuple) else str(word) for word in words)

    def options(self, *options: Any) -> Any:
        return ("options", None if options == (("...",),) else tuple(options))

    def encapsulation(self, name: Token, *_ports: Token) -> Any:
        return ("encapsulation", str(name))

    def tcp(self, *parts: Any) -> Tcp:
        ports = next((part[1:] for part in parts if isinstance(part, tuple) and part[0] == "ports"), None)
        outside = next((part[1] for part in parts if isinstance(part, tuple) and part[0] == "encapsulation"), None)
        rest = [part for part in parts if not (isinstance(part, tuple) and part[0] in ("ports", "encapsulation"))]
        flags, seq, ack, window, urgent, options = rest
        raw = len(seq) == 4
        chosen = () if options is None else options[1]
        return Tcp(flags[1], seq[1], seq[2], ack, window, urgent, chosen, ports, outside, raw)

    def udp(self, *parts: Any) -> Udp:
        return Udp(int(parts[-1]))

    def icmp_word(self, word: Token) -> str:
        return str(word)

    def echoed(self, *parts: Any) -> Any:
        return parts[0] if isinstance(parts[0], tuple) else ("seq", None, int(parts[1]))

    def icmp(self, _name: Token, kind: Token, *rest: Any) -> Icmp:
        *words, echoed = rest
        return Icmp(str(kind), tuple(words), *((None, 0) if echoed is None else echoed[1:3]))

    def integer(self, token: Token) -> int:
        return int(token, 0) if token.startswith("0x") else int(token)

    def decimal(self, token: Token) -> float:
        return float(token)

    def word(self, token: Token) -> Word:
        return Word(str(token))

    def string(self, *tokens: Token) -> str:
        return "".join(token[1:-1] for token in tokens if token.type == "STRING")

    def ellipsis(self, _token: Token) -> Any:
        return ...

    def applied(self, name: Token, arguments: tuple[Any, ...]) -> Applied:
        return Applied(str(name), _values(arguments))

    def arguments(self, *arguments: Any) -> tuple[Any, ...]:
        return arguments

    def array(self, arguments: tuple[Any, ...]) -> list[Any]:
        return list(_values(arguments))

    def struct(self, arguments: tuple[Any, ...]) -> Struct:
        fields: dict[str, Any] = {}
        bare = []
        for kind, *rest in arguments:
            if kind == "named":
                fields[rest[0].name] = rest[1]
            else:
                bare.append(rest[0])
        return Struct(fields, tuple(bare))

    def plain(self, value: Any) -> Any:
        return ("plain", value)

    def named(self, name: Word | Applied, value: Any) -> Any:
        return ("named", name, value)

    def expression(self, *parts: Any) -> Any:
        return parts[0] if len(parts) == 1 else Flags("|", parts)

    def note(self, *_words: Token) -> Any:
        return ("note",)

    def end(self, _dots: Token, seconds: Token) -> int:
        return microseconds(seconds)

    def call(self, *parts: Any) -> Call:
        end, name, arguments, result, errno, _note = parts
        return Call(str(name), _values(arguments), result, None if errno is None else str(errno), end)


def _values(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values alone; of a bare `a=b` in a list of arguments, the value."""
    return tuple(argument[-1] for argument in arguments)


@cache
def _parser() -> Lark:
    grammar = (Path(__file__).parent / "grammar.lark").read_text()
    return Lark(grammar, parser="lalr", maybe_placeholders=True, propagate_positions=True)


_DIRECTIVE = re.compile(r"^#(ifdef|ifndef|else|endif)\b[ \t]*(\w*).*$", re.MULTILINE)


def branches(text: str) -> set[str]:
    """The names that the script's `#ifdef` lines ask for: FreeBSD's suite says STANDARD and FreeBSD."""
    return {match[2] for match in _DIRECTIVE.finditer(text) if match[1] in ("ifdef", "ifndef")}


def _conditional(text: str, defined: frozenset[str]) -> str:
    """The text with what `#ifdef` excludes blanked out, lines kept."""
    kept: list[bool] = []
    lines = []
    for line in text.split("\n"):
        match = _DIRECTIVE.match(line)
        if match is None:
            lines.append(line if all(kept) else "")
            continue
        lines.append("")
        match match[1]:
            case "ifdef" | "ifndef":
                kept.append((match[2] in defined) == (match[1] == "ifdef"))
            case "else" if kept:
                kept[-1] = not kept[-1]
            case "endif" if kept:
                kept.pop()
            case word:
                raise SyntaxFault(f"#{word} without #ifdef")
    return "\n".join(lines)


def _defines(text: str) -> str:
    """The text with the symbols of `--define=NAME=value` replaced, as packetdrill's lexer does."""
    for name, value in re.findall(r"^--define[= ](\w+)=(\S+)", text, re.MULTILINE):
        text = re.sub(rf"(?<![-=\w]){re.escape(name)}\b", value.replace("\\", r"\\"), text)
    return text


def parse(text: str, defined: frozenset[str] = frozenset()) -> Script:
    """Read a script. Raises SyntaxFault with the line."""
    try:
        tree = _parser().parse(_defines(_conditional(text, defined)))
        script: Script = _Builder().transform(tree)
    except UnexpectedInput as error:
        lines = text.split("\n")
        shown = lines[error.line - 1].strip() if 0 < error.line <= len(lines) else "the end"
        raise SyntaxFault(f"line {error.line}: syntax: {shown}") from error
    except Exception as error:
        cause = getattr(error, "orig_exc", None)
        if isinstance(cause, SyntaxFault):
            raise cause from error
        raise
    return script
