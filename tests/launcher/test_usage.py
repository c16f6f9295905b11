"""Bad command lines: a clear message, a suggestion, exit status 2, and nothing on standard output."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

import mtcp_patch
from launcher.conftest import Runner

MISTAKES = {
    "unknown option": (["--devise", "memory", "app.py"], r"unknown option --devise; did you mean --device\?"),
    "unknown option, nothing like it": (["--zzz", "app.py"], r"unknown option --zzz$"),
    "one dash": (["-require", "app.py"], r"unknown option -require; did you mean --require\?"),
    "value missing": (["--device"], r"--device needs a value"),
    "value for a switch": (["--require=yes", "app.py"], r"--require takes no value"),
    "no program": ([], r"no program given: name a script"),
    "-c without code": (["-c"], r"-c needs a value"),
    "unknown device": (["--device", "xpd:lo", "app.py"], r"unknown device 'xpd:lo'; did you mean xdp\?"),
    "device without interface": (["--device", "xdp:", "app.py"], r"device 'xdp:' names no interface"),
    "unknown interface": (["--device", "xdp:nope0", "app.py"], r"no interface 'nope0' here.*\(there: .*lo"),
    "interface mistyped": (["--device", "xdp:loo", "app.py"], r"no interface 'loo' here; did you mean lo\?"),
    "device to come": (["--device", "tap:t0", "app.py"], r"tap devices come later"),
    "unknown layout": (["--layout", "unifed", "app.py"], r"expected unified, merged or split; did you mean unified\?"),
    "cores to come": (["--cores", "2", "app.py"], r"more than one core is not there yet: it comes with"),
    "cores no number": (["--cores", "two", "app.py"], r"--cores = 'two': expected a whole number"),
    "linger out of range": (["--exit-linger-ms", "-1", "app.py"], r"expected a whole number from 0 to"),
    "-I": (["-I", "app.py"], r"-I \(isolated mode\) ignores PYTHONPATH.*Leave -I out"),
    "-E": (["-E", "app.py"], r"-E ignores PYTHONPATH.*Leave -E out"),
    "-S": (["-S", "app.py"], r"-S skips the site module.*Leave -S out"),
    "-uE": (["-uE", "app.py"], r"Leave -E out"),
    "-I after --": (["--", "-I", "app.py"], r"Leave -I out"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(runner: Runner, words: list[str], message: str) -> None:
    runner.write("app.py", "print('must not run')")
    seen = runner.run(["-m", "mtcp_patch", *words])
    assert (seen.status, seen.out) == (2, "")
    assert re.search(message, seen.err, re.MULTILINE), seen.err
    assert "Traceback" not in seen.err
    assert all(line.startswith("mtcp_patch: ") for line in seen.err.splitlines())


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_refused_when_given_to_the_launchers_own_interpreter(runner: Runner, flag: str) -> None:
    # -S finds no site-packages either; the folder of the package stands in for them.
    runner.write("app.py", "print('must not run')")
    code = (
        f"import runpy, sys; sys.path.insert(0, {package_parent()!r});"
        "sys.argv[0:] = ['-m', 'app.py'];"
        f"sys.orig_argv[:] = [sys.executable, {flag!r}, '-m', 'mtcp_patch', 'app.py'];"
        "runpy.run_module('mtcp_patch', run_name='__main__')"
    )
    seen = runner.run([flag, "-c", code])
    assert (seen.status, seen.out) == (2, "")
    assert f"Leave {flag} out" in seen.err


def package_parent() -> str:
    """The folder in which the package is."""
    import mtcp_patch

    return str(mtcp_patch.__file__).rsplit("/", 2)[0]


def test_version(runner: Runner) -> None:
    seen = runner.run(["-m", "mtcp_patch", "--version"])
    assert re.fullmatch(r"mtcp_patch \d+\.\d+\.\d+ \(Python [\d.]+\S*\)\n", seen.out)
    assert (seen.status, seen.err) == (0, "")


def test_one_version_everywhere() -> None:
    import tomllib
    from importlib.metadata import version

    import mtcp_patch

    with open(f"{package_parent()}/Cargo.toml", "rb") as file:
        assert tomllib.load(file)["workspace"]["package"]["version"] == mtcp_patch.__version__
    assert version("mtcp-patch") == mtcp_patch.__version__


def test_help_has_every_option_and_two_examples_that_run(runner: Runner) -> None:
    from mtcp_patch.config import SETTINGS

    seen = runner.run(["-m", "mtcp_patch", "--help"])
    assert (seen.status, seen.err) == (0, "")
    for setting in SETTINGS.values():
        assert setting.option is None or setting.option in seen.out
    assert "python -m mtcp_patch -m http.server 8000" in seen.out
    assert max(map(len, seen.out.splitlines())) <= 120
    # The second example, as a shell would run it.
    command = seen.out[seen.out.index("  python -m mtcp_patch --device memory -c") :]
    command = command[: command.index('% s.server_port).status)"') + len('% s.server_port).status)"')]
    done = subprocess.run(
        command.replace("python -m", f"{sys.executable} -m", 1),
        shell=True,
        capture_output=True,
        text=True,
        cwd=runner.directory,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr


def test_verbose_says_each_setting_and_its_origin_on_stderr(runner: Runner) -> None:
    runner.write("mtcp_patch.toml", "exit_linger_ms = 7\n")
    seen = runner.launch(["-v", "-c", "print(1)"], env={"MTCP_PATCH_REQUIRE": "0"})
    assert (seen.status, seen.out) == (0, "1\n")
    assert "device = ('memory',) (command line)" in seen.err
    assert "exit_linger_ms = 7 (mtcp_patch.toml:1)" in seen.err
    assert "require = False (environment MTCP_PATCH_REQUIRE)" in seen.err
    assert "cores = 1 (default)" in seen.err


def test_info(runner: Runner) -> None:
    runner.write("pyproject.toml", "[tool.other]\n\n[tool.mtcp_patch]\nexit_linger_ms = 8\n")
    seen = runner.launch(["--info"])
    assert (seen.status, seen.err) == (0, "")
    for pattern in (
        r"^  device +memory +command line$",
        r"^  exit_linger_ms +8 +pyproject.toml:4$",
        r"^  memory: open",
        r"^  select +epoll, poll, select$",
        r"^  os +_exit, .*close",
        r"^  ssl +SSLContext._wrap_socket$",
        r"^  UDP.*: only TCP",
    ):
        assert re.search(pattern, seen.out, re.MULTILINE), (pattern, seen.out)


def test_info_shows_every_module_of_the_standard_library_that_is_patched(runner: Runner) -> None:
    """A shim that is added must show up, or --info would tell what was true before it."""
    patched = runner.launch(["--info"]).out.partition("\npatched\n")[2].partition("\n\n")[0]
    shown = {line.split()[0] for line in patched.splitlines() if not line.startswith("   ")}
    targets = {target for targets in mtcp_patch._SHIMS.values() for target in targets}
    assert targets & sys.stdlib_module_names <= shown, (targets, shown)
    assert "ssl" in targets


def test_info_does_not_say_that_what_fails_stays_on_the_kernel(runner: Runner) -> None:
    """pyOpenSSL on a socket of ours is an error (test_tls.py shows it), installed or not."""
    kernel = runner.launch(["--info"]).out.partition("\nstays on the kernel\n")[2].partition("\n\n")[0]
    assert "UDP" in kernel
    assert "OpenSSL" not in kernel


def test_info_before_a_program_leaves_it_stdout(runner: Runner) -> None:
    seen = runner.launch(["--info", "-c", "print('mine')"])
    assert (seen.status, seen.out) == (0, "mine\n")
    assert "patched" in seen.err


def test_info_when_switched_off(runner: Runner) -> None:
    seen = runner.launch(["--info"], env={"MTCP_PATCH": "0"})
    assert seen.status == 0
    assert "switched off by MTCP_PATCH=0" in seen.out


def test_a_child_whose_environment_was_spoilt_says_so_and_ends(runner: Runner) -> None:
    code = (
        "import os, subprocess, sys; os.environ['MTCP_PATCH_CORES'] = 'x';"
        "sys.exit(subprocess.run([sys.executable, '-c', '']).returncode)"
    )
    seen = runner.launch(["-c", code])
    assert (seen.status, seen.out) == (2, "")
    assert "environment: MTCP_PATCH_CORES = 'x': expected a whole number" in seen.err
    assert "Traceback" not in seen.err


@pytest.fixture
def without_native(runner: Runner) -> str:
    """The bootstrap of a copy of the package that has no native part, as in a Python that it was not built for."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "engine", "host", "binding")
    shutil.copytree(f"{package_parent()}/mtcp_patch", runner.directory / "copy" / "mtcp_patch", ignore=ignore)
    return str(runner.directory / "copy" / "mtcp_patch" / "bootstrap")


def test_without_the_native_part_it_runs_on_the_kernel_and_says_so(runner: Runner, without_native: str) -> None:
    code = "import sys, socket; socket.socket().close(); print(sys.path[0] == '')"
    seen = runner.run(["-c", code], env={"PYTHONPATH": without_native})
    assert (seen.status, seen.out) == (0, "True\n")
    assert re.fullmatch(r"mtcp_patch: not active in \S+, which runs on the kernel: ImportError: .*\n", seen.err)


def test_without_the_native_part_but_required(runner: Runner, without_native: str) -> None:
    seen = runner.run(["-c", "print(1)"], env={"PYTHONPATH": without_native, "MTCP_PATCH_REQUIRE": "1"})
    assert (seen.status, seen.out) == (1, "")
    assert seen.err.endswith("(and it is required)\n")
