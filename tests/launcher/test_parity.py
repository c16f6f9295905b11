"""The launcher table of DESIGN section 3: started by the launcher, a program is what plain ``python`` makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.programs import clean_environment, wait_until

from launcher.conftest import PROBE, TIMEOUT_S, Runner

Probe = Callable[[str], Path]

PROGRAMS = {
    "script": ["probe.py", "one", "two words", ""],
    "script whose arguments look like ours": ["probe.py", "--device", "x", "--help", "-v", "--", "--info", "-I"],
    "script in a directory": ["sub/probe.py", "a"],
    "absolute script": ["{here}/probe.py", "a"],
    "-c": ["-c", PROBE, "-m", "x"],
    "-m module": ["-m", "probe", "--version"],
    "-m module of a package": ["-m", "pkg.inner", "a"],
    "-m package": ["-m", "pkg", "a"],
    "directory": ["app", "a"],
    "zip file": ["app.zip", "a"],
    "standard input": ["-", "a"],
}
FLAGS = [
    ["-u"],
    ["-O"],
    ["-OO"],
    ["-B"],
    ["-b"],
    ["-bb"],
    ["-s"],
    ["-P"],
    ["-q"],
    ["-d"],
    ["-R"],
    ["-W", "error"],
    ["-W", "ignore", "-W", "default::UserWarning"],
    ["-X", "dev"],
    ["-X", "utf8"],
    ["-X", "dev", "-u", "-W", "error"],
    ["--check-hash-based-pycs", "always"],
]
ENDINGS = {
    "return": "print('out')",
    "exit 0": "import sys; sys.exit()",
    "exit 3": "import sys; sys.exit(3)",
    "exit 300": "import sys; sys.exit(300)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit text": "import sys; sys.exit('the reason')",
    "exception": "def f():\n    raise ValueError('x')\nf()",
    "chained exception": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "exception group": "raise ExceptionGroup('g', [OSError(1, 'a'), ValueError('b')])",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "syntax error": "x = = 1",
    "os._exit": "import os, sys; print('kept', flush=True); os._exit(5)",
    "SIGTERM": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "abort": "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
    "atexit": "import atexit; atexit.register(print, 'bye'); raise SystemExit(4)",
    "atexit raises": "import atexit; atexit.register(int, 'x')",
    "daemon thread": "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "thread raises": "import threading; t = threading.Thread(target=lambda: 1 / 0, name='T'); t.start(); t.join()",
    "exec": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(7); raise SystemExit(6)'])",
    "exec of nothing": "import os; os.execv('/nonexistent', ['x'])",
}


@pytest.fixture
def tree(runner: Runner, probe: Probe) -> Runner:
    """The probe in every form that python runs."""
    for name in ("probe.py", "sub/probe.py", "pkg/__main__.py", "pkg/inner.py", "app/__main__.py"):
        probe(name)
    runner.write("pkg/__init__.py", "")
    with zipfile.ZipFile(runner.directory / "app.zip", "w") as archive:
        archive.writestr("__main__.py", PROBE)
    return runner


@pytest.mark.parametrize("words", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_every_form_of_program(tree: Runner, words: list[str]) -> None:
    words = [word.replace("{here}", str(tree.directory)) if len(word) < 99 else word for word in words]
    seen = tree.both(words, stdin=PROBE if words[0] == "-" else "some input")
    assert json.loads(seen.out)["name"] == "__main__"


@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_python_flags_before_and_after(tree: Runner, flags: list[str]) -> None:
    plain = tree.run([*flags, "probe.py", "a"])
    assert json.loads(plain.out)["argv"] == ["probe.py", "a"]
    assert tree.launch(["probe.py", "a"], flags=flags) == plain
    assert tree.launch([*flags, "probe.py", "a"]) == plain
    assert tree.launch(["--", *flags, "probe.py", "a"]) == plain


@pytest.mark.parametrize("words", [["-um", "probe", "a"], ["-Oc", PROBE], ["-Xdev", "-Werror", "probe.py"]])
def test_joined_flags(tree: Runner, words: list[str]) -> None:
    plain, launched = (json.loads(run(words).out) for run in (tree.run, tree.launch))
    assert launched | {"orig_argv": None} == plain | {"orig_argv": None}


def test_flags_are_added_not_replaced(tree: Runner) -> None:
    seen = json.loads(tree.launch(["-O", "probe.py"], flags=["-X", "dev"]).out)
    assert seen["orig_argv"][1:] == ["-X", "dev", "-O", "probe.py"]


def test_verbose_imports_of_python_itself(tree: Runner) -> None:
    assert "import 'site'" in tree.launch(["-c", ""], flags=["-v"]).err
    assert "import 'site'" in tree.launch(["--", "-v", "-c", ""]).err


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize("form", ["script", "-c"])
def test_endings(runner: Runner, form: str, code: str) -> None:
    runner.write("end.py", code)
    runner.both(["end.py"] if form == "script" else ["-c", code])


def test_traceback_through_a_module(runner: Runner) -> None:
    runner.write("lib.py", "def deep(n):\n    return deep(n - 1) if n else int('no')\n")
    seen = runner.both(["-m", "main"], env={"PYTHONPATH": "elsewhere"})
    assert "No module named main" in seen.err
    runner.write("main.py", "import lib\nlib.deep(3)\n")
    assert "ValueError: invalid literal" in runner.both(["-m", "main"]).err


@pytest.mark.parametrize(
    "words", [["nope.py"], ["-m", "nope"], ["empty"], ["-m", "empty"], ["text.zip"], ["/"]], ids=" ".join
)
def test_nothing_to_run(runner: Runner, words: list[str]) -> None:
    (runner.directory / "empty").mkdir()
    runner.write("text.zip", "no zip, and no python")
    seen = runner.both(words)
    assert seen.status != 0
    assert seen.err


def test_a_missing_script_exits_with_2(runner: Runner) -> None:
    seen = runner.both(["nope.py"])
    assert seen.status == 2
    assert "can't open file" in seen.err


def test_nothing_is_written(runner: Runner) -> None:
    assert runner.launch(["-c", "import socket, selectors, ssl; socket.socket().close()"]) == (0, "", "")


@pytest.mark.parametrize("value", ["", "a", "a:b", ":a", "a:", "{here}/lib"])
def test_pythonpath_is_kept(tree: Runner, value: str) -> None:
    tree.both(["probe.py"], env={"PYTHONPATH": value.replace("{here}", str(tree.directory))})


def test_modules_on_pythonpath_are_found(runner: Runner) -> None:
    runner.write("lib/mine.py", "print('mine')")
    assert runner.both(["-c", "import mine"], env={"PYTHONPATH": "lib"}).out == "mine\n"


@pytest.mark.parametrize("variable", ["PYTHONDEVMODE", "PYTHONSAFEPATH", "PYTHONOPTIMIZE", "PYTHONNOUSERSITE"])
def test_pythons_variables(tree: Runner, variable: str) -> None:
    tree.both(["probe.py"], env={variable: "1"})


SITECUSTOMIZE = {
    "works": "import sys\nprint('customized', __name__, __file__)\nsys.marker = 1\n",
    "raises": "raise RuntimeError('broken')\n",
    "imports nothing": "import no_such_module\n",
    "imports sockets": "import socket, ssl, selectors, asyncio\n",
}


@pytest.mark.parametrize("text", SITECUSTOMIZE.values(), ids=SITECUSTOMIZE.keys())
def test_the_shadowed_sitecustomize_runs(tree: Runner, text: str) -> None:
    tree.write("site/sitecustomize.py", text)
    in_site = {"PYTHONPATH": "site"}
    plain = tree.run(["probe.py"], env=in_site)
    launched = tree.launch(["probe.py"], env=in_site)
    # The launcher is a Python as well, and its own site module ran it before.
    once = tree.run(["-c", ""], env=in_site)
    assert launched == (0, once.out + plain.out, once.err + plain.err)
    assert json.loads(plain.out[plain.out.index("{") :])["sitecustomize"] == (
        None if once.err else str(tree.directory / "site" / "sitecustomize.py")
    )


INSTALLED = "import sys; print(sys.modules.get('mtcp_patch') is not None and sys.modules['mtcp_patch'].is_installed())"


PARENT = """
import multiprocessing, os, subprocess, sys
import child
if __name__ == '__main__':
    subprocess.run([sys.executable, 'child.py'], check=True)
    code = open('child.py').read()
    for method in ('spawn', 'fork', 'forkserver'):
        process = multiprocessing.get_context(method).Process(target=exec, args=(code,))
        process.start()
        process.join()
        assert process.exitcode == 0
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, 'child.py'])
"""


def test_it_is_installed_and_children_inherit(runner: Runner) -> None:
    runner.write("child.py", INSTALLED)
    runner.write("parent.py", PARENT)
    seen = runner.launch(["parent.py"])
    assert seen.err == ""
    # `import child` prints as well: in the parent, and again in the spawned child that re-imports the main module
    assert set(seen.out.split()) == {"True"}
    assert len(seen.out.split()) >= 6


def test_off_by_mtcp_patch_0(tree: Runner) -> None:
    off = {"MTCP_PATCH": "0"}
    tree.both(["probe.py", "a"], env=off)
    assert tree.launch(["-c", INSTALLED], env=off).out == "False\n"
    assert tree.launch(["-c", "import os; print(os.environ.get('PYTHONPATH'))"], env=off).out == "None\n"


def test_a_child_can_be_off(runner: Runner) -> None:
    child = f"[sys.executable, '-c', {INSTALLED!r}], env=os.environ | {{'MTCP_PATCH': '0'}}"
    code = f"import os, subprocess, sys; subprocess.run({child})"
    assert runner.launch(["-c", code]).out == "False\n"


def test_launcher_under_launcher(runner: Runner) -> None:
    seen = runner.launch(["-m", "mtcp_patch", "-c", "import os; print(os.environ['PYTHONPATH'].count('bootstrap'))"])
    assert seen == (0, "1\n", "")


def test_no_socket_module_is_loaded_before_the_program(runner: Runner) -> None:
    names = ("socket", "_socket", "select", "selectors", "ssl", "asyncio")
    code = f"import sys; print([name for name in {names} if name in sys.modules])"
    assert runner.both(["-c", code]).out == "[]\n"


def test_a_start_loads_nothing_but_ours(runner: Runner) -> None:
    """Every child process pays for it: functools alone would double what a start costs."""
    code = "import sys; print(*sys.modules)"
    loaded = set(runner.launch(["-c", code]).out.split()) - set(runner.run(["-c", code]).out.split())
    assert {name for name in loaded if not name.startswith("mtcp_patch")} <= {"__future__", "atexit", "errno"}


def test_threading_is_not_touched(runner: Runner) -> None:
    code = "import _thread, threading, time; print(_thread.start_new_thread, threading.Lock, time.sleep)"
    runner.both(["-c", code])


def wait_until_it_sleeps(pid: int) -> None:
    """Until the process has used no CPU for a while: it has left print() and is in the call that waits."""
    used: list[str] = []

    def asleep() -> bool:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used.append(" ".join((facts[0], facts[11], facts[12])))
        return len(used) > 10 and used[-1].startswith("S") and len(set(used[-10:])) == 1

    wait_until(asleep, "it does not sleep")


WAITS = {
    "sleep": "time.sleep(60)",
    "accept": "s = socket.create_server(('127.0.0.1', 0)); ready(); s.accept()",
    "select": "s = socket.create_server(('127.0.0.1', 0)); ready(); select.select([s], [], [])",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_waiting_program(runner: Runner, wait: str, number: signal.Signals) -> None:
    runner.write(
        "wait.py",
        "import select, socket, time\n"
        "def ready():\n    print('ready', flush=True)\n"
        f"{'ready(); ' if 'ready' not in wait else ''}{wait}\n",
    )
    endings = []
    for start in ([], ["-m", "mtcp_patch", "--device", "memory"]):
        with subprocess.Popen(
            [sys.executable, *start, "wait.py"],
            cwd=runner.directory,
            env=clean_environment(None),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            wait_until_it_sleeps(process.pid)
            os.kill(process.pid, number)
            _out, err = process.communicate(timeout=TIMEOUT_S)
            endings.append((process.returncode, err))
    assert endings[1] == endings[0]
    assert endings[0][0] == -number
    assert ("KeyboardInterrupt" in endings[0][1]) == (number == signal.SIGINT)


def test_a_terminal_user_sees_the_same(runner: Runner) -> None:
    """``python -i`` with a script on standard input, as in a terminal."""
    runner.both(["-i", "-q", "-c", "x = 41"], stdin="print(x + 1)\nraise SystemExit(9)\n")
