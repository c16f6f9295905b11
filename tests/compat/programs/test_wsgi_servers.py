"""WSGI servers and frameworks of others, by stock curl and wrk."""

from __future__ import annotations

import pathlib

import pytest
from support import need
from support.probes import PORT, Probe
from support.programs import BOTH

BIND = f"127.0.0.1:{PORT}"


def tls_arguments(certificate: pathlib.Path) -> list[str]:
    """Certificate and key as the programs of apps/ take them."""
    return [str(certificate / "cert.pem"), str(certificate / "key.pem")]


def test_flask(probe: Probe) -> None:
    """``flask run``, threaded Werkzeug."""
    need.module("flask")
    probe.serve(["-m", "flask", "--app", "flask_app", "run", "--port", str(PORT)])
    probe.check_web()


def test_django_runserver(probe: Probe) -> None:
    """``manage.py runserver --noreload``."""
    need.module("django")
    probe.serve(["django_app.py", "runserver", "--noreload", BIND])
    probe.check_web(load=False)  # wrk counts each of its answers as a read error, on the kernel too


def test_waitress(probe: Probe) -> None:
    """waitress-serve, which waits in select()."""
    need.module("waitress")
    probe.serve(["-m", "waitress", f"--listen={BIND}", "wsgi_app:app"])
    probe.check_web()


def test_waitress_poll(probe: Probe) -> None:
    """waitress in poll()."""
    need.module("waitress")
    probe.serve(["-m", "waitress", f"--listen={BIND}", "--asyncore-use-poll", "wsgi_app:app"])
    probe.check_web()


def test_cheroot(probe: Probe) -> None:
    """cheroot's WSGI server."""
    need.module("cheroot")
    probe.serve(["wsgi_servers.py", "cheroot", str(PORT)])
    probe.check_web()


def test_cheroot_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """cheroot over ssl."""
    need.module("cheroot")
    probe.serve(["wsgi_servers.py", "cheroot", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


def test_cherrypy(probe: Probe) -> None:
    """CherryPy's engine."""
    need.module("cherrypy")
    probe.serve(["cherrypy_app.py", str(PORT)])
    probe.check_web()


def test_werkzeug_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """Werkzeug's server over ssl."""
    need.module("werkzeug")
    probe.serve(["wsgi_servers.py", "werkzeug", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


def test_gevent_pywsgi(probe: Probe) -> None:
    """gevent.pywsgi under monkey.patch_all()."""
    need.module("gevent")
    probe.serve(["greenlet_wsgi.py", "gevent", str(PORT)])
    probe.check_web()


@pytest.mark.parametrize("loop", ["libev-cext", "libev-cffi", "libuv-cffi"])
def test_gevent_loops(probe: Probe, loop: str) -> None:
    """pywsgi on each of gevent's loops."""
    need.module("gevent")
    need.module("cffi")
    probe.serve(["greenlet_wsgi.py", "gevent", str(PORT)], environment={"GEVENT_LOOP": loop})
    probe.check_web()


def test_gevent_pywsgi_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """pywsgi over gevent.ssl."""
    need.module("gevent")
    probe.serve(["greenlet_wsgi.py", "gevent", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


def test_eventlet_wsgi(probe: Probe) -> None:
    """eventlet.wsgi under monkey_patch(), on its epolls hub."""
    need.module("eventlet")
    probe.serve(["greenlet_wsgi.py", "eventlet", str(PORT)])
    probe.check_web()


@pytest.mark.parametrize("hub", ["poll", "selects", "asyncio"])
def test_eventlet_hubs(probe: Probe, hub: str) -> None:
    """eventlet.wsgi on its other hubs."""
    need.module("eventlet")
    probe.serve(["greenlet_wsgi.py", "eventlet", str(PORT)], environment={"EVENTLET_HUB": hub})
    probe.check_web()


def test_eventlet_wsgi_tls(probe: Probe, certificate: pathlib.Path) -> None:
    """eventlet.wsgi over its green ssl."""
    need.module("eventlet")
    probe.serve(["greenlet_wsgi.py", "eventlet", str(PORT), *tls_arguments(certificate)])
    probe.check_web(tls=certificate)


def gunicorn(probe: Probe, worker: str, *more: str, app: str = "wsgi_app:app") -> None:
    """gunicorn with two workers of the class: the first that waits takes over the listener made before the fork."""
    need.module("gunicorn")
    probe.serve(["-m", "gunicorn", "-b", BIND, "-w", "2", "-k", worker, *more, app], on=BOTH)
    probe.check_web(on=BOTH)


def test_gunicorn_one_worker(probe: Probe) -> None:
    """As it is by default: one sync worker."""
    need.module("gunicorn")
    probe.serve(["-m", "gunicorn", "-b", BIND, "wsgi_app:app"], on=BOTH)
    probe.check_web(on=BOTH)


def test_gunicorn_sync(probe: Probe) -> None:
    """Sync workers."""
    gunicorn(probe, "sync")


def test_gunicorn_gthread(probe: Probe) -> None:
    """Workers with threads."""
    gunicorn(probe, "gthread", "--threads", "4")


def test_gunicorn_gevent(probe: Probe) -> None:
    """Workers on gevent."""
    need.module("gevent")
    gunicorn(probe, "gevent")


def test_gunicorn_tornado(probe: Probe) -> None:
    """Workers on Tornado's loop."""
    need.module("tornado")
    gunicorn(probe, "tornado", app="tornado_app:app")


def test_django_under_gunicorn(probe: Probe) -> None:
    """A Django project under gunicorn's sync workers."""
    need.module("django")
    gunicorn(probe, "sync", app="django_app:app")
