"""Real runs, as short as can be: that what is measured is what is meant. Their figures are looked at, not judged."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support import need

from mtcp_patch.bench import children, counters, run
from mtcp_patch.bench.children import BenchError, native
from mtcp_patch.bench.run import Case, Load, Server

SHORT = {"warmup_ms": 20, "measure_ms": 50}


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Root, both stacks, and a folder for control sockets."""
    need.root()
    need.stack()
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mtcpb-", dir="/tmp") as folder:
        monkeypatch.setattr(run.RUNTIME_DIR, "name", folder)
        yield


def case(setting: str, server: Server, **load: object) -> Case:
    """Of a few milliseconds."""
    return Case("test", "test", setting, server, Load(**{"connections": 4, **SHORT, **load}))  # type: ignore[arg-type]


@pytest.mark.parametrize("stack", ["kernel", "ours"])
@pytest.mark.parametrize(
    ("server", "load"),
    [
        (Server("native"), {}),
        (Server("native"), {"size": 8192}),
        (Server("native"), {"messages": 1, "spread": 2}),
        (Server("native"), {"mode": "open", "rate": 1000.0}),
        (Server("native", ("sink",)), {"mode": "send", "connections": 1}),
        (Server("native", ("source",)), {"mode": "receive", "connections": 1}),
        (Server("selectors_echo"), {}),
        (Server("http_keepalive", ("--nodelay",)), {"http": True}),
    ],
    ids=["echo", "8 KiB", "short", "open", "sink", "source", "selectors", "http"],
)
def test_both_stacks_are_measured_by_the_same_load(stack: str, server: Server, load: dict[str, object]) -> None:
    if stack == "ours":
        need.xdp()
    found = run.measure(case("K", server, **load), stack)
    assert found["units"] > 0
    assert found["carrier"] == "kernel"
    assert found["server_us"] > 0 and found["load_us"] > 0
    if load.get("messages"):
        assert found["connections"] > 0
    if load.get("mode") == "open":
        assert found["offered"] == 1000


@pytest.mark.parametrize("program", ["native", "selectors_echo"])
@pytest.mark.parametrize("layout", ["merged", "split"])
def test_every_layout_is_measured(program: str, layout: str) -> None:
    need.xdp()
    assert run.measure(case("K", Server(program, layout=layout)), "ours")["units"] > 0
    # A layout is our stack's: the kernel's half of a pair has none.
    assert run.measure(case("K", Server(program, layout=layout)), "kernel")["units"] > 0


def test_the_far_end_of_x_is_our_stack_whoever_serves() -> None:
    need.xdp()
    for stack in ("ours", "kernel"):
        for load in ({}, {"messages": 1, "spread": 4}):
            found = run.measure(case("X", Server("native"), **load), stack)
            assert found["units"] > 0 and found["carrier"] == "xdp:vb"


def test_system_calls_are_counted_and_ours_are_fewer() -> None:
    need.xdp()
    try:
        counters.tracepoint()
    except OSError as error:
        need.skip(f"needs the tracepoint of system calls: {error}")
    calls = {
        stack: run.measure(case("K", Server("native"), connections=64), stack, count_syscalls=True)["syscalls"]
        for stack in ("ours", "kernel")
    }
    assert calls["kernel"] > 2  # recv and send, and a share of epoll_wait
    assert 0 < calls["ours"] < calls["kernel"]


def test_a_server_that_ends_makes_no_figure() -> None:
    with pytest.raises(BenchError, match="no listener at port"):
        run.measure(case("K", Server("selectors_echo", ("--nothing",))), "kernel")


def test_a_load_without_a_server_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = native("load", "--address", f"127.0.0.1:{port}")
    with (
        children.child(words, core=0, namespace=None, runtime_dir="/tmp") as load,
        pytest.raises(BenchError, match="connect"),
    ):
        load.json_line(30)


def test_a_server_that_answers_something_else_is_refused() -> None:
    # A load of HTTP against an echo.
    with pytest.raises(BenchError, match="Content-Length"):
        run.measure(case("K", Server("native"), http=True), "kernel")
