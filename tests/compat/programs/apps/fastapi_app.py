"""A FastAPI application: /, /big, and a POST that comes back."""

from content import BIG, HELLO
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.get("/")
async def hello() -> Response:
    return Response(HELLO)


@app.get("/big")
def big() -> Response:  # not async: it runs in anyio's thread pool
    return Response(BIG)


@app.post("/")
async def echo(request: Request) -> Response:
    return Response(await request.body())
