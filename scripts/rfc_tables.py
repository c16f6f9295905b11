"""Makes the tables of what we obey from what stands in code and tests.

    python scripts/rfc_tables.py            # writes docs/rfc9293.md and the RFC table of README.md
    python scripts/rfc_tables.py --check    # says what is not current, and exits with 1

A comment names a requirement of RFC 9293 by its number (``RFC 9293 3.7.1, MUST-16``) at the line of code that obeys it
and at the test that proves it; a comment that names another RFC counts for that RFC's row. What is a test is told by
where it stands. Names of functions are given, not lines: they outlive an edit. The requirements, in our own words and
with the reason where one is not obeyed, are in docs/rfc9293.toml, the RFCs in docs/rfcs.toml.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import generated

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "mtcp_patch/stack/engine/src/"
REQUIREMENT = re.compile(r"\b(?:MUST|SHLD|MAY|REC)-\d+\b")
RFC = re.compile(r"\bRFC (\d+)\b")
FUNCTION = re.compile(r"^\s*(?:pub(?:\([a-z:]+\))? )?(?:const |async )*(?:fn|def) (\w+)")
ITEM = re.compile(r"^\s*(?:pub(?:\([a-z:]+\))? )?(?:struct|enum|impl|const|static|trait|class) ?(?:<.*?> )?(\w+)")
COMMENT = re.compile(r"(?://[/!]?|#|\"\"\")(.*)")
SHOWN = 4
MARKS = ("<!-- rfcs: made by scripts/rfc_tables.py -->", "<!-- end of rfcs -->")


@dataclass
class Places:
    """Where something is named: file and function, in the order found."""

    code: dict[str, None] = field(default_factory=dict)
    tests: dict[str, None] = field(default_factory=dict)


def files() -> list[str]:
    """The sources, as git knows them."""
    patterns = ["mtcp_patch/*.rs", "mtcp_patch/*.py", "tests/*.py", "tests/*.pkt"]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
    return sorted(name for name in output.splitlines() if (ROOT / name).is_file())


def named(path: str) -> Iterator[tuple[str, str, bool]]:
    """(what, where, whether that is a test) for every comment of the file that names something."""
    lines = (ROOT / path).read_text().splitlines()
    is_test_file = path.startswith("tests/") or re.search(r"/tests(/|\.rs$)", path) is not None
    in_tests = False
    for number, line in enumerate(lines):
        in_tests = in_tests or line.strip() == "#[cfg(test)]"
        comment = COMMENT.search(line)
        if comment is None:
            continue
        whats = [*REQUIREMENT.findall(comment.group(1)), *(f"RFC {n}" for n in RFC.findall(comment.group(1)))]
        if whats:
            where = _where(path, lines, number)
            for what in whats:
                yield what, where, is_test_file or in_tests


def _where(path: str, lines: list[str], number: int) -> str:
    """The function that a comment stands above or in; the module when there is none."""
    if path.endswith(".pkt"):
        return path
    short = path.removeprefix(ENGINE)
    ahead = number
    while ahead < len(lines) and re.match(r"^\s*(//|#|$)", lines[ahead]):
        ahead += 1
    indent = len(lines[number]) - len(lines[number].lstrip())
    if lines[number].strip().startswith("//!"):
        return short
    above = lines[number].strip().startswith(("//", "#")) and ahead < len(lines)
    if above and (match := FUNCTION.match(lines[ahead]) or ITEM.match(lines[ahead])):
        return f"{short}: {match.group(1)}"
    for line in reversed(lines[: number + 1]):
        match = FUNCTION.match(line) or ITEM.match(line)
        if match and len(line) - len(line.lstrip()) < max(indent, 1):
            return f"{short}: {match.group(1)}"
    return short


def find_all() -> dict[str, Places]:
    """What is named anywhere, and where."""
    found: dict[str, Places] = defaultdict(Places)
    for path in files():
        for what, where, is_test in named(path):
            places = found[what]
            (places.tests if is_test else places.code)[where] = None
    return found


def cell(places: dict[str, None]) -> str:
    """Some of the places, in code type."""
    shown = [f"`{place}`" for place in list(places)[:SHOWN]]
    more = len(places) - SHOWN
    return "<br>".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def state(entry: dict[str, str], places: Places) -> str:
    """In a word, what is so."""
    if "absent" in entry:
        return "partly" if places.code else "not done"
    if not places.code and "by" not in entry:
        return "not done"
    return "obeyed" if places.tests or "by" in entry else "untested"


def requirements(found: dict[str, Places]) -> str:
    """docs/rfc9293.md."""
    entries: dict[str, dict[str, str]] = tomllib.loads((ROOT / "docs/rfc9293.toml").read_text())
    rows, counts = [], defaultdict(lambda: defaultdict(int))  # type: ignore[var-annotated]
    for name, entry in entries.items():
        places = found.get(name, Places())
        word = state(entry, places)
        counts[name.partition("-")[0]][word] += 1
        why = entry.get("absent") or entry.get("by") or ("No line of ours does it yet." if word == "not done" else "")
        rows.append(
            f"| {name} | {entry['section']} | {entry['text']} | {word} | {cell(places.code)} "
            f"| {cell(places.tests)} | {why} |"
        )
    totals = "; ".join(
        f"{kind}: " + ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
        for kind, words in counts.items()
    )
    head = [
        "# RFC 9293, requirement by requirement",
        "",
        "Made by `python scripts/rfc_tables.py` from the comments of code and tests that name a requirement by its",
        "number, and from [rfc9293.toml](rfc9293.toml), which says each in our own words. Paths without a folder in",
        f"front begin at `{ENGINE}`; after the colon stands the function.",
        "",
        f"{totals}.",
        "",
        "| number | section | requirement | state | obeyed at | tests | remark |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def rfcs(found: dict[str, Places]) -> str:
    """The table of README.md, between its marks."""
    entries: dict[str, dict[str, str]] = tomllib.loads((ROOT / "docs/rfcs.toml").read_text())
    rows = [MARKS[0], "| RFC | what | state | where | tests |", "|---|---|---|---|---|"]
    for number, entry in entries.items():
        places = found.get(f"RFC {number}", Places())
        modules = {place.partition(":")[0]: None for place in places.code}
        word = {"obeyed": "yes", "untested": "untested", "partly": "partly", "not done": "no"}[state(entry, places)]
        why = entry.get("absent", "")
        rows.append(
            f"| {number} | {entry['title']} | {word}{': ' + why if why else ''} | {cell(modules)} "
            f"| {len(places.tests)} |"
        )
    return "\n".join([*rows, MARKS[1]])


def unknown(found: dict[str, Places]) -> list[str]:
    """Numbers in comments that RFC 9293 does not have: slips of the pen."""
    entries = tomllib.loads((ROOT / "docs/rfc9293.toml").read_text())
    known = {name for name in found if name.startswith(("MAY-", "REC-", "RFC "))} | set(entries)
    return sorted(set(found) - known)


def wanted() -> dict[Path, str]:
    """What the files should contain."""
    found = find_all()
    if slips := unknown(found):
        raise SystemExit(f"rfc_tables: RFC 9293 has no {', '.join(slips)}")
    readme = ROOT / "README.md"
    return {
        ROOT / "docs/rfc9293.md": requirements(found),
        readme: generated.with_part(readme.read_text(), MARKS, rfcs(found), "rfc_tables"),
    }


if __name__ == "__main__":
    generated.main("rfc_tables", __doc__, ROOT, wanted)
