"""The connection tests of CPython's test._test_multiprocessing, for a start method.

CPython's own modules of them are missing from many installations, and take minutes for what has no connection in it.
Imported as a top-level module, because a spawned child imports the module of the test again.
"""

from __future__ import annotations

from typing import Any

from test import _test_multiprocessing

# Whole names after With{Processes,Threads,Manager}, or of a class of its own.
WANTED = (
    "TestConnection",
    "TestListener",
    "TestListenerClient",
    "TestPoll",
    "TestPollEintr",
    "TestPicklingConnections",
    "TestRemoteManager",
    "TestManagerRestart",
    "TestWait",
    "TestInvalidHandle",
    "TestInvalidFamily",
    "TestCloseFds",
    "OtherTest",
)


def install(module: dict[str, Any], start_method: str) -> None:
    """Puts the test classes and the fixtures into the module's globals."""
    _test_multiprocessing.install_tests_in_module_dict(module, start_method)
    for name, value in list(module.items()):
        bare = name.removeprefix("WithProcesses").removeprefix("WithThreads").removeprefix("WithManager")
        if isinstance(value, type) and bare not in WANTED:
            del module[name]
