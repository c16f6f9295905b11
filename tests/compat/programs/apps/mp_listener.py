"""A listener handed to a child: ``mp_listener.py METHOD``. It says what the child said to clients of the kernel, and
how many bytes our stack carried in the child."""

import multiprocessing
import os
import socket
import subprocess
import sys

# Until our stack has carried some in the child, which may begin to accept later than they come; the kernel's at once.
CLIENTS = """
import socket, sys
for _ in range(1000):
    with socket.create_connection(("127.0.0.1", 8000), 20) as sock:
        sock.sendall(b"hello")
        said = sock.recv(100).decode()
        if said.split()[-1] != "0" or sys.argv[1] == "kernel":
            break
with socket.create_connection(("127.0.0.1", 8000), 20) as sock:
    sock.sendall(b"enough")
print(said)
"""


def carried():
    package = sys.modules.get("mtcp_patch")
    if package is None or not package.is_installed():
        return 0
    counters = package.status()["stack"]["counters"]
    return counters["bytes_in"] + counters["bytes_out"]


def serve(listener):
    listener.settimeout(20)
    heard = b""
    while heard != b"enough":
        sock, _ = listener.accept()
        with sock:
            heard = sock.recv(100)
            sock.sendall(b"child says hello %d" % carried())


def main():
    context = multiprocessing.get_context(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 8000))
    child = context.Process(target=serve, args=(listener,))
    child.start()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MTCP_PATCH", "PYTHONPATH"))}
    command = [sys.executable, "-c", CLIENTS, "ours" if "mtcp_patch" in sys.modules else "kernel"]
    print(subprocess.run(command, env=plain, capture_output=True, text=True, timeout=100).stdout)
    child.join(20)
    assert child.exitcode == 0, child.exitcode


if __name__ == "__main__":
    main()
