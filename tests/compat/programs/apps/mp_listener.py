"""A listener handed to a child: ``mp_listener.py METHOD``. It says what the child said to a client of the kernel."""

import multiprocessing
import os
import socket
import subprocess
import sys

CLIENT = "import socket; s = socket.create_connection(('127.0.0.1', 8000), 20); print(s.makefile().read())"


def serve(listener):
    listener.settimeout(20)
    sock, _ = listener.accept()
    sock.sendall(b"child says hello")
    sock.close()


def main():
    context = multiprocessing.get_context(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 8000))
    child = context.Process(target=serve, args=(listener,))
    child.start()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MTCP_PATCH", "PYTHONPATH"))}
    print(subprocess.run([sys.executable, "-c", CLIENT], env=plain, capture_output=True, text=True, timeout=30).stdout)
    child.join(20)
    assert child.exitcode == 0, child.exitcode


if __name__ == "__main__":
    main()
