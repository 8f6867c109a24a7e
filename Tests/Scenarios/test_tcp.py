"""TCP listeners, PROXY headers and protocol detection, with the real HAProxy, nginx and PostgreSQL."""

import glob
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading

import pytest

import rig
from rig import wait_until


def get_from(source, port, path="/"):
    """A GET from that address of the loopback network."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


@pytest.fixture
def haproxy(place, ending):
    def starter(body, name="haproxy"):
        path = place / f"{name}.cfg"
        path.write_text(
            "global\n  log stderr format raw local0 warning\ndefaults\n  mode http\n  timeout connect 10s\n"
            "  timeout client 60s\n  timeout server 60s\n" + body)
        process = rig.Process([rig.tool("haproxy"), "-db", "-f", path], place, name)
        ending.append(process)
        return process

    return starter


@pytest.fixture
def nginx_with(place, ending):
    def starter(body, name="nginx-own"):
        directory = place / name
        directory.mkdir()
        paths = "".join(f"{kind}_temp_path {directory}/{kind}; "
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        load = f"load_module {module};\n" if os.path.exists(module) else ""
        (directory / "nginx.conf").write_text(
            f"{load}daemon off; master_process off; pid {directory}/pid; error_log stderr;\nevents {{ }}\n"
            + body.replace("HTTP_PATHS", "access_log off; " + paths))
        process = rig.Process([rig.tool("nginx"), "-c", directory / "nginx.conf", "-p", directory], place, name)
        ending.append(process)
        return process

    return starter


def shop(start, python_app, **listener):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
         "inbound": {"web": {"listen": f"127.0.0.1:{port}", **listener}}},
        python_app("web.py", app_port)).wait_ready()
    return process, port


@pytest.mark.parametrize("version,word", [
    ("v1", "send-proxy"), ("v2", "send-proxy-v2"), ("v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority")])
def test_haproxy_tells_the_clients_address(start, python_app, haproxy, version, word):
    process, port = shop(start, python_app, proxy_protocol=version)
    front = rig.free_port()
    haproxy(f"frontend f\n  bind 127.0.0.1:{front}\n  unique-id-format %pid%rt\n  default_backend b\n"
            f"backend b\n  server s 127.0.0.1:{port} {word}\n")
    wait_until(lambda: rig.status_of(front) == 200, "HAProxy to answer")
    status, text = get_from("127.0.0.9", front, "/from-nine")
    fields = {name.lower(): value for name, value in json.loads(text)["headers"]}
    assert status == 200 and fields["x-forwarded-for"] == "127.0.0.9", text
    (line,) = wait_until(
        lambda: [l for l in process.logs("--source", "access") if "/from-nine" in l], "the access record")
    assert "127.0.0.9" in line
    # Without the header there is no way in.
    assert rig.raw_exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    wait_until(lambda: "refused a connection" in process.stderr, "the line about the refusal")
    process.stop()


def test_nginx_stream_tells_the_clients_address(start, python_app, nginx_with):
    process, port = shop(start, python_app, proxy_protocol="v1")
    front = rig.free_port()
    nginx_with(f"stream {{ server {{ listen 127.0.0.1:{front}; proxy_pass 127.0.0.1:{port}; proxy_protocol on; }} }}\n")
    wait_until(lambda: rig.status_of(front) == 200, "nginx to answer")
    status, text = get_from("127.0.0.8", front)
    assert status == 200 and '"127.0.0.8"' in text, text
    process.stop()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_and_nginx_are_told_the_clients_address(start, haproxy, nginx_with, version):
    peers = {"haproxy": rig.free_port(), "nginx": rig.free_port()}
    ports = {name: rig.free_port() for name in peers}
    haproxy(f"frontend f\n  bind 127.0.0.1:{peers['haproxy']} accept-proxy\n"
            '  http-request return status 200 content-type text/plain lf-string "%[src]"\n')
    nginx_with(f"http {{ HTTP_PATHS server {{ listen 127.0.0.1:{peers['nginx']} proxy_protocol; "
               'location / { return 200 "$proxy_protocol_addr"; } } }\n')
    process = start(
        {"outbound": {name: {"listen": f"127.0.0.1:{ports[name]}", "to": name} for name in peers},
         "clusters": {name: {"endpoints": [f"127.0.0.1:{peers[name]}"], "proxy_protocol": version} for name in peers}},
        ["sleep", "300"]).wait_ready()
    for name, port in ports.items():
        wait_until(lambda: rig.status_of(port) == 200, f"{name} to answer")
        for source in ["127.0.0.3", "127.0.0.4", "127.0.0.3"]:
            assert get_from(source, port) == (200, source), name
    process.stop()


# MARK: PostgreSQL

def as_postgres(*argv):
    """The command as user postgres, which the server insists on when the tests run as root."""
    return ["runuser", "-u", "postgres", "--", *map(str, argv)] if os.geteuid() == 0 else [str(a) for a in argv]


@pytest.fixture
def postgres(place, ending):
    """(port, socket path) of a real server with its data in the test's directory."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    assert found, "PostgreSQL is not installed: run dev/setup.sh test"
    tools, data, port = found[-1], place / "pg", rig.free_port()
    data.mkdir()
    if os.geteuid() == 0:
        place.chmod(0o755)
        shutil.chown(data, "postgres")
    subprocess.run(as_postgres(f"{tools}/initdb", "-D", data / "d", "-U", "postgres", "-A", "trust", "--no-sync"),
                   check=True, capture_output=True, cwd="/")
    process = rig.Process(
        as_postgres(f"{tools}/postgres", "-D", data / "d", "-p", port, "-k", data, "-c", "listen_addresses=127.0.0.1",
                    "-c", "fsync=off"), place, "postgres", cwd="/")
    ending.append(process)
    path = data / f".s.PGSQL.{port}"
    wait_until(lambda: path.exists() and accepts(port), "PostgreSQL to accept connections")
    return port, path


def psql(port, sql, timeout=60):
    result = subprocess.run(
        [rig.tool("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-X", "-A", "-t", "-c", sql],
        capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_postgresql_through_listeners(start, postgres):
    server, path = postgres
    ports = {name: rig.free_port() for name in ("tcp", "auto", "unix")}
    process = start(
        {"outbound": {
            "tcp": {"listen": f"127.0.0.1:{ports['tcp']}", "to": f"tcp://127.0.0.1:{server}"},
            "auto": {"listen": f"127.0.0.1:{ports['auto']}", "to": f"http://127.0.0.1:{server}"},
            "unix": {"listen": f"127.0.0.1:{ports['unix']}", "protocol": "tcp", "to": f"unix:{path}"}}},
        ["sleep", "300"]).wait_ready()
    for name, port in ports.items():
        assert wait_until(lambda: psql(port, "select 6 * 7").strip() == "42", name)
        rows = psql(port, "select i, repeat('x', 200) from generate_series(1, 20000) i").splitlines()
        assert len(rows) == 20000 and rows[-1] == "20000|" + "x" * 200, name
        psql(port, f"create table t_{name} (i int)")
        # COPY in: the client speaks for long.
        copied = subprocess.run(
            [rig.tool("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-X", "-c",
             f"copy t_{name} from stdin"], input="\n".join(map(str, range(200000))) + "\n", capture_output=True,
            text=True, timeout=60)
        assert copied.returncode == 0 and "COPY 200000" in copied.stdout, copied.stderr
        assert psql(port, f"select count(*), sum(i) from t_{name}").strip() == "200000|19999900000"
    process.stop()


# MARK: ends and greetings

def test_half_close_through_netcat_like_ends(start, peer, place, ending):
    """What is asked ends first, and the answer, which is larger, still comes whole."""
    upstream = socket.create_server(("127.0.0.1", 0))
    port = rig.free_port()
    process = start(
        {"outbound": {"echo": {"listen": f"127.0.0.1:{port}", "protocol": "tcp",
                               "to": f"tcp://127.0.0.1:{upstream.getsockname()[1]}"}}}, ["sleep", "300"]).wait_ready()

    def serve():
        while True:
            try:
                connection, _ = upstream.accept()
            except OSError:
                return
            with connection:
                received = b""
                while piece := connection.recv(65536):
                    received += piece
                connection.sendall(received * 20)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    body = os.urandom(400_000)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(body)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer == body * 20
    upstream.shutdown(socket.SHUT_RDWR)
    upstream.close()
    process.stop()


def test_a_greeting_passes_an_auto_listener_at_once(start):
    upstream = socket.create_server(("127.0.0.1", 0))
    port = rig.free_port()
    process = start(
        {"outbound": {"mail": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream.getsockname()[1]}"}}},
        ["sleep", "300"]).wait_ready()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            connection, _ = upstream.accept()
            with connection:
                connection.sendall(b"220 mail ready\r\n")
                assert client.recv(100) == b"220 mail ready\r\n"
                client.sendall(b"EHLO me\r\n")
                assert connection.recv(100) == b"EHLO me\r\n"
    upstream.close()
    process.stop()
