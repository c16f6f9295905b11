"""A debugger's side of the debug adapter protocol: ``debugpy_client.py DEBUG_PORT WEB_PORT``.

It attaches, sets a breakpoint in stdlib_https.py, makes a request that stops there, looks at a variable, lets go.
"""

import json
import os
import socket
import sys
import threading
import urllib.request

debug_port, web_port = map(int, sys.argv[1:])
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stdlib_https.py")
with open(path) as source:
    line = next(number for number, text in enumerate(source, 1) if "self.send_response(200)" in text)

sock = socket.create_connection(("127.0.0.1", debug_port), timeout=30)
stream = sock.makefile("rwb")
sequence = 0
events = []


def send(command, **arguments):
    global sequence
    sequence += 1
    body = json.dumps({"seq": sequence, "type": "request", "command": command, "arguments": arguments}).encode()
    stream.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    stream.flush()
    return sequence


def receive():
    length = 0
    while (header := stream.readline().strip()) != b"":
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return json.loads(stream.read(length))


def answer(number):
    while True:
        message = receive()
        if message["type"] == "event":
            events.append(message)
        elif message["type"] == "response" and message["request_seq"] == number:
            assert message["success"], message
            return message.get("body", {})


def event(name):
    while True:
        for known in events:
            if known["event"] == name:
                events.remove(known)
                return known.get("body", {})
        message = receive()
        if message["type"] == "event":
            events.append(message)


answer(send("initialize", adapterID="probe", pathFormat="path", linesStartAt1=True, columnsStartAt1=True))
attach = send("attach", justMyCode=False)
event("initialized")
answer(send("setBreakpoints", source={"path": path}, breakpoints=[{"line": line}]))
answer(send("configurationDone"))
answer(attach)

replies = []
client = threading.Thread(
    target=lambda: replies.append(urllib.request.urlopen(f"http://127.0.0.1:{web_port}/", timeout=30).read())
)
client.start()
thread = event("stopped")["threadId"]
frame = answer(send("stackTrace", threadId=thread))["stackFrames"][0]
assert frame["line"] == line, frame
value = answer(send("evaluate", expression="body", frameId=frame["id"]))["result"]
assert value == "b'hello\\n'", value
answer(send("setBreakpoints", source={"path": path}, breakpoints=[]))
answer(send("continue", threadId=thread))
client.join(30)
assert replies == [b"hello\n"], replies
answer(send("disconnect", terminateDebuggee=False))
print("stopped and went on")
