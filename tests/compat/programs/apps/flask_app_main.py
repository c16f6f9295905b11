"""The Flask application with one page more, on Werkzeug's server: ``flask_app_main.py PORT``."""

import sys

from flask_app import app


@app.get("/ddtrace")
def modules() -> str:
    return " and ".join(name for name in ("ddtrace", "mtcp_patch") if name in sys.modules)


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
