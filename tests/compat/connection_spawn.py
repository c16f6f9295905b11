"""CPython's tests of multiprocessing connections, with the start method spawn."""

from multiprocessing_connections import install

install(globals(), "spawn")
