"""Uploads and downloads compared by hash, 1 byte to 100 MB, through lo and through a veth pair, IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Path
from support.clients import download_matches, echo_matches, http_connection, upload_matches
from support.programs import EXAMPLES, OURS, Programs

PORT = 8000
SIZES = [1, 2, 1447, 1448, 1449, 4096, 65535, 65536, 65537, 1_000_000]
MEGABYTES_100 = 100_000_000


@pytest.fixture
def server(programs: Programs, path: Path, stack: str) -> Callable[[str], tuple[str, int]]:
    """Starts an example where the path says and gives its address."""

    def start(name: str) -> tuple[str, int]:
        programs.example(name, stack=stack, ns=path.server_ns, host=path.host, port=PORT, options=path.options)
        return path.host, PORT

    return start


def test_sizes_up_and_down(server: Callable[[str], tuple[str, int]], path: Path) -> None:
    """Sizes around segment and buffer limits, many requests on one connection."""
    address = server("http_upload")
    with http_connection(path.client_ns, address) as connection:
        for size in SIZES:
            assert upload_matches(connection, size), size
            assert download_matches(connection, size), size


def test_100_megabytes_up(server: Callable[[str], tuple[str, int]], path: Path) -> None:
    """The server receives."""
    with http_connection(path.client_ns, server("http_upload")) as connection:
        assert upload_matches(connection, MEGABYTES_100)


def test_100_megabytes_down(server: Callable[[str], tuple[str, int]], path: Path) -> None:
    """The server sends."""
    with http_connection(path.client_ns, server("http_upload")) as connection:
        assert download_matches(connection, MEGABYTES_100)


@pytest.mark.parametrize("name", ["selectors_echo", "threading_echo", "asyncio_streams_echo"])
def test_both_directions_at_once(server: Callable[[str], tuple[str, int]], path: Path, name: str) -> None:
    """Backpressure in both directions: the echo of more than all buffers together."""
    address = server(name)
    with path.client_ns.connect(address) as sock:
        assert echo_matches(sock, bytes(range(256)) * 40_000)


def test_our_side_connects_out(programs: Programs, path: Path, stack: str) -> None:
    """http.client on our stack, up and down 10 MB, to a stock server."""
    programs.example("http_upload", ns=path.server_ns, host=path.host, port=PORT)
    argv = [str(EXAMPLES / "client_http.py"), "--host", path.host, "--port", str(PORT), "--bytes", "10000000"]
    client = programs.start(argv, stack=stack, ns=path.client_ns, options=path.options if stack == OURS else ())
    assert client.wait(50) == 0, client.stderr()
    assert client.stdout().count("10000000 bytes") == 2
