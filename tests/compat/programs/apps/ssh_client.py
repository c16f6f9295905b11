"""A command over SSH by paramiko, to apps/ssh_server.py."""

import paramiko

client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect("127.0.0.1", 8000, "user", "secret", allow_agent=False, look_for_keys=False, timeout=20)
_, out, _ = client.exec_command("what comes back", timeout=20)
assert out.read() == b"what comes back" * 20_000
assert out.channel.recv_exit_status() == 7
client.close()
print("the same")
