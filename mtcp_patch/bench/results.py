"""The JSON: read, checked, merged section by section, written. One section a sub-command, each with its own stamp.

    {"format": 1, "sections": {"servers": {"stamp": {...}, "results": [...]}}}

A result of pairs has ``id``, ``title``, ``setting``, ``parameters``, ``saturates``, ``pairs`` (each with a run of
``ours`` and of ``kernel``) and ``syscalls``; what a run has is `run.figures_of`'s to say. Other results have ``id``
and their own figures. ``not_measured`` is the reason why there are none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .figures import KERNEL, OURS, rounded

FORMAT = 1
NAME = "performance.json"
# document, sections, section, results, result, pairs, pair: a run lies below.
ONE_LINE_DEPTH = 7
RUN_FIGURES = ("rate", "server_us", "server_user_us", "server_system_us", "load_us", "both_us", "machine_us",
               "server_core", "load_core", "foreign", "switches")  # fmt: skip
STAMP = ("time", "commit", "build", "cpu", "cores", "kernel", "python", "versions", "load_average", "busy_before",
         "quick", "pairs", "seconds")  # fmt: skip

Document = dict[str, Any]


class BadResults(ValueError):
    """What is wrong with a document."""


def empty() -> Document:
    """Nothing measured yet."""
    return {"format": FORMAT, "sections": {}}


def read(path: Path) -> Document:
    """From a file; an empty one when there is none. BadResults when it is not ours."""
    if not path.exists():
        return empty()
    document = json.loads(path.read_text())
    check(document)
    return document  # type: ignore[no-any-return]


def check(document: Any) -> None:
    """BadResults says where a document is not as this module describes it."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadResults(f"not format {FORMAT}")
    for name, section in document["sections"].items():
        missing = [key for key in STAMP if key not in section["stamp"]]
        if missing:
            raise BadResults(f"{name}: the stamp lacks {', '.join(missing)}")
        for result in section["results"]:
            check_result(f"{name}/{result.get('id')}", result)


def check_result(where: str, result: dict[str, Any]) -> None:
    """One result."""
    if "id" not in result:
        raise BadResults(f"{where}: no id")
    for number, pair in enumerate(result.get("pairs", [])):
        for stack in (OURS, KERNEL):
            missing = [key for key in RUN_FIGURES if key not in pair.get(stack, {})]
            if missing:
                raise BadResults(f"{where}: pair {number}, {stack}: no {', '.join(missing)}")


def merged(document: Document, section: str, stamp: dict[str, Any], results: list[dict[str, Any]]) -> Document:
    """The document with a section in the place of the one it had. A partial run replaces the results it made."""
    old = document["sections"].get(section, {"results": []})["results"]
    made = {key_of(result) for result in results}
    kept = [result for result in old if key_of(result) not in made]
    for result in results:
        result["stamp"] = {key: stamp[key] for key in ("time", "commit", "quick", "busy_before")}
    order = {key_of(result): number for number, result in enumerate(old)}
    both = sorted(kept + results, key=lambda result: order.get(key_of(result), len(order)))
    return {**document, "sections": {**document["sections"], section: {"stamp": stamp, "results": both}}}


def key_of(result: dict[str, Any]) -> tuple[str, str]:
    """What a result is replaced by."""
    return result["id"], result.get("setting", "")


def text(document: Document) -> str:
    """One line a run, so that a change shows as what it is."""
    return dumped(rounded(document)) + "\n"


def dumped(value: Any, depth: int = 0) -> str:
    """JSON, with what lies deeper than a run's name in one line."""
    if depth >= ONE_LINE_DEPTH or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, list):
        parts = [dumped(part, depth + 1) for part in value]
        return f"[{inner}" + f",{inner}".join(parts) + f"{outer}]"
    parts = [f"{json.dumps(name)}: {dumped(part, depth + 1)}" for name, part in value.items()]
    return f"{{{inner}" + f",{inner}".join(parts) + f"{outer}}}"


def write(path: Path, document: Document) -> None:
    """In one step: whoever reads sees the old or the new."""
    check(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text(document))
    os.replace(new, path)
