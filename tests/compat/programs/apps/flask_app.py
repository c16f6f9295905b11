"""A Flask application: /, /big, and a POST that comes back."""

from content import BIG, HELLO
from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/")
def hello() -> Response:
    return Response(HELLO)


@app.get("/big")
def big() -> Response:
    return Response(BIG)


@app.post("/")
def echo() -> Response:
    return Response(request.get_data())
