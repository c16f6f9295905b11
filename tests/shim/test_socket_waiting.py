"""Blocking calls on both stacks: what is waited for, what ends a wait, and that other threads run meanwhile.

No test asserts how long something took. A wait that must happen is seen by its effect: another thread ran, a handler
ran, a deadline passed.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from .conftest import Run, Sockets, readable

MIB = 1 << 20


class Thread:
    """A thread whose exception is raised again by join()."""

    def __init__(self, body: Callable[[], object]) -> None:
        self._body = body
        self._error: BaseException | None = None
        self.result: object = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._body()
        except BaseException as error:  # noqa: BLE001 (raised again in join)
            self._error = error

    def join(self) -> object:
        """The body's result, or its exception."""
        self._thread.join(30)
        assert not self._thread.is_alive(), "the thread hangs"
        if self._error is not None:
            raise self._error
        return self.result


def received(sock: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes."""
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(count - len(data), MIB))
        assert part, f"end of the stream after {len(data)} of {count} bytes"
        data += part
    return bytes(data)


def pattern(count: int) -> bytes:
    """Bytes in which a lost, doubled or moved piece shows."""
    return struct.pack(f">{count // 4}I", *range(count // 4))


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("method", ["recv", "recv_into", "recvfrom", "recvmsg", "recvmsg_into", "waitall"])
def test_receiving_waits_and_lets_other_threads_run(sockets: Sockets, method: str, timeout: float | None) -> None:
    client, server = sockets.pair()
    client.settimeout(timeout)
    buffer = bytearray(4)
    calls: dict[str, Callable[[], object]] = {
        "recv": lambda: client.recv(4),
        "recv_into": lambda: (client.recv_into(buffer), bytes(buffer))[1],
        "recvfrom": lambda: client.recvfrom(4)[0],
        "recvmsg": lambda: client.recvmsg(4)[0],
        "recvmsg_into": lambda: (client.recvmsg_into([buffer]), bytes(buffer))[1],
        "waitall": lambda: client.recv(4, socket.MSG_WAITALL),
    }
    waiting = Thread(calls[method])
    time.sleep(0.05)  # the thread is inside by now; if not, it still must get the data
    server.sendall(b"data")
    assert waiting.join() == b"data"


def test_accept_waits_and_lets_other_threads_run(sockets: Sockets) -> None:
    listener = sockets.listener()
    listener.settimeout(20)
    waiting = Thread(lambda: listener.accept())
    time.sleep(0.05)
    client = sockets.tcp()
    client.connect(listener.getsockname())
    accepted, address = waiting.join()  # type: ignore[misc]
    sockets.keep(accepted)
    assert address == client.getsockname()
    assert accepted.getpeername() == client.getsockname()
    assert accepted.gettimeout() is None


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sendall_waits_until_the_peer_reads(sockets: Sockets, timeout: float | None, host: str) -> None:
    client, server = sockets.pair(host)
    client.settimeout(timeout)
    data = pattern(32 * MIB)
    sending = Thread(lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
    assert received(server, len(data)) == data
    assert server.recv(1) == b""
    sending.join()


def test_a_blocking_send_takes_everything(sockets: Sockets) -> None:
    client, server = sockets.pair()
    client.settimeout(None)
    data = pattern(16 * MIB)
    sending = Thread(lambda: client.send(data))
    assert received(server, len(data)) == data
    assert sending.join() == len(data)


def test_a_blocking_sendmsg_takes_everything(sockets: Sockets) -> None:
    client, server = sockets.pair()
    client.settimeout(None)
    data = pattern(16 * MIB)
    pieces = [data[:10], b"", data[10 : 9 * MIB], data[9 * MIB :]]
    sending = Thread(lambda: client.sendmsg(pieces))
    assert received(server, len(data)) == data
    assert sending.join() == len(data)


def test_a_send_with_a_timeout_takes_what_fits(sockets: Sockets) -> None:
    client, _server = sockets.pair()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        while True:
            assert 0 < client.send(bytes(4 * MIB)) <= 4 * MIB


def test_a_non_blocking_send_says_eagain_when_full(sockets: Sockets) -> None:
    client, server = sockets.pair()
    client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError) as caught:
        while True:
            sent += client.send(bytes(MIB))
    assert caught.value.errno == errno.EAGAIN
    received(server, sent)
    client.settimeout(10)
    assert client.send(b"again") == 5


def test_sendall_times_out_for_the_whole(sockets: Sockets) -> None:
    client, _server = sockets.pair()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        client.sendall(bytes(64 * MIB))


@pytest.mark.parametrize("method", ["recv", "accept"])
def test_a_timeout_passes(sockets: Sockets, method: str) -> None:
    if method == "recv":
        sock, _peer = sockets.pair()
    else:
        sock = sockets.listener()
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError, match=r"^timed out$") as caught:
        sock.recv(1) if method == "recv" else sock.accept()
    assert caught.value.errno is None


def test_a_non_blocking_connect_is_in_progress_first(sockets: Sockets) -> None:
    listener = sockets.listener()
    client = sockets.tcp()
    client.setblocking(False)
    with pytest.raises(BlockingIOError) as caught:
        client.connect(listener.getsockname())
    assert caught.value.errno == errno.EINPROGRESS
    readable(listener)
    sockets.keep(listener.accept()[0])
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert client.getpeername() == listener.getsockname()


def test_a_non_blocking_connect_ex_is_in_progress_first(sockets: Sockets) -> None:
    listener = sockets.listener()
    client = sockets.tcp()
    client.setblocking(False)
    assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_a_refused_connection_is_reported(sockets: Sockets, timeout: float | None) -> None:
    listener = sockets.listener()
    address = listener.getsockname()
    listener.close()
    client = sockets.tcp()
    client.settimeout(timeout)
    with pytest.raises(ConnectionRefusedError):
        client.connect(address)


def test_what_was_sent_is_there_for_a_non_blocking_reader_at_once(sockets: Sockets) -> None:
    client, server = sockets.pair()
    server.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(100):
        client.send(b"ping")
        assert server.recv(10) == b"ping"


def test_a_connection_is_there_for_a_non_blocking_accept_at_once(sockets: Sockets) -> None:
    listener = sockets.listener()
    listener.setblocking(False)
    client = sockets.tcp()
    client.connect(listener.getsockname())
    accepted = sockets.keep(listener.accept()[0])
    assert accepted.getblocking()


def test_the_first_send_after_the_peers_close_succeeds(sockets: Sockets) -> None:
    client, server = sockets.pair()
    server.close()
    assert client.recv(1) == b""
    assert client.send(b"into the void") == 13
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(100):
            client.send(b"more")
            time.sleep(0.01)


def test_a_reset_is_reported(sockets: Sockets) -> None:
    client, server = sockets.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_data_before_the_end_is_not_lost(sockets: Sockets) -> None:
    client, server = sockets.pair()
    data = pattern(MIB)
    closing = Thread(lambda: (server.sendall(data), server.close()))
    assert received(client, len(data)) == data
    assert client.recv(1) == b""
    closing.join()


def test_many_threads_share_one_listener(sockets: Sockets) -> None:
    listener = sockets.listener(backlog=64)
    listener.settimeout(20)

    def serve() -> None:
        for _ in range(8):
            conn = listener.accept()[0]
            with conn:
                conn.settimeout(20)
                conn.sendall(conn.recv(100))

    def ask(number: int) -> bytes:
        with socket.create_connection(listener.getsockname(), timeout=20) as conn:
            conn.sendall(b"%d" % number)
            return conn.recv(100)

    servers = [Thread(serve) for _ in range(4)]
    clients = [Thread(lambda number=number: ask(number)) for number in range(32)]  # type: ignore[misc]
    assert [client.join() for client in clients] == [b"%d" % number for number in range(32)]
    for server in servers:
        server.join()


WAITS = {
    "recv": "a.recv(1)",
    "recv timeout": "a.settimeout(30); a.recv(1)",
    "recv_into": "a.recv_into(bytearray(1))",
    "waitall": "a.recv(100, socket.MSG_WAITALL)",
    "accept": "listener.accept()",
    "sendall": "a.sendall(bytes(1 << 30))",
    "select": "select.select([a], [], [])",
}

PROGRAM = """
import os, select, signal, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b = listener.accept()[0]
"""


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_wait(run_python: Run, stack: str, wait: str) -> None:
    done = run_python(
        PROGRAM
        + f"""
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {WAITS[wait]}
except KeyboardInterrupt:
    print("interrupted")
""",
        stack,
    )
    assert done.stdout == "interrupted\n"


def test_ctrl_c_ends_a_connect(run_python: Run, stack: str) -> None:
    # A full backlog leaves the kernel's SYN unanswered; ours may connect, refuse or wait.
    run_python(
        """
        import os, signal, socket, threading
        listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(0)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
        try:
            held = [socket.create_connection(listener.getsockname()) for _ in range(1000)]
            held[0].recv(1)
        except KeyboardInterrupt:
            print("interrupted")
        os._exit(0)
        """,
        stack,
    )


@pytest.mark.parametrize("wait", ["recv", "recv timeout", "recv_into", "accept", "sendall"])
def test_a_handler_runs_at_once_and_the_wait_goes_on(run_python: Run, stack: str, wait: str) -> None:
    done = run_python(
        PROGRAM
        + f"""
seen = []
def handler(number, frame):
    seen.append(number)
    print("handler", flush=True)
signal.signal(signal.SIGUSR1, handler)
main = threading.get_ident()
def other():
    for _ in range(3):
        count = len(seen)
        signal.pthread_kill(main, signal.SIGUSR1)
        while len(seen) == count:       # the handler runs while the main thread still waits
            time.sleep(0.01)
    b.sendall(b"x")
    c = socket.create_connection(listener.getsockname())
    b.settimeout(20)
    if {wait == "sendall"}:
        while b.recv(1 << 20):
            pass
threading.Thread(target=other, daemon=True).start()
{WAITS[wait].replace("1 << 30", "1 << 25")}
print("done", flush=True)
os._exit(0)
""",
        stack,
    )
    assert done.stdout == "handler\n" * 3 + "done\n"


def test_a_deadline_is_kept_over_signals(run_python: Run, stack: str) -> None:
    done = run_python(
        PROGRAM
        + """
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
a.settimeout(0.5)
try:
    a.recv(1)
except TimeoutError as error:
    print(error)
signal.setitimer(signal.ITIMER_REAL, 0)  # the interpreter's end gives SIGALRM its default action back
""",
        stack,
    )
    assert done.stdout == "timed out\n"


def test_a_handlers_exception_comes_out_of_the_wait(run_python: Run, stack: str) -> None:
    done = run_python(
        PROGRAM
        + """
def handler(*_):
    raise LookupError("from the handler")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    a.recv(1)
except LookupError as error:
    print(error)
""",
        stack,
    )
    assert done.stdout == "from the handler\n"


def test_closing_wakes_a_waiting_thread(run_python: Run) -> None:
    """Ours only: a kernel's recv() sleeps on after close() in another thread."""
    done = run_python(
        PROGRAM
        + """
def wait(call):
    try:
        call()
    except OSError as error:
        os.write(1, error.strerror.encode() + b"\\n")
threads = [threading.Thread(target=wait, args=(c,)) for c in (lambda: a.recv(1), listener.accept)]
for thread in threads:
    thread.start()
time.sleep(0.2)
a.close()
listener.close()
for thread in threads:
    thread.join(10)
    assert not thread.is_alive()
"""
    )
    assert done.stdout == "Bad file descriptor\n" * 2


@pytest.mark.parametrize("wait", ["recv", "accept", "select"])
def test_daemon_threads_that_wait_do_not_disturb_the_exit(run_python: Run, stack: str, wait: str) -> None:
    done = run_python(
        PROGRAM
        + f"""
for _ in range(4):
    threading.Thread(target=lambda: {WAITS[wait]}, daemon=True).start()
time.sleep(0.2)
print("end")
""",
        stack,
    )
    assert done.stdout == "end\n"
    assert "Traceback" not in done.stderr
    assert "fatal" not in done.stderr.lower()


BUSY = {
    "recv": "a.settimeout(0.001); a.recv(1)",
    "accept": "listener.settimeout(0.001); listener.accept()",
    "select": "select.select([a], [], [], 0.001)",
    "poll": "p = select.poll(); p.register(a, select.POLLIN); p.poll(1)",
    "epoll": "p = select.epoll(); p.register(a, select.EPOLLIN); p.poll(0.001)",
}


@pytest.mark.parametrize("wait", BUSY)
def test_daemon_threads_that_wake_during_the_exit_do_not_abort_it(run_python: Run, stack: str, wait: str) -> None:
    """The interpreter ends such a thread when it asks for the GIL again: no Rust frame may stop that by an abort."""
    done = run_python(
        PROGRAM
        + f"""
import atexit
def work():
    while True:
        try:
            {BUSY[wait]}
        except OSError:
            pass
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
class Slow:                             # keeps the interpreter in its last phase for a while
    def __del__(self, sleep=time.sleep):
        sleep(0.2)
sys.slow = Slow()
time.sleep(0.1)
print("end", flush=True)
""",
        stack,
    )
    assert done.stdout == "end\n"
    assert "fatal" not in done.stderr.lower()
    assert "panicked" not in done.stderr


def test_sigpipe_is_never_raised(run_python: Run) -> None:
    """Ours only: the kernel sends it, and CPython starts with it ignored."""
    run_python(
        PROGRAM
        + """
signal.signal(signal.SIGPIPE, lambda *_: os._exit(9))
b.close()
for _ in range(100):
    try:
        a.send(b"x")
    except OSError:
        break
    time.sleep(0.01)
else:
    raise SystemExit("no error after the peer's close")
"""
    )


def test_signals_reach_the_main_thread_only(run_python: Run) -> None:
    """The stack's own threads block every signal."""
    done = run_python(
        PROGRAM
        + """
print(sorted({"SigBlk all" if int(line.split()[1], 16) & 0x4002 == 0x4002 else "none"
    for task in os.listdir("/proc/self/task") if int(task) != os.getpid()
    for line in open(f"/proc/self/task/{task}/status") if line.startswith("SigBlk:")}))
"""
    )
    assert done.stdout in ("['SigBlk all']\n", "[]\n")
