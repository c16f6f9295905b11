"""The standard library's own servers, as they stand."""

from __future__ import annotations

import pathlib

from support.probes import APPS, PORT, Probe


def talk(probe: Probe) -> None:
    """An echo of lines to three clients in turn."""
    for _ in range(3):
        with probe.ns.connect(("127.0.0.1", PORT)) as sock, sock.makefile("rwb") as file:
            for number in range(100):
                file.write(b"%0100d\n" % number)
                file.flush()
                assert file.readline() == b"%0100d\n" % number


def test_http_server(probe: Probe, tmp_path: pathlib.Path) -> None:
    """``python -m http.server``: a page, a large file by copyfileobj, an absent one."""
    content = (APPS / "content.py").read_text()
    (tmp_path / "large").write_text(content * 3000)
    (tmp_path / "index.html").write_text(content)
    probe.serve(["-m", "http.server", str(PORT), "--bind", "127.0.0.1"], cwd=tmp_path)
    curl = ("curl", "-sS", "--max-time", "20", f"http://127.0.0.1:{PORT}")
    assert probe.ns.run(*curl).stdout == content
    assert probe.ns.run(*curl[:-1], f"{curl[-1]}/large").stdout == content * 3000
    assert "404" in probe.ns.run(*curl, "-o", "/dev/null", "-w", "%{http_code}", "-G", f"{curl[-1]}/none").stdout
    probe.load(f"http://127.0.0.1:{PORT}/")
    probe.check_carried(least=len(content) * 3000)


def test_http_server_threading_keep_alive(probe: Probe) -> None:
    """ThreadingHTTPServer, HTTP/1.1."""
    probe.serve(["stdlib_https.py", str(PORT)])
    probe.check_web()


def test_https_server(probe: Probe, certificate: pathlib.Path) -> None:
    """http.server behind ssl.SSLContext.wrap_socket on the listener."""
    probe.serve(["stdlib_https.py", str(PORT), str(certificate / "cert.pem"), str(certificate / "key.pem")])
    probe.check_web(tls=certificate)


def test_socketserver_tcp(probe: Probe) -> None:
    """TCPServer, one connection at a time."""
    probe.serve(["socketserver_echo.py", "TCPServer"])
    talk(probe)
    probe.check_carried(least=60_000)


def test_socketserver_threading(probe: Probe) -> None:
    """ThreadingTCPServer."""
    probe.serve(["socketserver_echo.py", "ThreadingTCPServer"])
    talk(probe)
    probe.check_carried(least=60_000)


def test_socketserver_forking(probe: Probe) -> None:
    """ForkingTCPServer hands each connection to a child: its listener is kept on the kernel."""
    probe.serve(["socketserver_echo.py", "ForkingTCPServer"], on="kernel")
    talk(probe)
    probe.check_carried("kernel")


def test_wsgiref(probe: Probe) -> None:
    """wsgiref.simple_server."""
    probe.serve(["wsgi_servers.py", "wsgiref", str(PORT)])
    probe.check_web()


def test_xmlrpc(probe: Probe) -> None:
    """SimpleXMLRPCServer: long strings, a multicall, a fault."""
    probe.serve(["xmlrpc_server.py"])
    probe.python("xmlrpc_client.py")
    probe.check_carried(least=300_000)  # replies come compressed
