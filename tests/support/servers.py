"""Real servers from Debian, on the kernel in a probe's namespace: what stands against our clients."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess

from support import need
from support.probes import PORT, Probe, load_app
from support.programs import Program

WWW = "www-data"


def nginx(probe: Probe, directory: pathlib.Path, certificate: pathlib.Path | None = None) -> Program:
    """nginx with a large file, a place for uploads, keep-alive, and TLS if there is a certificate."""
    need.tool("nginx")
    (directory / "www").mkdir()
    (directory / "www" / "big").write_bytes(load_app("content").BIG)
    (directory / "www" / "index.html").write_bytes(load_app("content").HELLO)
    os.chmod(directory / "www", 0o777)
    tls = "ssl" if certificate else ""
    keys = f"ssl_certificate {certificate}/cert.pem; ssl_certificate_key {certificate}/key.pem;" if certificate else ""
    (directory / "nginx.conf").write_text(
        f"daemon off; user {WWW}; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log;"
        f"events {{ worker_connections 256; }} http {{ access_log off; client_max_body_size 50m;"
        f"client_body_temp_path {directory}/body; dav_methods PUT; server {{ listen 127.0.0.1:{PORT} {tls}; {keys}"
        f"root {directory}/www; }} }}"
    )
    config = (directory / "nginx.conf").read_text()
    if "dav" not in subprocess.run(["nginx", "-V"], capture_output=True, text=True, timeout=10, check=False).stderr:
        (directory / "nginx.conf").write_text(config.replace("dav_methods PUT;", ""))
    return probe.tool("nginx", "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log"), port=PORT)


def redis(probe: Probe) -> Program:
    """A redis server without persistence."""
    need.tool("redis-server")
    argv = ("redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no")
    return probe.tool(*argv, port=PORT)


def mariadb(probe: Probe, world: pathlib.Path) -> Program:
    """A MariaDB of its own, whose root needs no password."""
    need.tool("mariadbd")
    data = world / "data"
    data.mkdir()
    shutil.chown(data, "mysql", "mysql")
    subprocess.run(
        ["mariadb-install-db", "--user=mysql", f"--datadir={data}", "--auth-root-authentication-method=normal"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return probe.tool(
        "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", "--bind-address=127.0.0.1", f"--port={PORT}",
        f"--socket={data}/m.sock", f"--pid-file={data}/m.pid", "--innodb-buffer-pool-size=8M", port=PORT,
    )  # fmt: skip


def postgresql(probe: Probe, directory: pathlib.Path, certificate: pathlib.Path) -> Program:
    """A cluster of its own, trusting everybody."""
    binaries = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))), None)
    if binaries is None:
        need.skip("needs PostgreSQL: apt-get install postgresql")
    user = pwd.getpwnam("postgres")
    data = directory / "data"
    data.mkdir()
    os.chown(data, user.pw_uid, user.pw_gid)
    become = ["setpriv", "--reuid=postgres", f"--regid={user.pw_gid}", "--clear-groups"]
    subprocess.run(
        [*become, str(binaries / "initdb"), "-D", str(data), "--auth=trust", "-U", "probe", "--no-sync", "-E", "UTF8"],
        check=True, capture_output=True, timeout=60, cwd="/",
    )  # fmt: skip
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificate / name, data / name)
        os.chown(data / name, user.pw_uid, user.pw_gid)
        os.chmod(data / name, 0o600)
    settings = {
        "port": PORT, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "ssl": "on",
        "ssl_cert_file": "cert.pem", "ssl_key_file": "key.pem", "dynamic_shared_memory_type": "mmap",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return probe.tool(*become, str(binaries / "postgres"), "-D", str(data), *words, port=PORT)


def sshd(probe: Probe, world: pathlib.Path) -> Program:
    """OpenSSH's server, which lets the key ``user`` of the directory in as root."""
    need.tool("sshd")
    os.makedirs("/run/sshd", exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(world / name)], check=True, timeout=20)
    (world / "authorized").write_text((world / "user.pub").read_text())
    (world / "sshd_config").write_text(
        f"Port {PORT}\nListenAddress 127.0.0.1\nHostKey {world}/host\nAuthorizedKeysFile {world}/authorized\n"
        f"PidFile none\nStrictModes no\nPermitRootLogin yes\nUsePAM no\nSubsystem sftp internal-sftp\n"
    )
    return probe.tool(str(shutil.which("sshd")), "-D", "-e", "-f", str(world / "sshd_config"), port=PORT)
