"""Servers on event loops: asyncio, Tornado, Twisted, trio, anyio, curio; ASGI servers."""

from __future__ import annotations

import pathlib

import pytest
from support import need
from support.probes import PORT, Probe
from support.programs import BOTH, OURS


def tls_arguments(certificate: pathlib.Path) -> list[str]:
    """Certificate and key as the programs of apps/ take them."""
    return [str(certificate / "cert.pem"), str(certificate / "key.pem")]


def echo(probe: Probe, kilobytes: int = 2000) -> None:
    """Small messages to and fro, then a megabyte each way."""
    script = ["echo_client.py", str(PORT), str(kilobytes)]
    assert "the same" in probe.python(*script).stdout
    probe.check_carried(least=2000 * kilobytes)


def test_asyncio_streams(probe: Probe) -> None:
    """asyncio.start_server with streams."""
    probe.serve(["echo_servers.py", "asyncio", str(PORT)])
    echo(probe)


def test_asyncio_sock(probe: Probe) -> None:
    """loop.sock_accept, sock_recv_into, sock_sendall, add_reader, sendfile, start_tls."""
    probe.serve(["echo_servers.py", "asyncio_sock", str(PORT)])
    echo(probe)


def test_aiohttp_server(probe: Probe) -> None:
    """aiohttp.web, with a file by loop.sendfile."""
    need.module("aiohttp")
    probe.serve(["aiohttp_app.py", str(PORT)])
    curl = ["curl", "-sS", "--max-time", "25", f"http://127.0.0.1:{PORT}/file"]
    assert "loop.sendfile" in probe.ns.run(*curl).stdout
    probe.check_web()


def test_aiohttp_server_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """aiohttp.web over asyncio's TLS."""
    need.module("aiohttp")
    probe.serve(["aiohttp_app.py", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


def uvicorn(probe: Probe, app: str, *more: str, tls: pathlib.Path | None = None) -> None:
    """uvicorn as its command line starts it."""
    need.module("uvicorn")
    probe.serve(["-m", "uvicorn", "--port", str(PORT), "--no-access-log", *more, app])
    probe.check_web(tls=tls)


def test_uvicorn_asyncio(probe: Probe) -> None:
    """``--loop asyncio``."""
    uvicorn(probe, "asgi_app:app", "--loop", "asyncio")


def test_uvicorn_auto_takes_asyncio(probe: Probe) -> None:
    """Its own choice of a loop is uvloop where that is installed; under us it is asyncio's."""
    need.module("uvloop")
    uvicorn(probe, "asgi_app:app")


def test_fastapi_under_uvicorn(probe: Probe) -> None:
    """FastAPI, one handler of which runs in a thread."""
    need.module("fastapi")
    uvicorn(probe, "fastapi_app:app")


def test_uvicorn_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """``--ssl-certfile``."""
    cert, key = tls_arguments(certificate)
    uvicorn(probe, "asgi_app:app", "--ssl-certfile", cert, "--ssl-keyfile", key, tls=certificate)


def hypercorn(probe: Probe, app: str, *more: str, tls: pathlib.Path | None = None, on: str = OURS) -> None:
    """hypercorn as its command line starts it."""
    need.module("hypercorn")
    probe.serve(["-m", "hypercorn", "-b", f"127.0.0.1:{PORT}", *more, app], on=on)
    probe.check_web(tls=tls, on=on)


def test_hypercorn_asyncio(probe: Probe) -> None:
    """Its default, in the process itself."""
    hypercorn(probe, "asgi_app:app", "--workers", "0")


def test_hypercorn_trio(probe: Probe) -> None:
    """On trio."""
    need.module("trio")
    hypercorn(probe, "asgi_app:app", "--workers", "0", "--worker-class", "trio")


def test_fastapi_under_hypercorn(probe: Probe) -> None:
    """FastAPI."""
    need.module("fastapi")
    hypercorn(probe, "fastapi_app:app", "--workers", "0")


def test_hypercorn_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """HTTP/2 by ALPN, as curl asks for it."""
    cert, key = tls_arguments(certificate)
    hypercorn(probe, "asgi_app:app", "--workers", "0", "--certfile", cert, "--keyfile", key, tls=certificate)


def test_hypercorn_worker(probe: Probe) -> None:
    """Its default: one worker process, which takes over the socket that it is handed."""
    need.module("hypercorn")
    hypercorn(probe, "asgi_app:app", on=BOTH)


def test_tornado(probe: Probe) -> None:
    """Tornado's HTTP server."""
    need.module("tornado")
    probe.serve(["tornado_app.py", str(PORT)])
    probe.check_web()


def test_tornado_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """Tornado's SSLIOStream on non-blocking SSL sockets."""
    need.module("tornado")
    probe.serve(["tornado_app.py", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_twisted_web(probe: Probe, reactor: str) -> None:
    """twisted.web on each reactor."""
    need.module("twisted")
    probe.serve(["twisted_app.py", reactor, str(PORT)])
    probe.check_web()


def test_twisted_web_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """twisted.web over Twisted's TLS, which is pyOpenSSL on memory BIOs."""
    need.module("twisted")
    need.module("OpenSSL")
    probe.serve(["twisted_app.py", "epoll", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


def test_trio(probe: Probe) -> None:
    """trio.serve_tcp."""
    need.module("trio")
    probe.serve(["echo_servers.py", "trio", str(PORT)])
    echo(probe)


def test_anyio_asyncio(probe: Probe) -> None:
    """anyio's TCP listener on asyncio."""
    need.module("anyio")
    probe.serve(["echo_servers.py", "anyio", str(PORT), "asyncio"])
    echo(probe)


def test_anyio_trio(probe: Probe) -> None:
    """anyio's TCP listener on trio."""
    need.module("anyio")
    need.module("trio")
    probe.serve(["echo_servers.py", "anyio", str(PORT), "trio"])
    echo(probe)


def test_curio(probe: Probe) -> None:
    """curio.tcp_server."""
    need.module("curio")
    probe.serve(["echo_servers.py", "curio", str(PORT)])
    echo(probe)


def test_websockets_asyncio(probe: Probe) -> None:
    """The websockets library's asyncio server; its threaded client on the kernel."""
    need.module("websockets")
    probe.serve(["websocket_server.py", "asyncio", str(PORT)])
    probe.python("websocket_client.py", str(PORT))
    probe.check_carried(least=2_000_000)


def test_websockets_threads(probe: Probe) -> None:
    """The websockets library's threaded server."""
    need.module("websockets")
    probe.serve(["websocket_server.py", "threads", str(PORT)])
    probe.python("websocket_client.py", str(PORT))
    probe.check_carried(least=2_000_000)
