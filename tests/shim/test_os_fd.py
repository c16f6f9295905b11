"""``os`` and ``fcntl`` on a socket's descriptor: the same body on both stacks, and what ours refuses."""

from __future__ import annotations

import array
import errno
import fcntl
import inspect
import os
import pickle
import socket
import stat
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import OURS, Sockets, readable

BIG = bytes(range(256)) * 4096 * 4  # more than any socket buffer takes at once without a reader


@pytest.fixture
def kernel_fd() -> Iterator[int]:
    """A descriptor of the kernel's."""
    number = os.open(os.devnull, os.O_RDWR)
    yield number
    os.close(number)


def closed_number(sockets: Sockets) -> int:
    """The number of a socket that is closed."""
    made = sockets.tcp()
    number = made.fileno()
    made.close()
    return number


def drain(sock: socket.socket, size: int) -> bytes:
    """Reads exactly ``size`` bytes."""
    data = bytearray()
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"end of stream after {len(data)} of {size} bytes"
        data += part
    return bytes(data)


# --- reading and writing ---------------------------------------------------------------------------------------------


def test_read_and_write(sockets: Sockets) -> None:
    client, server = sockets.pair()
    assert os.write(client.fileno(), b"hello") == 5
    readable(server)
    assert os.read(server.fileno(), 3) == b"hel"
    assert os.read(server.fileno(), 100) == b"lo"
    assert os.write(client.fileno(), memoryview(b"abc")) == 3
    assert os.write(client.fileno(), b"") == 0
    assert drain(server, 3) == b"abc"
    client.close()
    readable(server)
    assert os.read(server.fileno(), 10) == b""


def test_read_of_a_blocking_description_waits(sockets: Sockets) -> None:
    client, server = sockets.pair()
    os.set_blocking(server.fileno(), True)
    thread = threading.Timer(0.05, client.send, [b"x"])
    thread.start()
    assert os.read(server.fileno(), 10) == b"x"
    thread.join()


def test_write_to_a_blocking_description_takes_everything(sockets: Sockets) -> None:
    client, server = sockets.pair()
    os.set_blocking(client.fileno(), True)
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(drain(server, len(BIG))))
    thread.start()
    assert os.write(client.fileno(), BIG) == len(BIG)
    thread.join()
    assert received == [BIG]


def test_a_non_blocking_description_does_not_wait(sockets: Sockets) -> None:
    client, server = sockets.pair()
    os.set_blocking(server.fileno(), False)
    os.set_blocking(client.fileno(), False)
    with pytest.raises(BlockingIOError):
        os.read(server.fileno(), 10)
    written = b""
    with pytest.raises(BlockingIOError):
        while True:
            written += BIG[: os.write(client.fileno(), BIG)]
    assert drain(server, len(written)) == written


def test_readv_and_writev(sockets: Sockets) -> None:
    client, server = sockets.pair()
    assert os.writev(client.fileno(), [b"ab", bytearray(b"cde"), memoryview(b"f")]) == 6
    readable(server)
    first, second = bytearray(4), bytearray(4)
    assert os.readv(server.fileno(), [first, second]) == 6
    assert (bytes(first), bytes(second)) == (b"abcd", b"ef\0\0")


def test_argument_errors_are_cpythons(sockets: Sockets) -> None:
    client, server = sockets.pair()
    os.set_blocking(server.fileno(), False)
    with pytest.raises(OSError, match="Invalid argument"):
        os.read(server.fileno(), -1)
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        os.write(client.fileno(), "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        os.read(server.fileno())  # type: ignore[call-arg]


# --- closing and duplicating -----------------------------------------------------------------------------------------


def test_close(sockets: Sockets) -> None:
    client, server = sockets.pair()
    os.close(client.detach())
    readable(server)
    assert server.recv(10) == b""
    number = server.detach()
    os.close(fd=number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(number)


@pytest.mark.parametrize(
    "call",
    [
        lambda fd: os.read(fd, 1),
        lambda fd: os.write(fd, b"x"),
        os.close,
        os.dup,
        os.fstat,
        os.get_blocking,
        lambda fd: os.set_blocking(fd, True),
        os.get_inheritable,
        lambda fd: os.set_inheritable(fd, True),
        lambda fd: os.sendfile(fd, 0, 0, 1),
        lambda fd: os.lseek(fd, 0, 0),
        lambda fd: os.dup2(fd, fd),
        lambda fd: os.dup2(fd, fd + 1),
        lambda fd: fcntl.fcntl(fd, fcntl.F_GETFL),
        lambda fd: fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"),
    ],
)
def test_a_closed_descriptor_is_ebadf(sockets: Sockets, call: Callable[[int], object]) -> None:
    with pytest.raises(OSError) as caught:
        call(closed_number(sockets))
    assert caught.value.errno == errno.EBADF


def test_dup_is_the_same_connection(sockets: Sockets) -> None:
    client, server = sockets.pair()
    number = os.dup(client.fileno())
    client.close()
    os.write(number, b"still open")
    assert drain(server, 10) == b"still open"
    os.close(number)
    readable(server)
    assert server.recv(10) == b""


def test_dup2_onto_an_open_number_closes_what_it_was(sockets: Sockets) -> None:
    client, server = sockets.pair()
    other, other_server = sockets.pair()
    number = other.detach()
    assert os.dup2(client.fileno(), number) == number
    readable(other_server)
    assert other_server.recv(10) == b""
    assert os.get_inheritable(number)
    client.close()
    os.write(number, b"still open")
    assert drain(server, 10) == b"still open"
    os.close(number)
    readable(server)
    assert server.recv(10) == b""


def test_dup2_onto_a_closed_number(sockets: Sockets) -> None:
    client, server = sockets.pair()
    number = os.dup(client.fileno())
    os.close(number)
    assert os.dup2(client.fileno(), number, inheritable=False) == number
    assert not os.get_inheritable(number)
    with sockets.tcp() as another:
        assert another.fileno() != number
    os.write(number, b"here")
    assert drain(server, 4) == b"here"
    os.close(number)


def test_dup2_of_two_numbers_of_one_connection(sockets: Sockets) -> None:
    client, server = sockets.pair()
    number = os.dup(client.fileno())
    assert os.dup2(client.fileno(), number) == number
    client.close()
    os.write(number, b"here")
    assert drain(server, 4) == b"here"
    os.close(number)


def test_closerange(sockets: Sockets) -> None:
    client, server = sockets.pair()
    number = client.detach()
    os.closerange(number, number + 1)
    readable(server)
    assert server.recv(10) == b""


# --- flags -----------------------------------------------------------------------------------------------------------


def test_blocking_flag_is_seen_everywhere(sockets: Sockets) -> None:
    client, _server = sockets.pair()
    fd = client.fileno()
    for blocking in (False, True):
        os.set_blocking(fd, blocking)
        assert os.get_blocking(fd) is blocking
        assert bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK) is not blocking
    assert fcntl.fcntl(client, fcntl.F_SETFL, fcntl.fcntl(client, fcntl.F_GETFL) | os.O_NONBLOCK) == 0
    assert os.get_blocking(fd) is False
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def test_inheritable_flag(sockets: Sockets) -> None:
    made = sockets.tcp()
    assert os.get_inheritable(made.fileno()) is False
    assert fcntl.fcntl(made, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    os.set_inheritable(made.fileno(), True)
    assert os.get_inheritable(made.fileno()) is True and made.get_inheritable() is True
    assert fcntl.fcntl(made, fcntl.F_GETFD) == 0
    assert fcntl.fcntl(made, fcntl.F_SETFD, fcntl.FD_CLOEXEC) == 0
    assert os.get_inheritable(made.fileno()) is False


def test_inheritable_flag_does_not_stay_with_the_number(sockets: Sockets) -> None:
    made = sockets.tcp()
    made.set_inheritable(True)
    number = made.fileno()
    made.close()
    again = sockets.tcp()
    assert again.fileno() == number
    assert again.get_inheritable() is False


def test_fcntl_duplicates(sockets: Sockets) -> None:
    client, server = sockets.pair()
    for command, flag in ((fcntl.F_DUPFD, 0), (fcntl.F_DUPFD_CLOEXEC, fcntl.FD_CLOEXEC)):
        number = fcntl.fcntl(client, command, 0)
        assert fcntl.fcntl(number, fcntl.F_GETFD) == flag
        os.write(number, b"x")
        assert drain(server, 1) == b"x"
        os.close(number)


def test_fstat_and_isatty(sockets: Sockets) -> None:
    made = sockets.tcp()
    assert stat.S_ISSOCK(os.fstat(made.fileno()).st_mode)
    assert os.isatty(made.fileno()) is False
    with pytest.raises(OSError) as caught:
        os.lseek(made.fileno(), 0, os.SEEK_SET)
    assert caught.value.errno == errno.ESPIPE


@pytest.mark.parametrize("form", ["bytes", "bytearray", "array", "not mutated"])
def test_fionread(sockets: Sockets, form: str) -> None:
    client, server = sockets.pair()
    client.sendall(b"12345")
    readable(server)
    while len(server.recv(5, socket.MSG_PEEK)) < 5:
        readable(server)
    if form == "bytes":
        result = fcntl.ioctl(server, termios.FIONREAD, b"\0\0\0\0")
    elif form == "bytearray":
        result = bytearray(4)  # type: ignore[assignment]
        assert fcntl.ioctl(server, termios.FIONREAD, result) == 0
    elif form == "array":
        numbers = array.array("i", [0])
        assert fcntl.ioctl(server.fileno(), termios.FIONREAD, numbers) == 0
        result = numbers.tobytes()
    else:
        result = fcntl.ioctl(server, termios.FIONREAD, bytearray(4), False)
    assert struct.unpack("i", result) == (5,)


def test_ioctl_of_a_terminal_is_enotty(sockets: Sockets) -> None:
    made = sockets.tcp()
    with pytest.raises(OSError) as caught:
        fcntl.ioctl(made, termios.TIOCGWINSZ, b"\0" * 8)
    assert caught.value.errno == errno.ENOTTY


def test_ioctl_about_an_interface(sockets: Sockets) -> None:
    siocgifindex, request = 0x8933, struct.pack("16si12x", b"lo", 0)
    answer = fcntl.ioctl(sockets.tcp(), siocgifindex, request)
    assert struct.unpack("16si12x", answer)[1] == socket.if_nametoindex("lo")


# --- sendfile --------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file of ``BIG``, open for reading."""
    path = tmp_path / "big"
    path.write_bytes(BIG)
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


def test_sendfile_with_an_offset_leaves_the_files_position(sockets: Sockets, file: int) -> None:
    client, server = sockets.pair()
    assert os.sendfile(client.fileno(), file, 5, 10) == 10
    assert os.sendfile(out_fd=client.fileno(), in_fd=file, offset=15, count=1) == 1
    assert drain(server, 11) == BIG[5:16]
    assert os.lseek(file, 0, os.SEEK_CUR) == 0
    assert os.sendfile(client.fileno(), file, len(BIG), 10) == 0


def test_sendfile_without_an_offset_moves_the_files_position(sockets: Sockets, file: int) -> None:
    client, server = sockets.pair()
    assert os.sendfile(client.fileno(), file, None, 7) == 7
    assert os.lseek(file, 0, os.SEEK_CUR) == 7
    assert drain(server, 7) == BIG[:7]


def test_sendfile_in_a_loop_moves_the_whole_file(sockets: Sockets, file: int) -> None:
    client, server = sockets.pair()
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(drain(server, len(BIG))))
    thread.start()
    os.set_blocking(client.fileno(), True)
    offset = 0
    while sent := os.sendfile(client.fileno(), file, offset, len(BIG)):
        offset += sent
    assert offset == len(BIG)
    thread.join()
    assert received == [BIG]


def test_sendfile_to_a_full_socket(sockets: Sockets, file: int) -> None:
    client, _server = sockets.pair()
    os.set_blocking(client.fileno(), False)
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            os.sendfile(client.fileno(), file, 0, len(BIG))


def test_socket_sendfile(sockets: Sockets, tmp_path: Path) -> None:
    client, server = sockets.pair()
    path = tmp_path / "big"
    path.write_bytes(BIG)
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(drain(server, len(BIG) - 3)))
    thread.start()
    with path.open("rb") as opened:
        assert client.sendfile(opened, offset=3) == len(BIG) - 3
    thread.join()
    assert received == [BIG[3:]]


# --- what cannot work says so ----------------------------------------------------------------------------------------


only_ours = pytest.mark.parametrize("stack", [OURS], indirect=True)  # the kernel can do it


@only_ours
def test_dup2_is_refused(sockets: Sockets, kernel_fd: int) -> None:
    fd = sockets.tcp().fileno()
    for pair in ((fd, kernel_fd), (kernel_fd, fd)):
        with pytest.raises(OSError, match="mtcp_patch"):
            os.dup2(*pair)
    assert os.dup2(fd, fd) == fd


@only_ours
def test_fdopen_is_refused(sockets: Sockets) -> None:
    with pytest.raises(OSError, match="makefile"):
        os.fdopen(sockets.tcp().fileno())


# --- kernel descriptors are left alone -------------------------------------------------------------------------------


def test_kernel_descriptors_go_to_the_originals(stack: str, kernel_fd: int, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    assert os.write(write_end, b"abc") == 3
    assert os.read(read_end, 1 << 30) == b"abc"
    other = os.dup2(write_end, kernel_fd)
    assert other == kernel_fd
    for number in (read_end, write_end):
        os.close(number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.read(number, 1)
    with os.fdopen(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR), "w") as opened:
        opened.write("x")
        assert os.fstat(opened.fileno()).st_mode & stat.S_IFREG
    with pytest.raises(OverflowError):
        os.read(1 << 80, 1)
    with pytest.raises(TypeError):
        os.read("x", 1)  # type: ignore[arg-type]


def test_names_signatures_and_pickles_stay(stack: str) -> None:
    for name in ("read", "write", "close", "dup", "fstat", "sendfile", "set_blocking"):
        function = getattr(os, name)
        assert function.__name__ == name and function.__module__ == "posix"
        assert function.__doc__
        assert pickle.loads(pickle.dumps(function)) is function
    assert str(inspect.signature(os.read)) == "(fd, length, /)"
    assert str(inspect.signature(os.close)) == "(fd)"
    assert str(inspect.signature(fcntl.fcntl)) == "(fd, cmd, arg=0, /)"


def test_multiprocessing_connection_over_tcp(stack: str) -> None:
    from multiprocessing.connection import Client, Listener

    with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
        answers: list[Any] = []

        def serve() -> None:
            with listener.accept() as connection:
                connection.send(connection.recv()[::-1])

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(listener.address, authkey=b"key") as client:
            assert (client.fileno() >= 1 << 30) == (stack == OURS)
            client.send([1, 2, 3])
            assert client.poll(10)
            answers.append(client.recv())
        thread.join()
    assert answers == [[3, 2, 1]]


def test_everything_is_restored() -> None:
    import mtcp_patch

    names = ("read", "write", "close", "dup", "dup2", "fstat", "sendfile", "closerange", "fdopen")
    before = [getattr(os, name) for name in names]
    held = fcntl.fcntl, fcntl.ioctl, subprocess._fork_exec  # type: ignore[attr-defined]
    mtcp_patch.install(device=["memory"])
    try:
        assert all(getattr(os, name) is not old for name, old in zip(names, before, strict=True))
        assert mtcp_patch.original("os.read") is before[0]
    finally:
        mtcp_patch.uninstall()
    assert [getattr(os, name) for name in names] == before
    assert (fcntl.fcntl, fcntl.ioctl, subprocess._fork_exec) == held  # type: ignore[attr-defined]


def test_dup2_onto_any_free_number(sockets: Sockets, kernel_fd: int) -> None:
    """No thread of ours holds a number that is not open: the kernel's dup2 would fail with EBUSY."""
    sockets.listener()  # the runtime and its threads are there
    made = []
    try:
        for fd in range(3, 256):
            try:
                os.fstat(fd)
            except OSError:
                made.append(os.dup2(kernel_fd, fd))
    finally:
        for fd in made:
            os.close(fd)
    assert made
