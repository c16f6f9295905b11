"""Fixtures of every test: namespaces, veth pairs, programs on either stack.

Nothing is left behind: namespaces and programs go in teardown, failed or not, and what a killed run left is swept
at the start of the next.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support import need
from support.netns import Netns, Veth, make_veth, sweep
from support.programs import KERNEL, OURS, Program, Programs


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options; `pytest --help` shows them."""
    group = parser.getgroup("mtcp_patch")
    group.addoption("--require-all", action="store_true", help="a test that cannot run here fails instead of skipping")
    group.addoption("--full", action="store_true", help="the long form of tests that are scaled down by default")
    group.addoption(
        "--stack", choices=[KERNEL, OURS, "both"], default="both", help="which stacks the shared tests run on"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Sweeps what a killed run left."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background: children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    need.fail_instead_of_skipping = config.getoption("--require-all")
    if os.geteuid() == 0 and not hasattr(config, "workerinput"):
        sweep()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """--stack: deselects what would run on the other one."""
    wanted = config.getoption("--stack")

    def runs(item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        return wanted == "both" or callspec is None or bool(callspec.params.get("stack", wanted) == wanted)

    config.hook.pytest_deselected(items=[item for item in items if not runs(item)])
    items[:] = [item for item in items if runs(item)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in capitals that something was not tested."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} TESTS DID NOT RUN; the reasons are above. --require-all makes them failures.", red=True
        )


@pytest.fixture(params=[KERNEL, OURS])
def stack(request: pytest.FixtureRequest) -> str:
    """The same test on the kernel's stack and on ours."""
    chosen: str = request.param
    if chosen == OURS:
        need.stack()
        need.xdp()
    return chosen


@pytest.fixture
def make_netns() -> Iterator[Callable[[str], Netns]]:
    """Makes namespaces: make_netns("label")."""
    need.root()
    need.tool("ip")
    made: list[Netns] = []

    def make(label: str) -> Netns:
        made.append(Netns(label))
        return made[-1]

    yield make
    for ns in made:
        ns.delete()


@pytest.fixture
def netns(make_netns: Callable[[str], Netns]) -> Netns:
    """One namespace, lo up."""
    return make_netns("one")


@pytest.fixture
def veth(make_netns: Callable[[str], Netns]) -> Veth:
    """Two namespaces joined by a veth pair."""
    return make_veth(make_netns("server"), make_netns("client"))


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Starts programs under test and ends them."""
    started = Programs()
    yield started
    started.close()


@pytest.fixture
def patched(programs: Programs) -> Callable[..., Program]:
    """patched(argv, ns=..., port=..., options=[...]): ``python -m mtcp_patch``, listening when it returns."""
    need.stack()

    def start(argv: list[str], **more: object) -> Program:
        return programs.start(argv, stack=OURS, **more)  # type: ignore[arg-type]

    return start


@dataclass(frozen=True)
class Path:
    """Where the server runs, where the client runs, which address lies between them, by which device."""

    server_ns: Netns
    client_ns: Netns
    host: str
    options: tuple[str, ...]


@pytest.fixture(params=["lo4", "lo6", "veth4", "veth6"])
def path(request: pytest.FixtureRequest, make_netns: Callable[[str], Netns]) -> Path:
    """Through xdp:lo and through a veth pair, IPv4 and IPv6."""
    if request.param.startswith("lo"):
        ns = make_netns("lo")
        return Path(ns, ns, "127.0.0.1" if request.param == "lo4" else "::1", ("--device", "xdp:lo", "--require"))
    pair = make_veth(make_netns("server"), make_netns("client"))
    host = pair.server4 if request.param == "veth4" else pair.server6
    return Path(pair.server, pair.client, host, ("--device", "xdp:veth", "--require"))
