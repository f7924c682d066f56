"""Through a proxy: nginx in front of the Unix listener, as most sites will have it."""
import os
import shutil
import subprocess
import tempfile
import time

from harness import Server, check, cookie_header, cookies, free_port, not_ok, ok
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ORIGIN = "https://example.com"
CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://unix:{socket};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host $host;
            proxy_read_timeout 60s;
        }}
    }}
}}
"""


def start(folder, port, socket):
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(CONFIG.format(folder=folder, port=port, socket=socket))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen([program, "-p", folder, "-c", config, "-e", os.path.join(folder, "error.log")])


def opened(port, login, origin=ORIGIN):
    headers = {"Cookie": cookie_header(login)}
    end = time.monotonic() + 10
    while True:
        try:
            return connect(f"ws://127.0.0.1:{port}/", additional_headers=headers, origin=origin, compression=None)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def steps(server, port):
    login = cookies()
    with opened(port, login) as client:
        ok("nginx connect")
        for name, message in [("text", "hällo"), ("binary", b"\x00\xff"), ("large", "x" * 60000)]:
            client.send(message)
            check(f"nginx {name}", client.recv(timeout=10), message)
        with server.backend() as backend:
            backend.command("c", login["token"].encode() + b"direct")
            check("nginx backend's reply", backend.reply(), ("A", login["token"].encode()))
        check("nginx direct", client.recv(timeout=10), "direct")
        client.close(4001)
        check("nginx close", client.protocol.close_rcvd.code, 4001)
    try:
        opened(port, login, "https://example.org").close()
        not_ok("nginx refused", "it was let in")
    except InvalidStatus as error:
        check("nginx refused", error.response.status_code, 403)


def test():
    with Server([ORIGIN], top=['on_message = "echo"']) as server:
        folder = tempfile.mkdtemp(prefix="wsson-nginx-")
        port = free_port()
        try:
            process = start(folder, port, os.path.join(server.folder, "server.sock"))
        except FileNotFoundError:
            shutil.rmtree(folder)
            return not_ok("nginx", "it is not installed")
        try:
            steps(server, port)
        except Exception as error:
            not_ok("nginx", repr(error))
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(folder)
