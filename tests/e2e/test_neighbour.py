"""connect() while the next hop is unknown: everybody else goes on."""

from __future__ import annotations

from support.netns import Veth
from support.programs import Programs

PROGRAM = """
import errno, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
assert client.fileno() >= 2**30
turns, stop = 0, False

def other():
    global turns
    while not stop:
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        turns += 1
        time.sleep(0.0005)

thread = threading.Thread(target=other)
thread.start()
sys.setswitchinterval(10)  # nobody takes the GIL from us; who waits must give it away
went_on = []
for last in range(71, 76):  # nobody has these addresses
    with socket.socket() as sock:
        sock.setblocking(False)
        before = turns
        assert sock.connect_ex((sys.argv[1].rpartition(".")[0] + f".{last}", 9)) == errno.EINPROGRESS
        went_on.append(turns > before)
stop = True
thread.join()
print(went_on)
assert all(went_on), went_on
"""


def test_others_go_on_while_the_kernel_resolves_the_next_hop(programs: Programs, veth: Veth) -> None:
    """Neither the GIL nor the stack's lock is held meanwhile."""
    options = ("--device", "xdp:veth", "--require")
    program = programs.start(["-c", PROGRAM, veth.client4], stack="ours", ns=veth.server, options=options)
    assert program.wait(30) == 0, program.stderr()
