"""A signal that comes just before a sleep ends it, and nothing that makes this so can be seen by the program."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from .conftest import OURS, Run, Sockets

# Each waits for ever: nobody sends.
WAITS = {
    "recv": "server.recv(1)",
    "accept": "listener.accept()",
    "readline": "server.makefile('rb').readline()",
    "select": "select.select([server], [], [])",
    "poll": "poll.poll()",
    "epoll": "epoll.poll()",
    "selectors": "selector.select()",
}

# A timer that is aimed at the way into the sleep. SIGALRM is lost when nothing comes of it; a second, late signal then
# ends the wait, so that the count is of losses, whatever the machine's load.
PROGRAM = """
import random, select, selectors, signal, socket, threading, time

class Rang(Exception): pass
class Lost(Exception): pass

def ring(number, frame):
    raise Rang
def late(number, frame):
    raise Lost

signal.signal(signal.SIGALRM, ring)
signal.signal(signal.SIGVTALRM, late)
main = threading.main_thread().ident
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
assert server.fileno() >= 2**30
poll = select.poll(); poll.register(server, select.POLLIN)
epoll = select.epoll(); epoll.register(server, select.EPOLLIN)
selector = selectors.DefaultSelector(); selector.register(server, 1)
tries, lost, state = 0, 0, {{"try": 0, "stop": False}}

def rescue():
    # One try for a whole second: its signal was lost.
    seen = -1
    while not state["stop"]:
        time.sleep(1)
        if seen == state["try"] and not state["stop"]:
            signal.pthread_kill(main, signal.SIGVTALRM)
        seen = state["try"]

helper = threading.Thread(target=rescue)
helper.start()
randomly = random.Random(7)
end = time.monotonic() + 0.8
while time.monotonic() < end or tries < 3000:
    tries += 1
    state["try"] = tries
    try:
        signal.setitimer(signal.ITIMER_REAL, randomly.uniform(2e-6, 90e-6))
        {wait}
    except Rang:
        pass
    except Lost:
        lost += 1
        if lost > 2:
            break
state["stop"] = True
helper.join()
assert lost == 0, f"lost {{lost}} of {{tries}}"
"""


@pytest.mark.parametrize("name", WAITS)
def test_no_signal_before_a_sleep_is_lost(run_python: Run, name: str) -> None:
    """Thousands of signals at the moment where the sleep begins; another thread is there to take them, too."""
    run_python(PROGRAM.format(wait=WAITS[name]), OURS, timeout_s=60)


def test_a_handler_runs_with_no_signal_held_back(run_python: Run) -> None:
    """A program that it starts would inherit the mask."""
    run_python(
        """
        import signal, socket
        masks = []
        signal.signal(signal.SIGALRM, lambda *_: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.002)
        for i in range(300):
            signal.setitimer(signal.ITIMER_REAL, 0.00001 * (i % 10 + 1))
            try:
                listener.accept()
            except TimeoutError:
                pass
        assert len(masks) > 100 and not any(masks), masks
        """,
        OURS,
    )


def _sleep_once(sockets: Sockets) -> None:
    listener = sockets.listener()
    listener.settimeout(0.001)
    with pytest.raises(TimeoutError):
        listener.accept()


def test_the_wakeup_fd_is_the_programs(sockets: Sockets) -> None:
    """set_wakeup_fd answers with what the program put there, and signals are written to it."""
    _sleep_once(sockets)
    read, write = socket.socketpair()
    with read, write:
        write.setblocking(False)
        assert signal.set_wakeup_fd(-1) == -1
        assert signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False) == -1
        _sleep_once(sockets)
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            read.settimeout(10)
            assert read.recv(16) == bytes([signal.SIGUSR1])
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert signal.set_wakeup_fd(-1) == write.fileno()
    assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(TypeError):
        signal.set_wakeup_fd()  # type: ignore[call-arg]
    with pytest.raises((ValueError, OSError)):
        signal.set_wakeup_fd(99999)


def test_a_forked_childs_signals_are_its_own(run_python: Run) -> None:
    """They neither wake the parent nor go missing in the child."""
    run_python(
        """
        import os, select, signal, socket, sys
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.001)
        try: listener.accept()
        except TimeoutError: pass
        signal.signal(signal.SIGUSR1, lambda *_: None)
        pipes = {fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")
                 and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:") and fd > 2}
        assert len(pipes) == 2, pipes
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        poll = select.poll()
        for fd in pipes:
            poll.register(fd, select.POLLIN)
        assert not poll.poll(0), "the child's signal is in the parent's pipe"
        """,
        OURS,
    )
