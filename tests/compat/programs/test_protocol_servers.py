"""Servers of other protocols than HTTP, each by a client of the standard library or its own."""

from __future__ import annotations

import pathlib

from support import need
from support.probes import Probe


def ftp(probe: Probe, tmp_path: pathlib.Path, kind: str, certificate: pathlib.Path | None = None) -> None:
    """Active and passive transfers, both ways."""
    need.module("pyftpdlib")
    (tmp_path / "served").mkdir()
    keys = [str(certificate / name) for name in ("cert.pem", "key.pem")] if certificate else []
    probe.serve(["ftp_server.py", kind, str(tmp_path / "served"), *keys])
    assert "the same" in probe.python("-W", "ignore", "ftp_client.py", *keys[:1]).stdout
    probe.check_carried(least=6_000_000)


def test_pyftpdlib(probe: Probe, tmp_path: pathlib.Path) -> None:
    """One loop, which waits in epoll."""
    ftp(probe, tmp_path, "loop")


def test_pyftpdlib_threads(probe: Probe, tmp_path: pathlib.Path) -> None:
    """A loop a client, each in its thread."""
    ftp(probe, tmp_path, "threads")


def test_pyftpdlib_tls(probe: Probe, tmp_path: pathlib.Path, certificate: pathlib.Path) -> None:
    """pyOpenSSL given non-blocking sockets, control and data."""
    need.module("OpenSSL")
    ftp(probe, tmp_path, "loop", certificate)


def test_aiosmtpd(probe: Probe) -> None:
    """Long messages by the standard library's smtplib."""
    need.module("aiosmtpd")
    probe.serve(["smtp_server.py"])
    assert "accepted" in probe.python("smtp_client.py").stdout
    probe.check_carried(least=900_000)


def test_paramiko_server(probe: Probe) -> None:
    """An SSH server of paramiko's, by paramiko on the kernel."""
    need.module("paramiko")
    probe.serve(["ssh_server.py"])
    assert "the same" in probe.python("-W", "ignore", "ssh_client.py").stdout
    probe.check_carried(least=300_000)
