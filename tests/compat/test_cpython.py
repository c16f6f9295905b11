"""CPython's own tests of sockets and waiting, plain and on the stack: the same outcome, test by test.

What differs must be listed, with its reason, in differences.toml.
"""

from __future__ import annotations

import json
import pathlib
import tomllib
from collections import Counter

import pytest
from support import need
from support.netns import Netns
from support.programs import KERNEL, OURS, Programs

HERE = pathlib.Path(__file__).parent
MODULES = [
    "test_socket",
    "test_timeout",
    "test_selectors",
    "test_select",
    "test_poll",
    "test_epoll",
    "test_socketserver",
    "test_httpservers",
]
RUN_SECONDS = 240  # test_socket takes 40 alone; the machine may have other things to do
OPTIONS = ("--device", "memory")

Outcomes = dict[str, list[str]]


def run(programs: Programs, ns: Netns, tmp_path: pathlib.Path, module: str, stack: str) -> Outcomes:
    """What became of each test of the module on that stack."""
    result, cwd = tmp_path / f"{stack}.json", tmp_path / stack
    cwd.mkdir()
    program = programs.start(
        [str(HERE / "run_module.py"), f"test.{module}", str(result)], stack=stack, ns=ns, options=OPTIONS, cwd=str(cwd)
    )
    assert program.wait(RUN_SECONDS) == 0, f"{module} on {stack}: {program.stderr()[-4000:]}"
    outcomes: Outcomes = json.loads(result.read_text())
    return outcomes


def listed() -> dict[str, dict[str, str]]:
    """The entries of differences.toml by test."""
    with open(HERE / "differences.toml", "rb") as file:
        entries = tomllib.load(file).get("difference", [])
    return {entry["test"]: entry for entry in entries}


def test_every_difference_has_a_reason() -> None:
    """No entry without one."""
    for name, entry in listed().items():
        assert len(entry.get("reason", "")) > 20, name
        assert entry["patched"] in ("any", "ok", "fail", "error", "skip"), name


@pytest.mark.timeout(2 * RUN_SECONDS + 30)
@pytest.mark.parametrize("module", MODULES)
def test_module(programs: Programs, netns: Netns, tmp_path: pathlib.Path, module: str) -> None:
    """Plain first, then ours, in one namespace."""
    need.stack()
    need.module(f"test.{module}")
    plain = run(programs, netns, tmp_path, module, KERNEL)
    ours = run(programs, netns, tmp_path, module, OURS)
    assert len(plain) > 0
    print(
        module, "plain", dict(Counter(o for o, _ in plain.values())), "ours", dict(Counter(o for o, _ in ours.values()))
    )
    known = {name: entry for name, entry in listed().items() if name.startswith(f"test.{module}.")}
    complaints = []
    for name in sorted(plain.keys() | ours.keys()):
        before, (now, detail) = plain.get(name, ["absent", ""])[0], ours.get(name, ["absent", ""])
        entry = known.get(name)
        if entry is None and before != now:
            complaints.append(f"{name}: {before} -> {now}\n{detail[-1500:]}")
        elif entry is not None and entry["patched"] not in ("any", now):
            complaints.append(f"{name}: listed as {entry['patched']} but is {now}; correct differences.toml")
        elif entry is not None and entry["patched"] != "any" and before == now:
            complaints.append(f"{name}: listed, but plain Python has the same outcome ({now}); remove it")
    complaints += [f"{name}: listed, but there is no such test" for name in known if name not in plain]
    assert not complaints, f"{len(complaints)} differences:\n" + "\n".join(complaints)
