"""A link that loses, repeats and reorders TCP segments between two namespaces, by a seed.

    server namespace          middle namespace            client namespace
       veth --------- to_server  [this thread]  to_client --------- veth

A thread carries every frame between the two ends of the middle. It is slow (some ten thousand frames a second) and
honest: what is not TCP (ARP, neighbour discovery) passes untouched, and nothing is changed inside a frame.
"""

from __future__ import annotations

import collections
import random
import select
import socket
import threading
from dataclasses import dataclass

from support import need
from support.netns import Netns, Veth, join

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE = 263, 23, 33
IPPROTO_TCP = 6


@dataclass(frozen=True)
class Faults:
    """Shares of the TCP segments, from 0 to 1, that are lost, sent twice, or held back behind `behind` others."""

    lost: float = 0.0
    repeated: float = 0.0
    reordered: float = 0.0
    behind: int = 3
    seed: int = 1


def is_tcp(frame: bytes) -> bool:
    """Whether faults may hit it."""
    if frame[12:14] == b"\x08\x00":
        return frame[23:24] == bytes([IPPROTO_TCP])
    return frame[12:14] == b"\x86\xdd" and frame[20:21] == bytes([IPPROTO_TCP])


class RoughLink:
    """Make it, use `pair` like any veth pair, close it."""

    def __init__(self, server: Netns, middle: Netns, client: Netns, faults: Faults) -> None:
        self.pair = Veth(server, client)
        self.faults = faults
        self.lost = self.carried = 0
        self._random = random.Random(faults.seed)
        need.tool("ethtool")
        join(server, middle, "to_server", self.pair.server4, self.pair.server6)
        join(client, middle, "to_client", self.pair.client4, self.pair.client6)
        self._ends = [self._raw(middle, "to_server"), self._raw(middle, "to_client")]
        self._wake, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def _raw(middle: Netns, name: str) -> socket.socket:
        sock = middle.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        sock.bind((name, ETH_P_ALL))
        sock.setblocking(False)
        return sock

    def _run(self) -> None:
        held: list[collections.deque[list[object]]] = [collections.deque(), collections.deque()]
        while True:
            ready = select.select([*self._ends, self._wake], [], [], 0.005)[0]
            if self._wake in ready:
                return
            for index, end in enumerate(self._ends):
                if end in ready:
                    self._carry(end, self._ends[1 - index], held[index])
                elif held[index]:  # the link is quiet: what was held back arrives after all
                    self._release(self._ends[1 - index], held[index], everything=True)

    def _carry(self, source: socket.socket, target: socket.socket, held: collections.deque[list[object]]) -> None:
        for _ in range(64):
            try:
                frame = source.recv(65536)
            except BlockingIOError:
                return
            if not is_tcp(frame):
                self._send(target, frame)
                continue
            self.carried += 1
            dice = self._random.random()
            if dice < self.faults.lost:
                self.lost += 1
                continue
            dice -= self.faults.lost
            if dice < self.faults.reordered:
                held.append([self.faults.behind, frame])
                continue
            self._send(target, frame)
            if dice - self.faults.reordered < self.faults.repeated:
                self._send(target, frame)
            self._release(target, held)

    def _release(
        self, target: socket.socket, held: collections.deque[list[object]], everything: bool = False
    ) -> None:  # fmt: skip
        for entry in list(held):
            assert isinstance(entry[0], int)
            assert isinstance(entry[1], bytes)
            entry[0] -= 1
            if everything or entry[0] <= 0:
                held.remove(entry)
                self._send(target, entry[1])

    @staticmethod
    def _send(target: socket.socket, frame: bytes) -> None:
        try:
            target.send(frame)
        except OSError:
            return  # a full queue or a link that is down loses a frame, as links do

    def close(self) -> None:
        """Ends the thread."""
        self._stop.send(b"x")
        self._thread.join(10)
        for sock in (*self._ends, self._wake, self._stop):
            sock.close()
