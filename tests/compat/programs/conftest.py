"""Fixtures of the probes: each has a namespace of its own, and a directory."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from support.netns import Netns
from support.probes import PATIENCE_SECONDS, Probe, make_certificate
from support.programs import Programs

# Those that a run of all tests takes along, one of a kind. All of them: make matrix, or name the directory.
QUICK = {
    "test_asyncio_streams",
    "test_flask",
    "test_gevent_pywsgi",
    "test_http_server",
    "test_https_server",
    "test_multiprocessing_listener",
    "test_redis",
    "test_socketserver_forking",
    "test_uvicorn_auto_takes_asyncio",
    "test_xmlrpc_client",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the probes that are not quick to those who ask for them."""
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * PATIENCE_SECONDS))  # so that what waits says what it waited for
    if any(pathlib.Path(argument.partition("::")[0]).resolve().is_relative_to(here) for argument in config.args):
        return
    left = pytest.mark.skip(reason="one of the matrix's probes: make matrix, or pytest tests/compat/programs")
    for item in items:
        if here in item.path.parents and getattr(item, "originalname", "") not in QUICK:
            item.add_marker(left)


@pytest.fixture
def probe(
    netns: Netns, programs: Programs, stack: str, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> Probe:
    """See `Probe`; on the kernel and on our stack."""
    return Probe(netns, programs, stack, tmp_path, request)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with cert.pem and key.pem for localhost."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def world() -> Iterator[pathlib.Path]:
    """A directory that servers which give up root can reach: each run of pytest closes its own to them."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mtcpt-world-"))
    os.chmod(directory, 0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
