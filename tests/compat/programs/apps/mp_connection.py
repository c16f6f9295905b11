"""multiprocessing.connection over TCP, parent and child: ``mp_connection.py METHOD``."""

import multiprocessing
import sys
from multiprocessing.connection import Client, Listener, wait

LARGE = bytes(range(256)) * 4000


def answer(address):
    with Client(address, authkey=b"key") as connection:
        while (received := connection.recv()) is not None:
            connection.send(received)


def main():
    context = multiprocessing.get_context(sys.argv[1])
    with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
        child = context.Process(target=answer, args=(listener.address,))
        child.start()
        with listener.accept() as connection:
            for number in range(200):
                connection.send({"number": number})
                assert wait([connection], 20) == [connection]
                assert connection.recv() == {"number": number}
            connection.send(LARGE)
            assert connection.recv() == LARGE
            connection.send(None)
        child.join(20)
        assert child.exitcode == 0, child.exitcode
    print("the same")


if __name__ == "__main__":
    main()
