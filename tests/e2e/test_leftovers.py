"""What a program leaves behind: after SIGKILL nothing that the next start or --restore does not put right."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support import need
from support.netns import Netns
from support.programs import OURS, Program, Programs, clean_environment, wait_until

PORT = 8000
LO = ("--device", "xdp:lo", "--require")
SYSCTLS = ("net.ipv4.conf.lo.accept_local", "net.ipv4.conf.lo.route_localnet")


@pytest.fixture(autouse=True)
def hangup_at_its_default() -> Iterator[None]:
    """Under nohup it is ignored, and the programs started here would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def server(programs: Programs, netns: Netns) -> Program:
    """An echo server on our stack through lo, with one connection made and closed."""
    need.stack()
    need.xdp()
    started = programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=LO)
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    return started


def sysctls(ns: Netns) -> list[str]:
    """The settings that xdp:lo needs changed."""
    return [ns.sysctl(name) for name in SYSCTLS]


def xdp_attached(ns: Netns) -> bool:
    """Whether the kernel shows an XDP program on lo."""
    return "xdp" in ns.run("ip", "-d", "link", "show", "lo").stdout


def assert_port_free(ns: Netns) -> None:
    """A kernel socket may have the port, on every address."""
    with ns.new_socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::", PORT))
        sock.listen()


def test_the_program_is_seen_while_it_runs(server: Program, netns: Netns) -> None:
    """Otherwise the tests below would prove nothing."""
    assert xdp_attached(netns)
    assert sysctls(netns) == ["1", "1"]


def test_after_a_normal_end(server: Program, netns: Netns) -> None:
    """Everything is as before, at once."""
    assert server.stop(signal.SIGINT) == 0
    assert sysctls(netns) == ["0", "0"]
    wait_until(lambda: not xdp_attached(netns), "the XDP program is gone")
    assert_port_free(netns)
    assert not server.control_path().exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_left_at_its_default(server: Program, netns: Netns, number: int) -> None:
    """The stack says goodbye and gives everything back; the process still ends by the signal."""
    assert server.stop(number) == -number
    assert sysctls(netns) == ["0", "0"]
    wait_until(lambda: not xdp_attached(netns), "the XDP program is gone")
    assert_port_free(netns)
    assert not server.control_path().exists()


def test_after_sigkill(server: Program, netns: Netns) -> None:
    """No code of ours or of Python's runs; still no XDP program, no reserved port."""
    server.stop(signal.SIGKILL)
    wait_until(lambda: not xdp_attached(netns), "the XDP program is gone")
    assert_port_free(netns)


def test_restore_after_sigkill(server: Program, netns: Netns, programs: Programs) -> None:
    """``python -m mtcp_patch --restore`` puts the settings back and says which."""
    server.stop(signal.SIGKILL)
    command = [*netns.exec(), sys.executable, "-m", "mtcp_patch", "--restore"]
    environment = clean_environment(programs.runtime_dir)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert sysctls(netns) == ["0", "0"]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert again.returncode == 0, again.stderr


def test_next_start_restores_after_sigkill(server: Program, netns: Netns, programs: Programs) -> None:
    """The next program knows what the first one found, not what it left."""
    server.stop(signal.SIGKILL)
    following = programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=LO)
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    assert following.stop(signal.SIGINT) == 0
    assert sysctls(netns) == ["0", "0"]


def test_settings_of_the_administrator_stay(programs: Programs, netns: Netns) -> None:
    """What was 1 before us is 1 after us."""
    need.stack()
    need.xdp()
    netns.sysctl(SYSCTLS[0], "1")
    programs.example("selectors_echo", stack=OURS, ns=netns, port=PORT, options=LO).stop(signal.SIGINT)
    assert sysctls(netns) == ["1", "0"]


def test_restore_leaves_a_running_program_alone(server: Program, netns: Netns, programs: Programs) -> None:
    """--restore is for what the dead left; the living still need the settings."""
    command = [*netns.exec(), sys.executable, "-m", "mtcp_patch", "--restore"]
    environment = clean_environment(programs.runtime_dir)
    subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False)
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_peer_learns_of_the_end(programs: Programs, netns: Netns, stack: str, number: int) -> None:
    """A client that was connected is not left waiting: end of file or a reset."""
    options = LO if stack == OURS else ()
    program = programs.example("selectors_echo", stack=stack, ns=netns, port=PORT, options=options)
    with netns.connect(("127.0.0.1", PORT)) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        program.stop(number)

        def ended() -> bool:
            try:
                sock.sendall(b"y")  # after SIGKILL only this makes the kernel say that nobody is there
                return sock.recv(1) == b""
            except ConnectionError:
                return True

        wait_until(ended, "the client sees the end")
