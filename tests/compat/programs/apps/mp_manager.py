"""A manager over TCP and a pool of workers that use it: ``mp_manager.py METHOD``."""

import multiprocessing
import sys
import time
from multiprocessing.managers import SyncManager


def note(arguments):
    shared, number = arguments
    shared[number] = number**2
    return number


def main():
    context = multiprocessing.get_context(sys.argv[1])
    with SyncManager(("127.0.0.1", 0), authkey=b"key", ctx=context) as manager:
        multiprocessing.current_process().authkey = b"key"
        shared = manager.dict()
        with context.Pool(2) as pool:
            assert pool.map(note, [(shared, number) for number in range(40)]) == list(range(40))
        assert dict(shared) == {number: number**2 for number in range(40)}
        time.sleep(1)  # the manager's process can be asked meanwhile what it carried
    print("the same")


if __name__ == "__main__":
    main()
