"""CPython's test.test_selectors on pairs of TCP connections: where there is no socketpair(), it makes those by itself.

With socketpair() its sockets are AF_UNIX, which are the kernel's on either stack and prove nothing about ours.
"""

import resource
import socket
import unittest
from unittest import mock

# test_above_fd_setsize makes as many pairs as it may: 10,000 at a time on some systems, and the next class finds no
# port, for they are in TIME-WAIT. Four times FD_SETSIZE will do.
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

with mock.patch.object(socket, "socketpair"):
    del socket.socketpair  # what the module looks for when it is imported
    from test import test_selectors

for name, value in vars(test_selectors).items():
    if isinstance(value, type) and issubclass(value, unittest.TestCase):
        globals()[name] = type(name, (value,), {"__module__": __name__})
