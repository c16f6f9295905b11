"""A WSGI server on greenlets: ``greenlet_wsgi.py gevent|eventlet PORT [CERTIFICATE KEY]``."""

import sys

from wsgi_app import app

library, port, *certificate = sys.argv[1:]
address = ("127.0.0.1", int(port))
if library == "gevent":
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    tls = {"certfile": certificate[0], "keyfile": certificate[1]} if certificate else {}
    WSGIServer(address, app, log=None, **tls).serve_forever()
else:
    import eventlet

    eventlet.monkey_patch()
    from eventlet import wsgi

    sock = eventlet.listen(address)
    if certificate:
        sock = eventlet.wrap_ssl(sock, certfile=certificate[0], keyfile=certificate[1], server_side=True)
    wsgi.server(sock, app, log_output=False)
