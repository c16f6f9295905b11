"""The settings of the table: where server and load stand, and by what they are joined.

K  a stock kernel client reaches the server over lo: ours on ``xdp:lo``, the kernel's as ever.
X  the far end is our native load over AF_XDP on a veth, for the kernel's server and for ours alike.
M  both ends ours, over ``memory`` between their processes; against both ends the kernel's, over lo.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .figures import KERNEL, OURS
from .namespaces import VETH_SERVER, Namespace, join

SERVER_VETH, LOAD_VETH = "xdp:va", "xdp:vb"
# Maximum segment lifetime of the load's own stack: a client that opens tens of thousands of connections a second needs
# their ports again. It is the same whichever stack the server has.
LOAD_MSL_MS = 1


@dataclass(frozen=True)
class Setting:
    """One of them."""

    letter: str
    title: str


SETTINGS = {
    setting.letter: setting
    for setting in (
        Setting("K", "a stock kernel client, over lo"),
        Setting("X", "our native load over AF_XDP on a veth, for both"),
        Setting("M", "both ends ours over memory; both ends the kernel's over lo"),
    )
}


@dataclass(frozen=True)
class Place:
    """Where one run takes place."""

    server: Namespace
    load: Namespace
    host: str
    # None: plain; else the devices of our stack, besides what it has by itself.
    server_devices: Sequence[str] | None
    load_devices: Sequence[str] | None
    # How the load's own stack must call what carried its connections.
    carrier: str

    def load_words(self) -> list[str]:
        """For the native load."""
        words = stack_words(self.load_devices)
        return words if self.load_devices is None else [*words, "--msl", str(LOAD_MSL_MS)]

    def server_words(self, layout: str = "") -> list[str]:
        """For a native server; a `layout` is our stack's."""
        words = stack_words(self.server_devices)
        return [*words, "--layout", layout] if layout and self.server_devices is not None else words


def stack_words(devices: Sequence[str] | None) -> list[str]:
    """The arguments of a native end for a stack."""
    if devices is None:
        return ["--stack", "kernel"]
    # `memory` is always there; the native ends name what is to be opened besides.
    extra = [name for name in devices if name != "memory"]
    return ["--stack", "ours", *(word for name in extra for word in ("--device", name))]


@contextlib.contextmanager
def place(letter: str, stack: str, sysctls: dict[str, str] | None = None) -> Iterator[Place]:
    """Fresh namespaces for one run; `sysctls` apply to all of them."""
    made = [Namespace()]
    try:
        if letter == "X":
            made.append(Namespace())
            join(made[0], made[1])
        for namespace in made:
            for name, value in (sysctls or {}).items():
                namespace.sysctl(name, value)
        yield arranged(letter, stack, made)
    finally:
        for namespace in made:
            namespace.delete()


def arranged(letter: str, stack: str, made: Sequence[Namespace]) -> Place:
    """Who stands where."""
    server, load = made[0], made[-1]
    match letter, stack:
        case "K", _ if stack == OURS:
            return Place(server, load, "127.0.0.1", ["xdp:lo"], None, "kernel")
        case "X", _:
            devices = [SERVER_VETH] if stack == OURS else None
            return Place(server, load, VETH_SERVER, devices, [LOAD_VETH], LOAD_VETH)
        case "M", _ if stack == OURS:
            return Place(server, load, "127.0.0.1", ["memory"], ["memory"], "memory")
        case (("K" | "M"), _) if stack == KERNEL:
            return Place(server, load, "127.0.0.1", None, None, "kernel")
    raise ValueError(f"no setting {letter} on {stack}")
