"""A runner for packetdrill's scripts on the stack in virtual time: `python -m tests.packetdrill FILES…`.

`grammar.lark` and `syntax` read a script, `kernel_setup` turns what it does to its kernel into settings of the engine,
`wire` makes and reads packets, `flow` maps the script's numbers to real ones, `calls` makes the system calls through
Python's patched `socket`, `select`, `os` and `fcntl`, and `run` is the order of events. What never happens here: real
time, threads, privileges.
"""
