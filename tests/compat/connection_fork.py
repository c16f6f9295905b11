"""CPython's tests of multiprocessing connections, with the start method fork."""

from multiprocessing_connections import install

install(globals(), "fork")
