"""nginx with WebDAV uploads, over http and https, in a directory of its own; stopped at the end.

`/open/` takes anything, `/private/` wants the user and password below, `/small/` refuses more than
64 KiB with 413. All three are directories of `root` with the same names.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.ports import free_port
from tests.support.require import require

USER, PASSWORD = "device", "p4ssw0rd-of-nginx"
SMALL_BYTES = 64 << 10

_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {work}/pid; error_log {work}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; root {work}/root; client_body_temp_path {work}/body;
  proxy_temp_path {work}/t1; fastcgi_temp_path {work}/t2; uwsgi_temp_path {work}/t3; scgi_temp_path {work}/t4;
  client_max_body_size 0; dav_methods PUT DELETE; create_full_put_path on; dav_access user:rw;
  server {{
    listen 127.0.0.1:{http_port};
    listen 127.0.0.1:{https_port} ssl;
    ssl_certificate {work}/server.pem; ssl_certificate_key {work}/server.pem;
    location /open/ {{ }}
    location /small/ {{ client_max_body_size 64k; }}
    location /private/ {{ auth_basic closed; auth_basic_user_file {work}/users; }}
    {locations}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    root: Path
    http_url: str
    https_url: str
    ca_file: Path


@contextmanager
def nginx(work: Path, locations: str = "") -> Iterator[Nginx]:
    """A running server with further `locations`, which keeps everything below `work`.

    It skips the test when nginx is not installed.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    require(program is not None, "nginx with WebDAV (Debian: nginx-light)")
    assert program is not None
    for name in ("open", "private", "small"):
        (work / "root" / name).mkdir(parents=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(work / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(work / "server.pem"))
    (work / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    http_port, https_port = free_port(), free_port()
    ports = {"http_port": http_port, "https_port": https_port}
    (work / "nginx.conf").write_text(_CONFIG.format(work=work, locations=locations, **ports))
    process = subprocess.Popen(
        [program, "-p", str(work), "-e", f"{work}/error.log", "-c", f"{work}/nginx.conf"]
    )
    try:
        _wait_until_listening(process, https_port)
        yield Nginx(
            work / "root", f"http://127.0.0.1:{http_port}", f"https://127.0.0.1:{https_port}", work / "ca.pem"
        )
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, "nginx ended at once: see its error.log"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("nginx does not listen")
