"""requirements.txt, which the probes' environment is made from, and matrix.toml name the same versions."""

from __future__ import annotations

import re

from compat import matrix


def normal(name: str) -> str:
    """A package's name as pip compares it, without extras."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def pins() -> dict[str, str]:
    """Package: version."""
    lines = (matrix.HERE / "requirements.txt").read_text().splitlines()
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, _, version in pairs}


def test_every_package_of_a_row_is_pinned_as_the_row_says() -> None:
    pinned, loaded = pins(), matrix.load()
    rows = [row for row in loaded.programs + loaded.launches if row.packages]
    assert rows
    absent = {package for row in rows for package in row.packages if normal(package) not in pinned}
    assert not absent, f"not in requirements.txt: {absent}"
    differ = [(row.name, row.version, pinned[normal(row.packages[0])]) for row in rows
              if pinned[normal(row.packages[0])] != row.version]  # fmt: skip
    assert not differ, f"row, its version, the pin: {differ}"


def test_nothing_is_pinned_that_is_not_exact() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values()), pins()
