"""Clients under us, against real servers on the kernel: from Debian, or Python's where the server is Python's."""

from __future__ import annotations

import pathlib
import shutil

import pytest
from support import need, servers
from support.probes import APPS, PORT, Probe
from support.programs import KERNEL

LIBRARIES = ["urllib", "requests", "urllib3", "httpx", "httpx_asyncio", "httpx_trio", "aiohttp"]


def client(probe: Probe, name: str, *arguments: str, **more: object) -> str:
    """Runs a client of apps/clients on the stack under test."""
    return probe.run([str(APPS / "clients" / f"{name}.py"), str(PORT), *arguments], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", LIBRARIES)
def test_http_client(probe: Probe, world: pathlib.Path, library: str) -> None:
    """The library against nginx: keep-alive, a large page, many at once."""
    need.module(library.partition("_")[0])
    servers.nginx(probe, world)
    assert "the same" in client(probe, "web", library, "http", least=4_000_000)


@pytest.mark.parametrize("library", LIBRARIES)
def test_https_client(probe: Probe, world: pathlib.Path, certificate: pathlib.Path, library: str) -> None:
    """The same over TLS."""
    need.module(library.partition("_")[0])
    servers.nginx(probe, world, certificate)
    trusted = shutil.copy(certificate / "cert.pem", world)
    assert "the same" in client(probe, "web", library, "https", str(trusted), least=4_000_000)


def test_requests_gevent_tls(probe: Probe, world: pathlib.Path, certificate: pathlib.Path) -> None:
    """requests under gevent.monkey.patch_all(), over TLS."""
    need.module("gevent")
    need.module("requests")
    servers.nginx(probe, world, certificate)
    trusted = shutil.copy(certificate / "cert.pem", world)
    assert "the same" in client(probe, "gevent_requests", str(trusted), least=4_000_000)


def test_redis(probe: Probe) -> None:
    """redis-py: a pipeline, a large value, publish and subscribe in a thread."""
    need.module("redis")
    servers.redis(probe)
    assert "done" in client(probe, "redis_sync", least=2_000_000)


def test_redis_asyncio(probe: Probe) -> None:
    """redis.asyncio with many tasks on a pool."""
    need.module("redis")
    servers.redis(probe)
    assert "done" in client(probe, "redis_asyncio", least=500_000)


def test_redis_gevent(probe: Probe) -> None:
    """redis-py in greenlets."""
    need.module("redis")
    need.module("gevent")
    servers.redis(probe)
    assert "done" in client(probe, "redis_gevent", least=500_000)


def test_pymysql(probe: Probe, world: pathlib.Path) -> None:
    """pymysql with MariaDB: a table, a megabyte, a transaction taken back, an error."""
    need.module("pymysql")
    servers.mariadb(probe, world)
    assert "done" in client(probe, "mysql", least=2_000_000)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_pg8000(probe: Probe, world: pathlib.Path, certificate: pathlib.Path, tls: bool) -> None:
    """pg8000 with PostgreSQL: a table, a megabyte, a transaction taken back, LISTEN; with and without TLS."""
    need.module("pg8000")
    servers.postgresql(probe, world, certificate)
    assert "done" in client(probe, "postgresql", *(["tls"] if tls else []), least=2_000_000)


def test_paramiko_sshd(probe: Probe, world: pathlib.Path) -> None:
    """paramiko with OpenSSH's sshd: a command, a megabyte by SFTP both ways, a forwarded connection."""
    need.module("paramiko")
    servers.sshd(probe, world)
    assert "done" in client(probe, "ssh", str(world / "user"), least=2_000_000)


def serve_on_kernel(probe: Probe, script: str, *arguments: str) -> None:
    """A server of apps/ on the kernel."""
    program = probe.programs.start([script, *arguments], ns=probe.ns, cwd=str(APPS))
    probe.wait_listening(program, on=KERNEL)


def test_ftplib(probe: Probe, tmp_path: pathlib.Path) -> None:
    """ftplib, active and passive, with pyftpdlib on the kernel."""
    need.module("pyftpdlib")
    (tmp_path / "served").mkdir()
    serve_on_kernel(probe, "ftp_server.py", "loop", str(tmp_path / "served"))
    assert "the same" in probe.run([str(APPS / "ftp_client.py")], least=6_000_000)


def test_smtplib(probe: Probe) -> None:
    """smtplib with aiosmtpd on the kernel."""
    need.module("aiosmtpd")
    serve_on_kernel(probe, "smtp_server.py")
    assert "accepted" in probe.run([str(APPS / "smtp_client.py")], least=900_000)


def test_xmlrpc_client(probe: Probe) -> None:
    """xmlrpc.client with SimpleXMLRPCServer on the kernel."""
    serve_on_kernel(probe, "xmlrpc_server.py")
    probe.run([str(APPS / "xmlrpc_client.py")], least=300_000)  # replies come compressed


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
def test_websockets_client(probe: Probe, kind: str) -> None:
    """The websockets library's clients."""
    need.module("websockets")
    serve_on_kernel(probe, "websocket_server.py", "asyncio", str(PORT))
    assert "the same" in probe.run([str(APPS / "websocket_client.py"), str(PORT), kind], least=2_000_000)
