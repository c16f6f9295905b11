"""A program that closes every descriptor it does not know, as daemons do, and goes on: the runtime's own stay open.

The runtime has an eventfd to wake threads, a pipe that CPython's signal handler writes to, kernel sockets that reserve
ports. Closed, the stack would hang; with the pipe's number given to a file of the program, signals would write into it.
"""

from __future__ import annotations

import pytest

from .conftest import KERNEL, OURS, Run

# What daemons do, each leaving alone what is in `kept`.
WAYS = {
    "closerange": """
low = 3
for fd in sorted(fd for fd in kept if fd < most):
    os.closerange(low, fd)
    low = fd + 1
os.closerange(low, most)
""",
    "close": """
for fd in reversed(range(3, most)):
    if fd not in kept:
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == errno.EBADF
""",
}

SERVE = """
import errno, os, resource, select, signal, socket, tempfile, threading, time
most = 20_000
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

def served():
    client = socket.create_connection(listener.getsockname(), timeout=10)
    server, _ = listener.accept()
    with client, server:
        client.sendall(b"ping")
        assert server.recv(10) == b"ping"
        waiter = threading.Thread(target=lambda: (time.sleep(0.01), server.sendall(b"pong")))
        waiter.start()
        assert select.select([client], [], [], 10)[0] == [client]
        assert client.recv(10) == b"pong"
        waiter.join()

rung = 0
def ring(*_):
    global rung
    rung += 1
signal.signal(signal.SIGALRM, ring)
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(10)
served()
kept = {{listener.fileno()}}
"""

SIGNALS = """
# They take the numbers that became free.
files = [tempfile.TemporaryFile() for _ in range({files})]
listener.settimeout(0.001)
for i in range(100):
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        listener.accept()
    except TimeoutError:
        pass
    while rung <= i:
        time.sleep(0.001)
assert [os.fstat(file.fileno()).st_size for file in files] == [0] * len(files)
listener.settimeout(10)
"""


@pytest.mark.parametrize("limit", [60, 8192])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stack", [KERNEL, OURS])
def test_a_program_that_closes_what_it_does_not_know_goes_on(run_python: Run, stack: str, way: str, limit: int) -> None:
    """Connections are served, signals end sleeps, and none of them writes into a file that was opened after."""
    serve, signals = SERVE.format(limit=limit), SIGNALS.format(files=20)
    run_python(f"{serve}{WAYS[way]}{signals}served()\n", stack, timeout_s=60)


@pytest.mark.parametrize("stack", [KERNEL, OURS])
def test_a_daemon_serves_the_listener_that_it_kept(run_python: Run, stack: str) -> None:
    """Two forks, a session of its own and everything closed, as daemon(7) has it."""
    fork = """
read, write = os.pipe()
child = os.fork()
if child:
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    # Ends when the daemon does.
    assert os.read(read, 10) == b"done"
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
kept.add(write)
"""
    run_python(
        f"{SERVE.format(limit=8192)}{fork}{WAYS['closerange']}{SIGNALS.format(files=20)}"
        "served()\nos.write(write, b'done')\n",
        stack,
        timeout_s=60,
    )


def test_our_descriptors_are_not_there_for_close_and_dup2(run_python: Run) -> None:
    """And they lie above those that the program counts to."""
    run_python(
        """
import errno, os, resource, socket
from mtcp_patch.stack import _native
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
# No connection: its reserved port would be given back at some moment.
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(0.001)
try:
    listener.accept()
except TimeoutError:
    pass
ours = _native.runtime_fds(0, 20_000)
assert len(ours) > 3 and min(ours) >= 4096, ours
for fd in ours:
    for close in (os.close, socket.close):
        try:
            close(fd)
        except OSError as error:
            assert error.errno == errno.EBADF
        else:
            raise AssertionError(fd)
    try:
        os.dup2(0, fd)
    except OSError as error:
        assert error.errno == errno.EBUSY
    else:
        raise AssertionError(fd)
    os.fstat(fd)
high = os.dup2(0, 7000)
assert high == 7000
os.close(high)
listener.close()
""",
        OURS,
    )


def test_a_wakeup_pipe_that_system_calls_closed_is_replaced(run_python: Run) -> None:
    """Nobody can hold such a close up; the program's files that get the numbers are neither read nor written to."""
    run_python(
        SERVE.format(limit=8192)
        + """
import ctypes, sys
listener.settimeout(0.001)
def sleep_once():
    try:
        listener.accept()
    except TimeoutError:
        pass
def pipes():
    from mtcp_patch.stack import _native
    return [fd for fd in _native.runtime_fds(0, most) if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")]
sleep_once()
ours = pipes()
assert len(ours) == 2, ours
libc = ctypes.CDLL(None)
files = []
for fd in ours:
    file = tempfile.TemporaryFile()
    file.write(b"theirs")
    file.flush()
    file.seek(0)
    libc.dup2(file.fileno(), fd)
    files.append(file)
for i in range(100):
    sleep_once()
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    sleep_once()
    while rung <= i:
        time.sleep(0.001)
assert len(pipes()) == 2 and not set(pipes()) & set(ours)
for file, fd in zip(files, ours):
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    assert os.read(fd, 100) == b"theirs"
    os.close(fd)
listener.settimeout(10)
served()
""",
        OURS,
    )
