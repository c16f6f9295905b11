"""An SSH server of paramiko that repeats the command many times."""

import socket
import threading

import paramiko

key = paramiko.RSAKey.generate(2048)


class Server(paramiko.ServerInterface):
    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL if (username, password) == ("user", "secret") else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel, command):
        threading.Timer(0.2, run, args=(channel, command)).start()  # after the reply to the request
        return True


def run(channel, command):
    channel.sendall(command * 20_000)
    channel.send_exit_status(7)
    channel.close()


listener = socket.create_server(("127.0.0.1", 8000))
transports = []
while True:
    sock, _ = listener.accept()
    transport = paramiko.Transport(sock)
    transport.add_server_key(key)
    transport.start_server(server=Server())
    transports.append(transport)
