"""Extension modules that make their own system calls: named once, and working, on the kernel."""

from __future__ import annotations

import pathlib

import pytest
from support import need, servers
from support.probes import APPS, PORT, Probe
from support.programs import OURS, ROOT


def named(probe: Probe, text: str, name: str) -> None:
    """The line on stderr: once under us, never else."""
    assert text.count(f"mtcp_patch: {name} is used here: its connections stay on the kernel") == (
        probe.stack == OURS
    ), text


def test_uvloop_server(probe: Probe) -> None:
    """``uvicorn --loop uvloop``: as told; its sockets are the kernel's."""
    need.module("uvloop")
    program = probe.serve(
        ["-m", "uvicorn", "--port", str(PORT), "--no-access-log", "--loop", "uvloop", "asgi_app:app"], on="kernel"
    )
    probe.check_web(on="kernel")
    named(probe, program.stderr(), "uvloop")


def test_uvloop_takes_sockets_of_python(probe: Probe) -> None:
    """Listeners, clients and readers that were made with the socket module."""
    need.module("uvloop")
    assert "the same" in probe.run([str(APPS / "uvloop_sockets.py")], expect="kernel")


def test_grpc(probe: Probe) -> None:
    """A server and a client of grpcio."""
    need.module("grpc")
    assert "the same" in probe.run([str(APPS / "grpc_both.py")], expect="kernel")


def test_zmq(probe: Probe) -> None:
    """REQ and REP over TCP, and zmq.asyncio on our epoll."""
    need.module("zmq")
    assert "the same" in probe.run([str(APPS / "zmq_both.py")], expect="kernel")


def test_pycurl(probe: Probe, world: pathlib.Path) -> None:
    """pycurl to nginx."""
    need.module("pycurl")
    servers.nginx(probe, world)
    assert "the same" in probe.run([str(APPS / "clients" / "with_pycurl.py"), str(PORT)], expect="kernel")


@pytest.mark.parametrize("library", ["psycopg", "psycopg2"])
def test_psycopg(probe: Probe, world: pathlib.Path, certificate: pathlib.Path, library: str) -> None:
    """Both generations with PostgreSQL; the newer also on asyncio."""
    need.module(library)
    servers.postgresql(probe, world, certificate)
    argv = [str(APPS / "clients" / "with_psycopg.py"), str(PORT), library]
    assert "the same" in probe.run(argv, expect="kernel")


def test_info_names_what_is_installed(probe: Probe) -> None:
    """``--info``: every one of them that this interpreter has."""
    need.stack()
    text = probe.python("-m", "mtcp_patch", "--device", "memory", "--info", env={"PYTHONPATH": str(ROOT)}).stdout
    import importlib.util

    from mtcp_patch.bypass_shim import BYPASSING

    for name in BYPASSING:
        installed = importlib.util.find_spec(name) is not None
        assert (f"{name}: its connections stay on the kernel" in text) == installed, name
