"""paramiko with sshd: a command, a megabyte by SFTP both ways, a forwarded connection: ``ssh.py PORT KEY``."""

import io
import os
import sys

import paramiko

port, key = sys.argv[1:]
with paramiko.SSHClient() as client:
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", int(port), "root", key_filename=key, allow_agent=False, look_for_keys=False, timeout=20)
    _, out, _ = client.exec_command("echo over ssh; exit 7", timeout=20)
    assert out.read() == b"over ssh\n"
    assert out.channel.recv_exit_status() == 7
    large = bytes(range(256)) * 4000
    with client.open_sftp() as sftp:
        path = f"/tmp/probe-sftp-{os.getpid()}"
        sftp.putfo(io.BytesIO(large), path)
        back = io.BytesIO()
        sftp.getfo(path, back)
        assert back.getvalue() == large
        sftp.remove(path)
    with client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", int(port)), ("127.0.0.1", 1)) as channel:
        channel.settimeout(20)
        assert channel.recv(8).startswith(b"SSH-2.0")
print("done")
