"""Programs of several processes: reloaders, workers that are handed a listener, multiprocessing."""

from __future__ import annotations

import pathlib
import shutil
import signal

import pytest
from support import need
from support.probes import APPS, PATIENCE_SECONDS, PORT, Probe
from support.programs import BOTH, KERNEL, OURS, Program, wait_until

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def sources(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the web applications, to be edited under a reloader."""
    directory = tmp_path / "sources"
    directory.mkdir()
    for name in ("content", "wsgi_app", "asgi_app", "flask_app", "django_app"):
        shutil.copy(APPS / f"{name}.py", directory)
    return directory


def edit(probe: Probe, sources: pathlib.Path) -> None:
    """Changes what is served and waits until that is what comes."""
    content = sources / "content.py"
    content.write_text(content.read_text().replace('b"hello\\n"', 'b"changed\\n"'))
    curl = ["curl", "-sS", "--max-time", "25", f"http://127.0.0.1:{PORT}/"]
    answers: list[str] = []

    def changed() -> bool:
        answers.append(probe.ns.run(*curl, check=False).stdout)
        return answers[-1] == "changed\n"

    wait_until(changed, lambda: f"the program was reloaded: {answers[-3:]}", PATIENCE_SECONDS)


def serving(probe: Probe) -> set[int]:
    """The processes that have a listener on our stack; none on the kernel."""
    return {document["pid"] for document in probe.documents() if document["listeners"]}


def another_serves(probe: Probe, before: set[int], program: Program) -> None:
    """Waits until a process has the listener that had it not; the port is served all the while."""
    curl = ["curl", "-sS", "--max-time", "25", f"http://127.0.0.1:{PORT}/"]

    def taken_over() -> bool:
        assert probe.ns.run(*curl).stdout == "hello\n"
        return probe.stack == KERNEL or bool(serving(probe) - before)

    wait_until(taken_over, program.stderr, PATIENCE_SECONDS)


def test_werkzeug_reloader(probe: Probe, sources: pathlib.Path) -> None:
    """``flask --debug run``: the parent binds and listens, each child in turn accepts."""
    need.module("flask")
    argv = ["-m", "flask", "--app", "flask_app", "--debug", "run", "--port", str(PORT)]
    probe.serve(argv, on=BOTH, cwd=sources)
    probe.check_web(on=BOTH)
    edit(probe, sources)


def test_uvicorn_reloader(probe: Probe, sources: pathlib.Path) -> None:
    """``uvicorn --reload``: the parent binds, each child in turn listens."""
    need.module("uvicorn")
    argv = ["-m", "uvicorn", "--port", str(PORT), "--no-access-log", "--reload", "asgi_app:app"]
    probe.serve(argv, on=BOTH, cwd=sources)
    probe.check_web(on=BOTH)
    edit(probe, sources)


def test_django_reloader(probe: Probe, sources: pathlib.Path) -> None:
    """``manage.py runserver``: each child binds for itself."""
    need.module("django")
    probe.serve(["django_app.py", "runserver", f"127.0.0.1:{PORT}"], cwd=sources)
    probe.check_web(load=False)
    edit(probe, sources)


def test_uvicorn_workers(probe: Probe) -> None:
    """``uvicorn --workers 2``: both are handed the bound socket by multiprocessing's spawn."""
    need.module("uvicorn")
    probe.serve(["-m", "uvicorn", "--port", str(PORT), "--no-access-log", "--workers", "2", "asgi_app:app"], on=BOTH)
    probe.check_web(on=BOTH)


def test_gunicorn_hup(probe: Probe) -> None:
    """gunicorn's reload on SIGHUP: new children on the same listener."""
    need.module("gunicorn")
    program = probe.serve(["-m", "gunicorn", "-b", f"127.0.0.1:{PORT}", "-w", "2", "wsgi_app:app"], on=BOTH)
    before = serving(probe)
    program.send_signal(signal.SIGHUP)
    wait_until(lambda: "Handling signal: hup" in program.stderr(), program.stderr)
    another_serves(probe, before, program)
    probe.check_web(on=BOTH)


def test_gunicorn_usr2(probe: Probe, tmp_path: pathlib.Path) -> None:
    """gunicorn replaces itself on SIGUSR2: the new one inherits the listener by exec, and the old one goes."""
    need.module("gunicorn")
    pid_file = tmp_path / "pid"
    argv = ["-m", "gunicorn", "-b", f"127.0.0.1:{PORT}", "-w", "2", "-p", str(pid_file), "wsgi_app:app"]
    program = probe.serve(argv, on=BOTH)
    before = serving(probe)
    program.send_signal(signal.SIGUSR2)
    wait_until(lambda: pid_file.with_name("pid.2").exists(), program.stderr)
    assert program.stop(signal.SIGTERM) == 0, program.stderr()
    wait_until(lambda: pid_file.exists() and int(pid_file.read_text()) != program.pid, program.stderr)
    another_serves(probe, before, program)
    probe.check_web(on=BOTH)


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_listener(probe: Probe, method: str) -> None:
    """A listener as an argument of Process: the child, which alone accepts on it, takes it over."""
    said, _space, carried = probe.run([str(APPS / "mp_listener.py"), method], expect=None).strip().rpartition(" ")
    assert said == "child says hello", said
    probe.record(BOTH if int(carried) else KERNEL, int(carried))
    assert (int(carried) > 0) == (probe.stack == OURS), carried


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_connection(probe: Probe, method: str) -> None:
    """multiprocessing.connection over TCP between parent and child: the parent's side on the stack.

    With fork its listener is the kernel's until the parent waits on it, and the only connection may come before.
    """
    expect = None if method == "fork" else OURS
    assert "the same" in probe.run([str(APPS / "mp_connection.py"), method], expect=expect, least=1_000_000)


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_manager(probe: Probe, method: str) -> None:
    """A manager that serves over TCP in a process of its own, and a pool whose workers use it."""
    assert "the same" in probe.run([str(APPS / "mp_manager.py"), method])


@pytest.mark.parametrize("method", METHODS)
def test_futures_process_pool(probe: Probe, method: str) -> None:
    """concurrent.futures: workers that make requests of their own to a server in the parent."""
    assert "the same" in probe.run([str(APPS / "mp_futures.py"), method], least=1_000_000)
