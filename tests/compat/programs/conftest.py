"""Fixtures of the probes: each has a namespace of its own, and a directory."""

from __future__ import annotations

import os
import pathlib

import pytest
from support.netns import Netns
from support.probes import Probe, make_certificate
from support.programs import Programs


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
def world(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory that servers which give up root can reach."""
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(directory, 0o755)
    return tmp_path
