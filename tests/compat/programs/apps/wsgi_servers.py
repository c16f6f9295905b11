"""WSGI servers that are started from code: ``wsgi_servers.py wsgiref|cheroot|werkzeug PORT [CERTIFICATE KEY]``."""

import sys

from wsgi_app import app

kind, port, *certificate = sys.argv[1:]
host, number = "127.0.0.1", int(port)
if kind == "wsgiref":
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_args):
            pass

    make_server(host, number, app, handler_class=Quiet).serve_forever()
elif kind == "cheroot":
    from cheroot import wsgi
    from cheroot.ssl.builtin import BuiltinSSLAdapter

    server = wsgi.Server((host, number), app)
    if certificate:
        server.ssl_adapter = BuiltinSSLAdapter(*certificate)
    server.start()
else:
    from werkzeug.serving import run_simple

    run_simple(host, number, app, threaded=True, ssl_context=tuple(certificate) or None)
