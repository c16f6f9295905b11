"""Sockets for another process: listeners and fresh ones arrive, as the kernel's; connections are refused."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest

from shim.conftest import OURS, Run, Sockets

only_ours = pytest.mark.parametrize("stack", [OURS], indirect=True)  # the kernel can hand over anything


@only_ours
def test_a_connection_is_refused(sockets: Sockets) -> None:
    """By every way, with an error that says why."""
    from multiprocessing import reduction

    made, _ = sockets.pair()
    near, _far = (sockets.keep(end) for end in socket.socketpair())
    ways = [
        lambda: subprocess.run([sys.executable, "-c", ""], pass_fds=[made.fileno()], check=False),
        lambda: subprocess.run([sys.executable, "-c", ""], stdin=made, check=False),
        lambda: reduction.sendfds(near, [made.fileno()]),
        lambda: socket.send_fds(near, [b"x"], [made.fileno()]),
        lambda: reduction.DupFd(made.fileno()),
        lambda: reduction.ForkingPickler.dumps(made),
    ]
    for number, way in enumerate(ways):
        with pytest.raises(OSError, match="mtcp_patch") as caught:
            way()
        assert caught.value.errno == errno.EOPNOTSUPP, number
    made.sendall(b"still ours")


@only_ours
def test_a_listener_that_has_served_is_refused(sockets: Sockets) -> None:
    """The kernel would reset the connections of ours that it does not know."""
    listener = sockets.listener()
    client = sockets.tcp()
    client.connect(listener.getsockname())
    server = sockets.keep(listener.accept()[0])
    with pytest.raises(OSError, match="has accepted connections") as caught:
        subprocess.run([sys.executable, "-c", ""], pass_fds=[listener.fileno()], check=False)
    assert caught.value.errno == errno.EOPNOTSUPP
    server.sendall(b"x")
    assert client.recv(1) == b"x"


CHILD = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
listener.settimeout(20)
peer, _ = listener.accept()
peer.settimeout(20)
peer.sendall(b"child " + peer.recv(100))
peer.close()
"""

# By pass_fds; by inheritance with fork_exec (a preexec_fn keeps subprocess from posix_spawn); and with posix_spawn.
WAYS = {
    "pass_fds": "pass_fds=[listener.fileno()]",
    "inherited": "close_fds=False, preexec_fn=lambda: None",
    "spawned": "close_fds=False",
}


@pytest.mark.parametrize("stack", ["kernel", OURS])
@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS.keys())
def test_a_listener_arrives_by_exec(run_python: Run, stack: str, words: str) -> None:
    """The child knows it by the number that the parent told it; both have a socket that blocks."""
    run_python(
        f"""
        import os, socket, subprocess, sys
        if {stack == OURS}:
            os.environ["PYTHONPATH"] = os.path.dirname(mtcp_patch.__file__) + "/bootstrap"
            os.environ["MTCP_PATCH_DEVICE"] = "memory"
        listener = socket.create_server(("127.0.0.1", 0))
        assert (listener.fileno() >= 2**30) == {stack == OURS}
        listener.set_inheritable(True)
        child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(listener.fileno())], {words})
        with socket.create_connection(listener.getsockname(), 20) as client:
            client.sendall(b"hears")
            assert client.recv(100) == b"child hears"
        assert child.wait(20) == 0
        assert "MTCP_PATCH_INHERITED" not in os.environ
        """,
        stack,
    )


EXECS = {
    "execv": "os.execv(sys.executable, argv)",
    "execve": "os.execve(sys.executable, argv, os.environ.copy())",
    "execvp": "os.execvp(sys.executable, argv)",
    "a failed one before": "os.execv(sys.executable, argv)",
}


@pytest.mark.parametrize("stack", ["kernel", OURS])
@pytest.mark.parametrize("way", EXECS)
def test_a_listener_goes_on_in_the_program_after_exec(run_python: Run, stack: str, way: str) -> None:
    """As gunicorn replaces itself: the number is told to the next program by the one before."""
    run_python(
        f"""
        import os, socket, sys
        if {stack == OURS}:
            os.environ["PYTHONPATH"] = os.path.dirname(mtcp_patch.__file__) + "/bootstrap"
            os.environ["MTCP_PATCH_DEVICE"] = "memory"
        listener = socket.create_server(("127.0.0.1", 0))
        assert (listener.fileno() >= 2**30) == {stack == OURS}
        listener.set_inheritable(True)
        argv = [sys.executable, "-c", {CHILD!r}, str(listener.fileno())]
        if {way == "a failed one before"}:
            try:
                os.execv("/nonexistent", ["x"])
            except FileNotFoundError:
                pass
            assert "MTCP_PATCH_INHERITED" not in os.environ
        if (child := os.fork()) == 0:
            {EXECS[way]}
        with socket.create_connection(listener.getsockname(), 20) as client:
            client.sendall(b"hears")
            assert client.recv(100) == b"child hears"
        assert os.waitpid(child, 0)[1] == 0
        """,
        stack,
    )


@pytest.mark.parametrize("stack", ["kernel", OURS])
def test_a_fresh_socket_arrives_by_pickle_and_scm_rights(run_python: Run, stack: str) -> None:
    """Bound, not listening, to a process that multiprocessing starts; and a listener by send_fds."""
    run_python(
        f"""
        import multiprocessing, os, socket
        if {stack == OURS}:
            os.environ["PYTHONPATH"] = os.path.dirname(mtcp_patch.__file__) + "/bootstrap"
            os.environ["MTCP_PATCH_DEVICE"] = "memory"

        def serve(sock, ready):
            assert sock.gettimeout() is None
            sock.listen()
            ready.set()
            peer, _ = sock.accept()
            peer.sendall(b"child")
            peer.close()

        if __name__ == "__main__":
            for method in ("spawn", "forkserver"):
                context = multiprocessing.get_context(method)
                bound = socket.socket()
                bound.bind(("127.0.0.1", 0))
                ready = context.Event()
                child = context.Process(target=serve, args=(bound, ready))
                child.start()
                assert ready.wait(20)
                with socket.create_connection(bound.getsockname(), 20) as client:
                    assert client.recv(100) == b"child"
                child.join(20)
                assert child.exitcode == 0

            near, far = socket.socketpair()
            listener = socket.create_server(("127.0.0.1", 0))
            socket.send_fds(near, [b"x"], [listener.fileno()])
            _, (number,), _, _ = socket.recv_fds(far, 1, 1)
            assert number < 2**30
            with socket.socket(fileno=number) as other:
                assert other.getsockname() == listener.getsockname()
        """,
        stack,
        timeout_s=50,
    )


@only_ours
def test_a_socket_moved_to_the_kernel_stays_the_same_object(sockets: Sockets) -> None:
    """What uvloop is given: same object, timeout, name and listening state; a real descriptor."""
    from mtcp_patch.processes_shim import move_to_kernel

    listener = sockets.listener()
    listener.settimeout(7)
    name = listener.getsockname()
    move_to_kernel(listener)
    assert 0 <= listener.fileno() < 2**30
    assert (listener.getsockname(), listener.gettimeout()) == (name, 7)
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    client, _ = sockets.pair()
    with pytest.raises(OSError, match="its own system calls"):
        move_to_kernel(client)
    assert client.fileno() >= 2**30
