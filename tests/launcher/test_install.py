"""install(), uninstall(), is_installed(), original(), status(), each in a process of its own; the example to copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.conftest import Runner, Seen

EXAMPLE = Path(__file__).resolve().parents[2] / "sitecustomize_example" / "sitecustomize.py"

# Everything that must be as before after uninstall().
SNAPSHOT = """
import _socket, fcntl, os, select, selectors, socket, sys
def snapshot():
    modules = (_socket, fcntl, os, select, socket)
    seen = {(m.__name__, n): v for m in modules for n, v in vars(m).items() if callable(v)}
    seen |= {(c, n): v for c in vars(selectors).values() if isinstance(c, type) for n, v in vars(c).items()}
    seen["bases"] = socket.socket.__bases__
    seen["default"] = socket.socket._real_close.__defaults__
    seen["finders"] = list(sys.meta_path)
    return seen
"""


def run(runner: Runner, code: str, **env: str) -> Seen:
    """Code in a process of its own; it must end well and silently."""
    runner.write("code.py", code)
    seen = runner.run(["code.py"], env={"MTCP_PATCH_DEVICE": "memory"} | env)
    assert seen.err == ""
    assert seen.status == 0
    return seen


def test_importing_does_nothing(runner: Runner) -> None:
    run(
        runner,
        "import sys; before = set(sys.modules); import mtcp_patch\n"
        "assert not mtcp_patch.is_installed()\n"
        "assert {m for m in set(sys.modules) - before if 'mtcp' in m} == {'mtcp_patch'}\n"
        "import socket, select; assert type(select.epoll).__module__ == 'builtins'\n"
        "assert socket.socket.__mro__[1] is socket.SocketType\n",
    )


def test_install_and_uninstall_leave_everything_as_it_was(runner: Runner) -> None:
    run(
        runner,
        SNAPSHOT + "before = snapshot()\n"
        "import mtcp_patch\n"
        "for _ in range(3):\n"
        "    mtcp_patch.install(); assert mtcp_patch.is_installed()\n"
        "    during = snapshot()\n"
        "    assert during['bases'] != before['bases'] and during['select', 'epoll'] is not before['select', 'epoll']\n"
        "    mtcp_patch.uninstall(); assert not mtcp_patch.is_installed()\n"
        "    after = snapshot()\n"
        "    assert after == before, {k for k in before if after.get(k) != before[k]} | (set(after) ^ set(before))\n",
    )


def test_modules_imported_later_are_patched_and_restored(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch; mtcp_patch.install()\n"
        "import socket, selectors, select\n"
        "s = socket.socket(); assert s.fileno() >= 1 << 30; s.close()\n"
        "assert 'select.epoll' in mtcp_patch.status()['patched']\n"
        "mtcp_patch.uninstall()\n"
        "s = socket.socket(); assert 0 < s.fileno() < 1 << 20; s.close()\n"
        "import io; assert select.epoll is selectors.EpollSelector._selector_cls\n"
        "assert select.epoll.__module__ == 'select'\n",
    )


@pytest.mark.parametrize("first", ["selectors", "select", "socket", "asyncio"])
def test_whichever_is_imported_first(runner: Runner, first: str) -> None:
    run(
        runner,
        f"import mtcp_patch; mtcp_patch.install(); import {first}; import select, selectors\n"
        "for cls in (selectors.EpollSelector, selectors.PollSelector):\n"
        "    assert cls._selector_cls in (select.epoll, select.poll)\n"
        "names = [n for n in mtcp_patch.status()['patched'] if n.startswith('selectors.')]\n"
        "mtcp_patch.uninstall(); import socket, select\n"
        "mtcp_patch.install(); again = [n for n in mtcp_patch.status()['patched'] if n.startswith('selectors.')]\n"
        "assert set(names) <= set(again) and ('selectors.EpollSelector.select' in names) == "
        "('selectors.EpollSelector.select' in again), (names, again)\n",
    )


def test_names_imported_before_are_ours_too(runner: Runner) -> None:
    run(
        runner,
        "from socket import socket, create_server\nfrom select import epoll, select\nfrom os import read\n"
        "import select as module, os\n"
        "import mtcp_patch; mtcp_patch.install()\n"
        "assert epoll is module.epoll and select is module.select and read is os.read\n"
        "with create_server(('127.0.0.1', 0)) as s: assert s.fileno() >= 1 << 30\n"
        "with socket() as s: assert s.fileno() >= 1 << 30\n",
    )


def test_installing_twice_is_installing_once(runner: Runner) -> None:
    run(
        runner,
        "import os, mtcp_patch\nmtcp_patch.install(); first = os._exit\n"
        "mtcp_patch.install(); mtcp_patch.install(device='memory'); assert os._exit is first\n"
        "try: mtcp_patch.install(exit_linger_ms=1)\n"
        "except RuntimeError as e: assert 'installed with exit_linger_ms=500 (from default)' in str(e), e\n"
        "else: raise AssertionError\n",
    )


def test_uninstall_while_descriptors_are_open(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch, socket; mtcp_patch.install()\n"
        "a, b = socket.socket(), socket.socket(); numbers = (a.fileno(), b.fileno())\n"
        "try: mtcp_patch.uninstall()\n"
        "except RuntimeError as e: assert all(str(n) in str(e) for n in numbers), e\n"
        "else: raise AssertionError\n"
        "assert mtcp_patch.is_installed() and socket.socket().fileno() >= 1 << 30\n"
        "a.close(); b.close(); mtcp_patch.uninstall(); mtcp_patch.uninstall()\n",
    )


def test_originals(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch, select, _socket, os, math\n"
        "before = {'select.epoll': select.epoll, '_socket.socket': _socket.socket, 'os.read': os.read}\n"
        "assert mtcp_patch.original('select.epoll') is before['select.epoll']\n"
        "mtcp_patch.install(); import socket\n"
        "assert select.epoll is not before['select.epoll']\n"
        "for name, value in before.items(): assert mtcp_patch.original(name) is value, name\n"
        "assert mtcp_patch.original('math.sin') is math.sin\n"
        "for name in ('math.nope', 'no_such_module.x'):\n"
        "    try: mtcp_patch.original(name)\n"
        "    except (AttributeError, ImportError): pass\n"
        "    else: raise AssertionError(name)\n",
    )


def test_status(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch\n"
        "assert mtcp_patch.status()['installed'] is False\n"
        "mtcp_patch.install(exit_linger_ms=9); import socket\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    with socket.create_connection(server.getsockname()) as client:\n"
        "        status = mtcp_patch.status()\n"
        "assert status['settings']['exit_linger_ms'] == {'value': 9, 'origin': 'install() argument'}\n"
        "assert status['settings']['device']['origin'] == 'environment MTCP_PATCH_DEVICE'\n"
        "assert {'_socket.socket', 'os.read', 'os._exit'} <= set(status['patched'])\n"
        "stack = status['stack']\n"
        "assert len(stack['listeners']) == 1 and len(stack['connections']) == 2, stack\n"
        "assert {c['state'] for c in stack['connections']} == {'ESTAB'}\n",
    )


def test_switched_off(runner: Runner) -> None:
    run(runner, "import mtcp_patch; mtcp_patch.install(); assert not mtcp_patch.is_installed()\n", MTCP_PATCH="0")


def test_a_wrong_setting_changes_nothing(runner: Runner) -> None:
    run(
        runner,
        SNAPSHOT + "before = snapshot(); import mtcp_patch; from mtcp_patch.config import ConfigError\n"
        "for wrong in ({'cores': 2}, {'devise': 'memory'}, {'device': ['xdp:none0']}):\n"
        "    try: mtcp_patch.install(**wrong)\n"
        "    except ConfigError: pass\n"
        "    else: raise AssertionError(wrong)\n"
        "assert not mtcp_patch.is_installed() and snapshot() == before\n",
    )


def test_a_child_of_fork_starts_anew(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch, os, socket, sys, warnings; mtcp_patch.install()\n"
        "warnings.simplefilter('ignore')  # 3.12 counts the stack's thread: fork in a multi-threaded process\n"
        "server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname())\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    ok = mtcp_patch.is_installed() and not mtcp_patch.status()['stack']['connections']\n"
        "    own = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(own.getsockname())\n"
        "    c.send(b'x'); ok = ok and own.accept()[0].recv(1) == b'x'\n"
        "    os._exit(0 if ok else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "client.send(b'y'); assert server.accept()[0].recv(1) == b'y'\n",
    )


def test_an_exec_that_fails_costs_no_connection(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch, os, socket; mtcp_patch.install()\n"
        "server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname())\n"
        "for path in ('/nonexistent', '/', '/etc/passwd', None):\n"
        "    for call in (os.execv, os.execvp):\n"
        "        try: call(path, ['x'])\n"
        "        except (OSError, TypeError): pass\n"
        "client.send(b'y'); assert server.accept()[0].recv(1) == b'y'\n",
    )


@pytest.mark.parametrize(
    "how", ["pass", "sys.exit()", "os._exit(0)", "os.execv(sys.executable, [sys.executable, '-c', ''])"]
)
def test_the_stack_is_taken_down_whichever_way_the_program_ends(runner: Runner, how: str) -> None:
    """Seen by its control socket, which goes last. What the peer gets is for tests/e2e."""
    directory = runner.directory / "run"
    directory.mkdir(mode=0o700)
    run(
        runner,
        "import mtcp_patch, os, socket, sys; mtcp_patch.install()\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        f"assert f'{{os.getpid()}}.sock' in os.listdir({str(directory)!r})\n"
        f"{how}\n",
        MTCP_PATCH_RUNTIME_DIR=str(directory),
    )
    assert list(directory.iterdir()) == []


def test_the_example_to_copy_installs_and_chains(runner: Runner) -> None:
    (runner.directory / "ours").mkdir()
    shutil.copy(EXAMPLE, runner.directory / "ours")
    runner.write("theirs/sitecustomize.py", "import sys; sys.marker = 'chained'\n")
    path = f"{runner.directory}/ours:{runner.directory}/theirs"
    code = "import sys, mtcp_patch; print(mtcp_patch.is_installed(), getattr(sys, 'marker', None))\n"
    assert run(runner, code, PYTHONPATH=path).out == "True chained\n"
    assert run(runner, code, PYTHONPATH=path, MTCP_PATCH="0").out == "False chained\n"
    assert run(runner, code, PYTHONPATH=f"{runner.directory}/ours").out == "True None\n"


def test_require_is_enforced_by_install_itself(runner: Runner) -> None:
    """Without the launcher, too: OSError, and nothing installed, when a device cannot be opened."""
    run(
        runner,
        SNAPSHOT + "import mtcp_patch, mtcp_patch.stack._native\n"
        "before = snapshot()\n"
        "import ctypes; header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # without privileges, no device: capset(2)\n"
        "assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0\n"
        "try:\n"
        "    mtcp_patch.install(device=['xdp:lo'], require=True)\n"
        "except OSError as error:\n"
        "    assert 'lo' in str(error), error\n"
        "else:\n"
        "    raise AssertionError('no error')\n"
        "assert not mtcp_patch.is_installed() and snapshot() == before\n"
        "assert socket.socket().fileno() < 1 << 20\n",
        MTCP_PATCH_DEVICE="",
    )


def test_require_with_memory_alone_needs_nothing(runner: Runner) -> None:
    run(
        runner,
        "import mtcp_patch; mtcp_patch.install(device=['memory'], require=True)\nassert mtcp_patch.is_installed()\n",
    )
