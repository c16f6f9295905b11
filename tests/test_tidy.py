"""The house rules that a machine can check: files of one sitting, functions of one screen, every module explained.

An exception names the file (or `file::function`) and says why; one that nothing needs any longer is itself an error.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

FILE_LINES = 600
FUNCTION_LINES = 70

# "path" or "path::function": why it may be longer.
EXCEPTIONS: dict[str, str] = {
    "mtcp_patch/stack/engine/src/tcp/tcb.rs::new": "one line a field of the control block, and no decision",
}

# In one pass, so that a quote in a comment or a brace in a string deceives nobody. Block comments do not nest here;
# rustfmt's style has none. A lifetime is no character literal: it has no closing quote.
_RUST_NOISE = re.compile(
    r"""
      //[^\n]*
    | /\*.*?\*/
    | b?r(?P<hashes>\#*)".*?"(?P=hashes)
    | [bc]?"(?:[^"\\]|\\.)*"
    | b?'(?:[^'\\\n]|\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.))'
    """,
    re.VERBOSE | re.DOTALL,
)
_RUST_FUNCTION = re.compile(r"\bfn\s+(\w+)")


class Function(NamedTuple):
    """A function and the lines from its `fn` or `def` to its end."""

    name: str
    first_line: int
    lines: int


def _without_noise(source: str) -> str:
    """`source` with comments and literals blanked out, line breaks kept."""
    return _RUST_NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)


def rust_functions(source: str) -> Iterator[Function]:
    """Every function with a body, nested ones too."""
    code = _without_noise(source)
    for match in _RUST_FUNCTION.finditer(code):
        body = _body(code, match.end())
        if body is not None:
            start, end = (code.count("\n", 0, at) for at in (match.start(), body))
            yield Function(match.group(1), start + 1, end - start + 1)


def _body(code: str, at: int) -> int | None:
    """Where the block ends that belongs to the `fn` before `at`; None for a declaration."""
    nesting = 0  # parentheses and brackets: `[u8; 4]` ends no declaration, `fn f(g: [u8; { 1 }])` opens no body
    for position in range(at, len(code)):
        character = code[position]
        if character in "([":
            nesting += 1
        elif character in ")]":
            nesting -= 1
        elif character == ";" and nesting == 0:
            return None
        elif character == "{" and nesting == 0:
            return _closing(code, position)
    return None


def _closing(code: str, opening: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    raise AssertionError(f"unbalanced braces from line {code.count(chr(10), 0, opening) + 1}")


def python_functions(source: str) -> Iterator[Function]:
    """Every function, nested ones and methods too; decorators do not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)


@cache
def sources() -> dict[str, str]:
    """Every Rust and Python file that git knows or would add, by its path in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs", "*.py", "*.pyi"]
    try:
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
        paths = {ROOT / name for name in names.split("\0") if name}
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive: no repository, but no build output either
        paths = {path for suffix in ("rs", "py", "pyi") for path in ROOT.rglob(f"*.{suffix}")}
        paths = {path for path in paths if not {"target", ".venv", ".cache"} & set(path.relative_to(ROOT).parts)}
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(paths) if path.is_file()}


def _functions(path: str, source: str) -> Iterator[Function]:
    return rust_functions(source) if path.endswith(".rs") else python_functions(source)


def _too_long() -> Iterator[tuple[str, str]]:
    """Where the limits are exceeded: the key that an exception would have, and the complaint."""
    for path, source in sources().items():
        lines = source.count("\n")
        if lines > FILE_LINES:
            yield path, f"{path}: {lines} lines, at most {FILE_LINES}"
        for function in _functions(path, source):
            if function.lines > FUNCTION_LINES:
                where = f"{path}:{function.first_line}"
                yield (
                    f"{path}::{function.name}",
                    f"{where}: {function.name} has {function.lines} lines, at most {FUNCTION_LINES}",
                )


def test_there_are_sources_in_both_languages() -> None:
    assert {path.rpartition(".")[2] for path in sources()} >= {"rs", "py"}


def test_files_fit_one_sitting_and_functions_one_screen() -> None:
    complaints = [complaint for key, complaint in _too_long() if key not in EXCEPTIONS]
    assert not complaints, "\n".join(complaints)


def test_every_exception_is_needed_and_reasoned() -> None:
    needed = {key for key, _ in _too_long()}
    assert not EXCEPTIONS.keys() - needed, "these exceed nothing any longer: take them out"
    assert all(len(reason.split()) >= 5 for reason in EXCEPTIONS.values()), "a reason is a sentence"


def test_every_module_says_what_it_is() -> None:
    def explained(path: str, source: str) -> bool:
        if path.endswith(".rs"):
            # Tests beside a module belong to it.
            return source.startswith("//!") or re.search(r"/src/.*/?tests(/|\.rs)", path) is not None
        return not source.strip() or ast.get_docstring(ast.parse(source)) is not None

    silent = [path for path, source in sources().items() if not path.endswith(".pyi") and not explained(path, source)]
    assert not silent, "no module documentation:\n" + "\n".join(silent)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    )


def test_no_error_is_swallowed_in_silence() -> None:
    swallowed = [
        f"{path}:{node.lineno}"
        for path, source in sources().items()
        if not path.endswith(".rs")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler)
        and _is_broad(node)
        and all(isinstance(inner, ast.Pass) for inner in node.body)
    ]
    assert not swallowed, "every error caught, and passed over:\n" + "\n".join(swallowed)


def test_unsafe_stays_at_the_edge() -> None:
    """`unsafe` only in host and binding, and each with its reason (clippy checks the reason)."""
    edge = ("mtcp_patch/stack/host/", "mtcp_patch/stack/binding/")
    outside = [
        path
        for path, source in sources().items()
        if path.endswith(".rs") and not path.startswith(edge) and re.search(r"\bunsafe\b", _without_noise(source))
    ]
    assert not outside, "unsafe outside host and binding:\n" + "\n".join(outside)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("fn a() {\n}\n", [("a", 1, 2)]),
        ("trait T {\n    fn a(&self) -> [u8; 4];\n    fn b() {}\n}\n", [("b", 3, 1)]),
        ("fn a(x: &'static str) {\n    let _ = '{';\n    let _ = \"}\\\"{\"; // }\n}\n", [("a", 1, 4)]),
        ('fn a() {\n    let _ = r#"{"{"#;\n    /* { */\n}\nfn b() {}\n', [("a", 1, 4), ("b", 5, 1)]),
        ("fn a() {\n    fn b() {\n    }\n}\n", [("a", 1, 4), ("b", 2, 2)]),
        ("/// fn no() {\nfn a<const N: usize>(x: [u8; { 1 }])\nwhere\n    T: X,\n{\n}\n", [("a", 2, 5)]),
        ("type F = fn(u8) -> u8;\nfn a() { b'\\'' ; b'\"' ; '\\u{7b}' }\n", [("a", 2, 1)]),
    ],
)
def test_the_measure_of_rust(source: str, expected: list[tuple[str, int, int]]) -> None:
    assert [tuple(function) for function in rust_functions(source)] == expected


def test_the_measure_of_python() -> None:
    source = (
        "@decorated\ndef a():\n    def b():\n        return 1\n    return b\n\nclass C:\n    async def c(self): ...\n"
    )
    assert {tuple(function) for function in python_functions(source)} == {("a", 2, 4), ("b", 3, 2), ("c", 8, 1)}
