"""The JSON: what is refused, what a partial run replaces, how it is laid out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import made
from mtcp_patch.bench import results


def ids(document: results.Document, section: str) -> list[str]:
    """Of the results, in order."""
    return [result["id"] for result in document["sections"][section]["results"]]


def test_a_document_comes_back_as_it_was_written(tmp_path: Path) -> None:
    document = made.document(servers=[made.result("a", "K", [1, 2], [4, 5]), made.not_measured("b", "M", "why")])
    path = tmp_path / "deep" / results.NAME
    results.write(path, document)
    assert results.read(path) == document
    assert list(path.parent.iterdir()) == [path]


def test_a_run_is_one_line() -> None:
    document = made.document(servers=[made.result("a", "K", [1, 2], [4, 5])])
    lines = results.text(document).splitlines()
    assert sum('"server_us"' in line for line in lines) == 4
    assert json.loads("\n".join(lines)) == document


def test_a_partial_run_replaces_what_it_made_and_keeps_the_order() -> None:
    old = [made.result(name, "K", [1], [1]) for name in ("a", "b", "c")]
    document = made.document(servers=old)
    new = [made.result("b", "K", [5], [5]), made.result("b", "M", [6], [6])]
    document = results.merged(document, "servers", dict(made.STAMP, commit="new"), new)
    assert ids(document, "servers") == ["a", "b", "c", "b"]
    made_of = {results.key_of(r): r["stamp"]["commit"] for r in document["sections"]["servers"]["results"]}
    assert made_of == {("a", "K"): "0123456789ab", ("b", "K"): "new", ("c", "K"): "0123456789ab", ("b", "M"): "new"}


def without(document: results.Document, *path: Any) -> results.Document:
    """The document without what the path leads to."""
    copy: Any = json.loads(json.dumps(document))
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy  # type: ignore[no-any-return]


RESULT = ("sections", "servers", "results", 0)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("format",), "format"),
        (("sections", "servers", "stamp", "build"), "the stamp lacks build"),
        ((*RESULT, "id"), "no id"),
        ((*RESULT, "pairs", 0, "kernel"), "pair 0, kernel"),
        ((*RESULT, "pairs", 0, "ours", "load_us"), "no load_us"),
    ],
)
def test_what_lacks_something_is_refused(path: tuple[Any, ...], said: str) -> None:
    document = made.document(servers=[made.result("a", "K", [1], [1])])
    results.check(document)
    with pytest.raises(results.BadResults, match=said):
        results.check(without(document, *path))


def test_there_need_be_no_file(tmp_path: Path) -> None:
    assert results.read(tmp_path / "none.json") == results.empty()
