"""Fixtures of the scenarios. A missing binary or peer fails the run with the way out; nothing is skipped."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import pathlib
import shutil

import pytest

import rig


@pytest.fixture(scope="session", autouse=True)
def the_binary():
    return rig.binary()


@pytest.fixture
def place():
    """A short directory of the test's own: Unix socket paths have a limit of 107 bytes."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="otr-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def ending():
    """Processes to end when the test is over, last first."""
    started = []
    yield started
    for process in reversed(started):
        process.end()


@pytest.fixture
def start(place, ending):
    """start(config, command, …) runs outrider; without an admin port of its own choice it takes an ephemeral one."""

    def starter(config=None, command=(), **options):
        if isinstance(config, dict):
            config = {"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}, **config}
        process = rig.Outrider(place, config, command, **options)
        ending.append(process)
        return process

    return starter


@pytest.fixture
def python_app():
    """python_app(name, …) is the command of a Python program of Tests/Scenarios/apps."""
    return lambda name, *arguments: [sys.executable, "-u", str(rig.APPS / name), *map(str, arguments)]


@pytest.fixture
def peer(place, ending):
    def starter(script, name=None, *arguments):
        process = rig.Peer(place, script, name, arguments)
        ending.append(process)
        return process

    return starter


@pytest.fixture
def nginx(place, ending):
    """nginx(body) serves the text on an ephemeral port; nginx(server=text) has that `server` block with PORT filled in."""

    def starter(body="hello from nginx\n", server=None):
        port, directory = rig.free_port(), place / "nginx"
        directory.mkdir()
        server = server or f"listen 127.0.0.1:PORT; location / {{ return 200 {json.dumps(body)}; }}"
        (directory / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {directory}/pid; error_log stderr;\n"
            "events { worker_connections 512; }\n"
            "http { access_log off; keepalive_requests 1000000; client_max_body_size 0;\n"
            + "".join(f"{kind}_temp_path {directory}/{kind};\n"
                      for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"server {{ {server.replace('PORT', str(port))} }} }}\n")
        process = rig.Process([rig.tool("nginx"), "-c", directory / "nginx.conf", "-p", directory], place, "nginx")
        ending.append(process)
        rig.wait_until(lambda: rig.accepts(port), "nginx to listen")
        return port

    return starter


@pytest.fixture
def certificates(place):
    """certificates(name, …) makes an authority `ca.pem` and, signed by it, NAME.pem with NAME.key for each name."""

    def openssl(*arguments):
        subprocess.run([rig.tool("openssl"), *map(str, arguments)], check=True, capture_output=True)

    def maker(*names):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", "-x509", *key, "-keyout", place / "ca.key", "-out", place / "ca.pem", "-days", "2",
                "-subj", "/CN=test authority")
        for name in names:
            openssl("req", *key, "-keyout", place / f"{name}.key", "-out", place / f"{name}.csr", "-subj", f"/CN={name}")
            (place / f"{name}.ext").write_text(f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1\n")
            openssl("x509", "-req", "-in", place / f"{name}.csr", "-CA", place / "ca.pem", "-CAkey", place / "ca.key",
                    "-CAcreateserial", "-days", "2", "-out", place / f"{name}.pem", "-extfile", place / f"{name}.ext")
        return place / "ca.pem"

    return maker


class Bao:
    """An OpenBao development server with the root token `root`."""

    def __init__(self, place):
        self.port = rig.free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        home = place / "bao-home"
        home.mkdir()
        self.process = rig.Process(
            [rig.tool("bao"), "server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token",
             f"-dev-listen-address=127.0.0.1:{self.port}"], place, "bao", env={"HOME": str(home)})
        rig.wait_until(
            lambda: rig.status_of(self.port, "/v1/sys/health", timeout=5) == 200, "OpenBao to answer")

    def api(self, method, path, body=None):
        reply = rig.request(
            self.port, f"/v1/{path}", method, json.dumps(body) if body is not None else None,
            {"X-Vault-Token": "root", "Content-Type": "application/json"})
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.text}"
        return json.loads(reply.body) if reply.body else {}

    def end(self):
        # The launcher may be a parent of the server itself.
        family = rig.descendants(self.process.pid)
        self.process.end()
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def bao(place, ending):
    server = Bao(place)
    ending.append(server)
    return server


@pytest.fixture
def osmem():
    """An in-memory server that speaks the OpenSearch API; its port."""
    from osmem_server import OsmemServer

    with OsmemServer.start(japanese=False) as server:
        yield server


@pytest.fixture
def age_store(place):
    """age_store(text) encrypts a YAML text with the real age; returns (file, identity)."""
    identity = place / "identity.txt"
    subprocess.run([rig.tool("age-keygen"), "-o", identity], check=True, capture_output=True)
    identity.chmod(0o600)

    def encrypt(text, name="secrets.age"):
        recipient = subprocess.run(
            [rig.tool("age-keygen"), "-y", identity], check=True, capture_output=True, text=True).stdout.strip()
        temporary = place / f"{name}.new"
        subprocess.run([rig.tool("age"), "-r", recipient, "-o", temporary], input=text.encode(), check=True)
        temporary.replace(place / name)
        return place / name, identity

    return encrypt
