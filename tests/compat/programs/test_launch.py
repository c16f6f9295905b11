"""Item 7: the ways in which people start programs, and the tools that they start them under.

Each row serves and fetches on the stack; where another tool is meant to see the program, what it saw is checked too.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
from support import need
from support.probes import APPS, LO, PORT, Probe
from support.programs import OURS, ROOT, clean_environment

INSTALL = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import {before}
import mtcp_patch
mtcp_patch.install(device=["xdp:lo"])
import runpy
sys.argv = sys.argv[1:]
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def only_ours(probe: Probe) -> None:
    """What follows is about our launcher."""
    if probe.stack != OURS:
        pytest.skip("about the launcher: there is nothing to start on the kernel")


@pytest.mark.parametrize("libraries", ["aiohttp.web, aiohttp", "asyncio, ssl, selectors, socketserver, http.server"])
def test_installed_after_the_libraries(probe: Probe, libraries: str) -> None:
    """``mtcp_patch.install()`` once everything has been imported, by name too."""
    only_ours(probe)
    need.module("aiohttp")
    code = INSTALL.format(before=libraries)
    program = probe.programs.start(["-c", code, str(ROOT), "aiohttp_app.py", str(PORT)], ns=probe.ns, cwd=str(APPS))
    probe.wait_listening(program)
    probe.check_web()


@pytest.mark.parametrize("library", ["gevent", "trio", "tornado", "twisted.internet.reactor", "requests"])
def test_installed_after_a_library_that_keeps_names(probe: Probe, library: str) -> None:
    """Libraries that copy classes and functions when they are imported; then a plain server in the same process."""
    only_ours(probe)
    need.module(library.partition(".")[0])
    program = probe.programs.start(
        ["-c", INSTALL.format(before=library), str(ROOT), "stdlib_https.py", str(PORT)], ns=probe.ns, cwd=str(APPS)
    )
    probe.wait_listening(program)
    probe.check_web()


def test_under_ddtrace_run(probe: Probe) -> None:
    """``ddtrace-run python -m mtcp_patch app.py``: its sitecustomize and ours in one interpreter."""
    only_ours(probe)
    need.module("ddtrace")
    runner = pathlib.Path(sys.executable).parent / "ddtrace-run"
    argv = [str(runner), sys.executable, "-m", "mtcp_patch", *LO, "flask_app_main.py", str(PORT)]
    environment = {
        **clean_environment(probe.programs.runtime_dir), "DD_TRACE_ENABLED": "false", "PYTHONPATH": str(ROOT),
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    }  # fmt: skip
    started(probe, argv, environment)
    seen = probe.ns.run("curl", "-sS", "--max-time", "25", f"http://127.0.0.1:{PORT}/ddtrace").stdout
    assert seen == "ddtrace and mtcp_patch", seen
    probe.check_web()


def test_ddtrace_under_us(probe: Probe) -> None:
    """``python -m mtcp_patch`` around a program that imports ``ddtrace.auto`` itself."""
    only_ours(probe)
    need.module("ddtrace")
    environment = {
        "DD_TRACE_ENABLED": "false", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    }  # fmt: skip
    probe.serve(["-c", "import ddtrace.auto, sys, runpy; sys.path.insert(0, '.');"
                 f"sys.argv = ['flask_app_main.py', '{PORT}']; runpy.run_path(sys.argv[0], run_name='__main__')"],
                environment=environment)  # fmt: skip
    probe.check_web()


def test_under_coverage(probe: Probe, tmp_path: pathlib.Path) -> None:
    """``python -m mtcp_patch -m coverage run app.py``: lines are measured, in the server's threads too."""
    need.module("coverage")
    (tmp_path / "rc").write_text("[run]\nsigterm = true\n")
    data = {"COVERAGE_FILE": str(tmp_path / "coverage"), "COVERAGE_RCFILE": str(tmp_path / "rc")}
    program = probe.serve(["-m", "coverage", "run", "stdlib_https.py", str(PORT)], environment=data)
    probe.check_web(load=False)
    program.stop()
    report = probe.python("-m", "coverage", "report", "-m", env=clean_environment(None, **data)).stdout
    missing = next(line for line in report.splitlines() if line.startswith("stdlib_https.py"))
    assert int(missing.split()[3].rstrip("%")) > 80, report


def test_pythonpath_with_a_sitecustomize(probe: Probe, tmp_path: pathlib.Path) -> None:
    """A PYTHONPATH of the program's own, whose sitecustomize still runs, and whose modules are found."""
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['SEEN_BY_SITE'] = 'yes'\n")
    (tmp_path / "elsewhere.py").write_text("from wsgi_app import app\n")
    code = (
        f"import elsewhere, os, wsgiref.simple_server as s; assert os.environ['SEEN_BY_SITE'] == 'yes';"
        f"s.make_server('127.0.0.1', {PORT}, elsewhere.app).serve_forever()"
    )
    probe.serve(["-c", code], environment={"PYTHONPATH": str(tmp_path)})
    probe.check_web()


def started(probe: Probe, argv: list[str], environment: dict[str, str]) -> None:
    """Starts a command line that holds the launcher somewhere inside, and waits for its listener."""
    more = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    more["MTCP_PATCH_RUNTIME_DIR"] = probe.programs.runtime_dir
    program = probe.programs.start_command([*probe.ns.exec(), *argv], environment=more, cwd=str(APPS))
    probe.wait_listening(program)


def test_in_a_virtual_environment(probe: Probe, tmp_path: pathlib.Path) -> None:
    """A venv of its own, by the path of its python and by its PATH."""
    only_ours(probe)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True, timeout=60)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {**clean_environment(probe.programs.runtime_dir), "PYTHONPATH": str(ROOT)}
    code = f"import sys, runpy; assert sys.prefix == {str(tmp_path / 'venv')!r}, sys.prefix; sys.path.insert(0, '.');"
    code += f"sys.argv = ['stdlib_https.py', '{PORT}']; runpy.run_path(sys.argv[0], run_name='__main__')"
    started(probe, [str(python), "-m", "mtcp_patch", *LO, "-c", code], environment)
    probe.check_web()


@pytest.mark.parametrize(
    "flags",
    [["-X", "dev"], ["-W", "error"], ["-X", "dev", "-W", "error"], ["-bb", "-O"], ["-X", "importtime"], ["-P"]],
    ids=" ".join,
)
@pytest.mark.parametrize("program", ["stdlib_https.py", "echo_servers.py"])
def test_interpreter_flags(probe: Probe, flags: list[str], program: str) -> None:
    """Python's own checks find nothing to complain of that they would not find on the kernel."""
    if "-P" in flags and program == "stdlib_https.py":
        pytest.skip("-P takes the program's directory from sys.path, where its content lies")
    if program == "stdlib_https.py":
        server = probe.serve([*flags, program, str(PORT)])
        probe.check_web(load=False)  # wrk ends its connections in the middle, which socketserver complains of
    else:
        server = probe.serve([*flags, program, "asyncio", str(PORT)])
        assert "the same" in probe.python("echo_client.py", str(PORT), "1000").stdout
        probe.check_carried(least=2_000_000)
    complaints = [line for line in server.stderr().splitlines() if "Warning" in line or "Error" in line]
    assert not complaints, server.stderr()


def test_debugpy(probe: Probe) -> None:
    """debugpy's adapter in a patched program: attached to from outside, stopped at a line, let go; then it serves."""
    need.module("debugpy")
    server = probe.serve(["-m", "debugpy", "--listen", "127.0.0.1:5678", "stdlib_https.py", str(PORT)])
    assert server.running()
    assert "stopped and went on" in probe.python("debugpy_client.py", "5678", str(PORT)).stdout
    probe.check_web()
