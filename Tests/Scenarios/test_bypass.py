"""`outrider bypass`: inbound connections pass the proxy by, loudly and for a while."""

import hashlib
import http.client
import re
import socket

import pytest

import rig
from rig import wait_until


@pytest.fixture
def shop(start, python_app):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}},
        python_app("web.py", app_port)).wait_ready()
    process.port, process.app_port = port, app_port
    return process


def bypass(process, *arguments):
    return rig.run("bypass", *arguments, "--state", process.state)


def is_seen(port):
    """Whether the proxy had its hands in the request: it adds an id."""
    return any(name.lower() == "x-request-id" for name, _ in rig.request(port, "/").json["headers"])


def test_on_and_off_loudly(shop):
    assert is_seen(shop.port)
    kept = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=20)
    kept.request("GET", "/")
    assert kept.getresponse().read() and kept.sock is not None
    result = bypass(shop, "on", "--for", "5m")
    assert result.returncode == 0 and "bypass is ON for 5m" in result.stdout
    assert not is_seen(shop.port)
    kept.request("GET", "/")
    answer = kept.getresponse()
    assert answer.read() and answer.headers["Connection"] == "close", "an open connection must end with its answer"
    body = bytes(range(256)) * 12000
    reply = rig.request(shop.port, "/", "POST", body)
    assert reply.json["sha256"] == hashlib.sha256(body).hexdigest()
    assert len(rig.request(shop.port, "/bytes/3000000").body) == 3_000_000
    assert "bypass is ON for another 5m" in shop.stderr
    assert "BYPASS" in rig.run("status", "--state", shop.state).stdout
    assert 0 < shop.admin("/status").json["bypass"]["seconds_left"] <= 300
    metrics = shop.admin("/metrics").text
    assert "outrider_bypass_active 1" in metrics
    assert int(re.search(r"outrider_bypass_connections_total (\d+)", metrics)[1]) == 3
    assert "on for another" in bypass(shop, "show").stdout
    assert bypass(shop, "off").stdout.startswith("bypass is off")
    assert is_seen(shop.port)
    assert "outrider_bypass_active 0" in shop.admin("/metrics").text
    assert bypass(shop, "show", "--output", "json").stdout.startswith('{"on":false')
    assert bypass(shop, "off").stdout == "bypass was off\n"
    assert shop.stop() == 0


def test_it_ends_by_itself_and_takes_idle_connections_with_it(shop):
    assert bypass(shop, "on", "--for", "2s").returncode == 0
    with socket.create_connection(("127.0.0.1", shop.port), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        rest = b""
        while piece := connection.recv(65536):
            rest += piece
    wait_until(lambda: "bypass is off, its time is over" in shop.stderr, "the line that says so")
    assert is_seen(shop.port)
    assert shop.admin("/status").json.get("bypass") is None
    assert shop.stop() == 0


def test_a_stop_does_not_wait_for_idle_ones(shop):
    assert bypass(shop, "on").returncode == 0
    with socket.create_connection(("127.0.0.1", shop.port), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert shop.stop() == 0
        assert "cut: inbound" not in shop.stderr


def test_who_may_not_and_what_cannot(shop, start, place, ending):
    port = int(shop.config_path.read_text().split('"listen": "127.0.0.1:')[1].split('"')[0])
    assert rig.request(port, "/bypass?for=1m", "POST").status == 404, "the network port must not offer it"
    assert rig.request(shop.socket, "/bypass?for=25h", "POST").status == 400
    assert bypass(shop, "on", "--for", "soon").returncode == 64
    assert is_seen(shop.port)
    (place / "bare").mkdir()
    bare = rig.Outrider(place / "bare", {"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}}, ["sleep", "60"])
    ending.append(bare)
    bare.wait_ready()
    result = bypass(bare, "on")
    assert result.returncode == 1 and "app.port" in result.stderr
