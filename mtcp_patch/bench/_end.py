"""A child process that is one native end of a measurement: ``python -m mtcp_patch.bench._end load --address …``.

A process of its own, so that the load never shares an interpreter, a lock or a core with the server.
"""

from __future__ import annotations

import signal
import sys

from mtcp_patch.stack import _native


def main() -> None:
    # The native code never comes back to the interpreter, which would otherwise answer Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _native.bench_end(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(f"bench {' '.join(sys.argv[1:2])}: {error}")


if __name__ == "__main__":
    main()
