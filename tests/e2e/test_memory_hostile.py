"""A hostile process at the other end of a ``memory`` link: nothing that it writes harms the server.

The stranger here speaks the protocol of ``host/src/peers`` by hand: rings in a memfd, HELLO, bells.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pathlib
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from support.programs import OURS, Program, Programs, wait_until

PORT = 8432
RING = 128 * 1024
WORDS = 4096
SIZE = WORDS + 2 * RING
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# Where the words of the ring that the stranger fills are, and its frames; then of the one that it empties.
PRODUCER, TO_SERVER = 0, WORDS
CONSUMER, ASLEEP = 256 + 128, 256 + 132
SKIP = 0xFFFFFFFF


def hello(bytes_of_a_ring: int = RING) -> bytes:
    """The first message."""
    return b"mtcpmem\x01" + struct.pack("<I", bytes_of_a_ring)


def memory(size: int = SIZE, seals: int = SEALS) -> int:
    """A memfd for the rings."""
    fd = os.memfd_create("stranger", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.fixture
def server(programs: Programs) -> Program:
    """An echo server that has nothing but memory."""
    return programs.example("selectors_echo", stack=OURS, port=PORT, options=("--device", "memory"))


def call(programs: Programs, server: Program) -> socket.socket:
    """Connects to the server's rendezvous socket."""
    (path,) = pathlib.Path(programs.runtime_dir).glob(f"net-*/{server.pid}.*")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(5)
    sock.connect(str(path))
    return sock


def is_let_in(sock: socket.socket) -> bool:
    """Whether WELCOME comes, or the end."""
    try:
        answer = sock.recv(100)
    except ConnectionResetError:
        answer = b""
    assert answer in (b"W", b"")
    return answer == b"W"


def still_serves(programs: Programs) -> None:
    """A patched client gets its echo by memory."""
    code = f"""
import socket
with socket.create_connection(("127.0.0.1", {PORT}), timeout=10) as sock:
    sock.sendall(b"x" * 1000)
    assert len(sock.recv(1000, socket.MSG_WAITALL)) == 1000
"""
    client = programs.start(["-c", code], stack=OURS, options=("--device", "memory"))
    assert client.wait(20) == 0, client.stderr()


class Stranger:
    """A link whose rings are written by hand."""

    def __init__(self, programs: Programs, server: Program) -> None:
        self.sock = call(programs, server)
        fd = memory()
        socket.send_fds(self.sock, [hello()], [fd])
        assert is_let_in(self.sock)
        self.map = mmap.mmap(fd, SIZE)
        os.close(fd)

    def word(self, at: int, value: int) -> None:
        """Writes one of the rings' words."""
        self.map[at : at + 4] = struct.pack("<I", value & 0xFFFFFFFF)

    def frame(self, at: int, length: int, content: bytes = b"") -> None:
        """Writes a frame with a length that need not be its own."""
        content = struct.pack("<Q", length) + content
        self.map[TO_SERVER + at : TO_SERVER + at + len(content)] = content[: RING - at]

    def ring(self) -> None:
        """Wakes the server."""
        self.sock.send(b"B")

    def is_dropped(self) -> bool:
        """Whether the server has ended the link; its own bells are passed over."""
        try:
            while answer := self.sock.recv(100):
                assert answer == b"B"
        except TimeoutError:
            return False
        except ConnectionResetError:
            pass
        return True


@pytest.fixture
def stranger(programs: Programs, server: Program) -> Iterator[Stranger]:
    """One that was let in."""
    made = Stranger(programs, server)
    yield made
    made.sock.close()


@pytest.mark.parametrize(
    ("message", "size", "seals", "copies"),
    [
        (hello(), SIZE, SEALS, 0),
        (hello(), SIZE, SEALS, 2),
        (hello(), SIZE, 0, 1),
        (hello(), SIZE, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL, 1),
        (hello(), SIZE - 4096, SEALS, 1),
        (hello(), SIZE + 4096, SEALS, 1),
        (hello(0), WORDS, SEALS, 1),
        (hello(RING - 1), SIZE, SEALS, 1),
        (hello(1 << 31), SIZE, SEALS, 1),
        (hello(4096), WORDS + 2 * 4096, SEALS, 1),
        (hello() + b"x", SIZE, SEALS, 1),
        (hello()[:-1], SIZE, SEALS, 1),
        (b"W", SIZE, SEALS, 0),
        (b"B", SIZE, SEALS, 0),
        (b"x" * 4000, SIZE, SEALS, 1),
    ],
)
def test_memory_that_cannot_be_trusted_is_refused(
    programs: Programs, server: Program, message: bytes, size: int, seals: int, copies: int
) -> None:
    """Without the seals it could be taken away under the server, which a SIGBUS would end."""
    sock = call(programs, server)
    fd = memory(size, seals)
    socket.send_fds(sock, [message], [fd] * copies)
    assert not is_let_in(sock)
    still_serves(programs)


def test_a_descriptor_that_is_no_memory_is_refused(programs: Programs, server: Program) -> None:
    """A pipe, whose size is 0 and which has no seals."""
    sock = call(programs, server)
    read, _write = os.pipe()
    socket.send_fds(sock, [hello()], [read])
    assert not is_let_in(sock)
    still_serves(programs)


@pytest.mark.parametrize("producer", [1, 63, RING + 64, 1 << 31, -1, -64])
def test_an_index_that_cannot_be_ends_the_link(programs: Programs, stranger: Stranger, producer: int) -> None:
    """More frames than the ring holds, or half a line of one."""
    stranger.word(PRODUCER, producer)
    stranger.ring()
    assert stranger.is_dropped()
    still_serves(programs)


@pytest.mark.parametrize("length", [0, 57, 65, RING, 65_536, SKIP - 1, SKIP - 64, SKIP])
def test_a_length_that_cannot_be_ends_the_link(programs: Programs, stranger: Stranger, length: int) -> None:
    """Longer than what was published, than a packet, than the ring."""
    stranger.frame(0, length)
    stranger.word(PRODUCER, 64)
    stranger.ring()
    assert stranger.is_dropped()
    still_serves(programs)


def test_a_consumer_that_takes_what_was_never_sent_ends_the_link(programs: Programs, stranger: Stranger) -> None:
    """Its index is a claim too: it is looked at when the server sends."""
    stranger.word(CONSUMER, 640)
    stranger.word(ASLEEP, 1)
    # A segment for a port that nobody has is answered by a reset; enough of them fill the ring.
    segment = bytes.fromhex("4500002800004000400600007f0000017f000001") + struct.pack(
        ">HHIIBBHHH", 40000, 9, 1, 0, 0x50, 0x02, 1000, 0, 0
    )
    lines = RING // 64
    for number in range(lines):
        stranger.frame(number * 64, len(segment), segment)
    for turn in range(1, 4):
        stranger.word(PRODUCER, turn * RING)
        stranger.ring()
    assert stranger.is_dropped()
    still_serves(programs)


def test_noise_in_the_rings_is_parsed_as_from_a_stranger(
    programs: Programs, server: Program, stranger: Stranger
) -> None:
    """Frames of noise in a ring that is in order: each is counted and dropped, and the link stays."""
    noise = random.Random(7)
    lines = RING // 64
    for number in range(lines):
        stranger.frame(number * 64, 40, bytes([0x45]) + noise.randbytes(39))
    stranger.word(PRODUCER, RING)
    stranger.ring()
    wait_until(lambda: server.listing()["counters"]["packets_in"] >= lines, "all frames are looked at")
    assert sum(server.listing()["counters"]["drops"].values()) >= lines
    still_serves(programs)


def test_bells_without_end_cost_no_service(programs: Programs, server: Program, stranger: Stranger) -> None:
    """Bells for nothing are taken; an idle server is idle afterwards."""
    stranger.sock.setblocking(False)
    for _ in range(5000):
        try:
            stranger.ring()
        except BlockingIOError:
            break
    still_serves(programs)
    before = server.cpu_seconds()
    time.sleep(1)
    assert server.cpu_seconds() - before < 0.5


def test_words_that_change_all_the_time(programs: Programs, server: Program, stranger: Stranger) -> None:
    """Every word of the rings' page is noise, again and again; the link may go, the server does not."""
    noise = random.Random(11)
    for _ in range(2000):
        stranger.map[0:512] = noise.randbytes(512)
        stranger.frame(64 * noise.randrange(RING // 64), noise.getrandbits(32), noise.randbytes(100))
        try:
            stranger.ring()
        except OSError:
            break
    still_serves(programs)
    assert server.running()
