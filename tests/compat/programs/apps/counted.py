"""Runs a program unmodified and leaves behind what our stack carried: ``counted.py COUNTERS.json program arguments``.

A client ends before anybody could ask its control socket.
"""

import atexit
import json
import os
import runpy
import sys


def leave_counters(path):
    package = sys.modules.get("mtcp_patch")
    if package is not None and package.is_installed():
        stack = package.status()["stack"]
        with open(path, "w") as file:
            json.dump(stack["counters"], file)


counters, program, *arguments = sys.argv[1:]
atexit.register(leave_counters, counters)
sys.argv[:] = [program, *arguments]
sys.path[0] = os.path.dirname(os.path.abspath(program))
runpy.run_path(program, run_name="__main__")
