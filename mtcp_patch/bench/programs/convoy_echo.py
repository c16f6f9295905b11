"""A `selectors` echo in a process whose other thread computes without end, holding the GIL whenever it can."""

import threading

from selectors_echo import main  # type: ignore[import-not-found]


def compute() -> None:
    number = 0
    while True:
        number = (number * 1_103_515_245 + 12_345) % 2**31


threading.Thread(target=compute, daemon=True).start()
main()
