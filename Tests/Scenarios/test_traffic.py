"""Inbound and outbound traffic through the real binary, with real clients, apps and upstreams."""

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading

import pytest

import rig
from rig import wait_until


@pytest.fixture
def shop(start, python_app):
    """Outrider in front of a web app. shop(**listener keys) returns (process, inbound port, app port)."""

    def starter(**listener):
        app_port, port = rig.free_port(), rig.free_port()
        process = start(
            {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
             "inbound": {"web": {"listen": f"127.0.0.1:{port}", **listener}}},
            python_app("web.py", app_port)).wait_ready()
        return process, port, app_port

    return starter


@pytest.fixture
def payments(start, peer):
    """Outrider as the way out to a flaky upstream. Returns (process, outbound port, upstream)."""

    def starter(**listener):
        upstream, port = peer("flaky_upstream.py"), rig.free_port()
        process = start(
            {"outbound": {"payments": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream.port}",
                                       **listener}}}, ["sleep", "300"]).wait_ready()
        return process, port, upstream

    return starter


def test_inbound_reaches_the_app(shop):
    process, port, _ = shop()
    body = os.urandom(100_000)
    reply = rig.request(port, "/some/path?q=1", "POST", body, {"X-Mine": "kept", "Connection": "x-gone", "X-Gone": "1"})
    seen = reply.json
    assert (reply.status, seen["method"], seen["path"], seen["length"]) == (200, "POST", "/some/path?q=1", len(body))
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()
    fields = {name.lower(): value for name, value in seen["headers"]}
    assert fields["x-mine"] == "kept" and "x-gone" not in fields
    assert fields["x-request-id"] and fields["x-forwarded-for"] and fields["host"] == f"127.0.0.1:{port}"
    process.stop()


def test_inbound_chunked_head_large_and_pipelined(shop):
    process, port, _ = shop()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/", iter([b"a" * 70_000, b"b" * 5]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    assert json.loads(connection.getresponse().read())["length"] == 70_005
    connection.request("HEAD", "/")
    head = connection.getresponse()
    assert head.status == 200 and head.read() == b""
    connection.request("GET", "/bytes/30000000")
    assert len(connection.getresponse().read()) == 30_000_000
    two = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = rig.raw_exchange(port, two)
    assert answer.index(b'"/one"') < answer.index(b'"/two"')
    process.stop()


def test_app_errors_pass_untouched(shop):
    process, port, _ = shop()
    reply = rig.request(port, "/fail")
    assert (reply.status, reply.body) == (500, b"the app's own failure\n")
    assert "Proxy-Status" not in reply.headers
    process.stop()


def test_many_clients_under_wrk(shop):
    process, port, _ = shop()
    result = subprocess.run(
        [rig.tool("wrk"), "-t", "1", "-c", "32", "-d", "3s", f"http://127.0.0.1:{port}/bytes/100"],
        capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert "Socket errors" not in result.stdout and "Non-2xx" not in result.stdout, result.stdout
    assert int(re.search(r"(\d+) requests in", result.stdout).group(1)) > 100
    process.stop()


def test_access_records_are_a_log_source(shop):
    process, port, _ = shop()
    rig.request(port, "/seen", headers={"X-Request-Id": "11112222-3333-4444-5555-666677778888"})
    (line,) = wait_until(
        lambda: [l for l in process.logs("--source", "access") if "/seen" in l], "the access record")
    record = json.loads(line)
    assert "GET" in line and "200" in line and isinstance(record, dict)
    process.stop()


def test_nginx_as_upstream(start, nginx):
    upstream, port = nginx("hello from nginx\n"), rig.free_port()
    process = start(
        {"outbound": {"web": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream}"}}},
        ["sleep", "300"]).wait_ready()
    assert rig.request(port, "/").text == "hello from nginx\n"
    result = subprocess.run(
        [rig.tool("wrk"), "-t", "1", "-c", "64", "-d", "3s", f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, timeout=60)
    assert "Socket errors" not in result.stdout and "Non-2xx" not in result.stdout, result.stdout
    process.stop()


def test_get_is_retried_to_success(payments):
    process, port, upstream = payments(retries=2)
    upstream.tell("/_behave", {"fail_each": 3})
    assert {rig.request(port, f"/{n}").status for n in range(30)} == {200}
    assert upstream.ask("/_counts")["requests"] > 30
    assert "outrider_upstream_retries" in process.admin("/metrics").text
    process.stop()


def test_post_is_never_doubled(payments):
    process, port, upstream = payments(retries=3)
    upstream.tell("/_behave", {"reset_each_second": True})
    for n in range(40):
        try:
            rig.request(port, "/pay", "POST", b"{}", {"X-Count-Id": f"pay-{n}", "Content-Type": "application/json"})
        except (OSError, http.client.HTTPException):
            pass
    counts = upstream.ask("/_counts")["by_id"]
    assert len(counts) == 40
    assert {times["POST"] for times in counts.values()} == {1}
    process.stop()


def test_stale_kept_alive_connections_hurt_nobody(payments):
    process, port, upstream = payments()
    upstream.tell("/_behave", {"close_after_reply": True})
    assert [rig.request(port, "/", headers={"X-Count-Id": f"g{n}"}).status for n in range(30)] == [200] * 30
    process.stop()


def test_upstream_that_is_down_is_503_with_reason_and_blame(start):
    port, nobody = rig.free_port(), rig.free_port()
    process = start(
        {"outbound": {"gone": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{nobody}"}}},
        ["sleep", "300"]).wait_ready("/readyz/outbound")
    reply = rig.request(port, "/", headers={"Accept": "application/json"})
    assert reply.status in (502, 503)
    assert "error=" in reply.headers["Proxy-Status"]
    problem = reply.json
    assert problem["blame"] == "upstream" and problem["reason"]
    assert str(nobody) in reply.text or str(nobody) in reply.headers["Proxy-Status"]
    process.stop()


def test_upstream_that_is_slow_is_504_after_the_timeout(payments):
    process, port, upstream = payments(timeout="300ms", retries=0)
    upstream.tell("/_behave", {"delay": 20})
    reply = rig.request(port, "/")
    assert reply.status == 504 and "error=" in reply.headers["Proxy-Status"]
    upstream.tell("/_behave", {})
    process.stop()


def test_injected_secret_reaches_the_upstream_and_no_log(start, peer, age_store):
    upstream, port = peer("flaky_upstream.py"), rig.free_port()
    file, identity = age_store("pay:\n  token: tok-5512-aabb\n")
    process = start(
        {"outbound": {"pay": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream.port}",
                              "inject": {"Authorization": "Bearer ${secrets.pay.token}"}}},
         "secrets": {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
                     "values": {"pay": {"key": "pay"}}}}, ["sleep", "300"]).wait_ready()
    fields = {k.lower(): v for k, v in rig.request(port, "/").json["headers"]}
    assert fields["authorization"] == "Bearer tok-5512-aabb"
    for path in ("/metrics", "/status"):
        assert "tok-5512-aabb" not in process.admin(path).text
    assert not any("tok-5512-aabb" in line for line in process.logs())
    process.stop()


def test_head_of_1_mib_is_431(shop):
    process, port, _ = shop()
    answer = rig.raw_exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * (1 << 20) + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert rig.status_of(port) == 200
    process.stop()


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
MALFORMED = {
    "chunk size overflows": CHUNKED + b"\r\nfffffffffffffffff\r\n",
    "chunk size overflows to zero": CHUNKED + b"\r\n10000000000000000\r\n",
    "chunk size is negative": CHUNKED + b"\r\n-1\r\n",
    "length and chunked": CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length overflows": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
    "bare line feed": b"GET / HTTP/1.1\nHost: a\n\n",
    "nul in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_are_400_and_never_reach_the_app(shop, data):
    process, port, _ = shop()
    answer = rig.raw_exchange(port, data)
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert b"\r\nConnection: close\r\n" in answer or b"\r\nconnection: close\r\n" in answer
    assert rig.request(port, "/after").status == 200
    lines = process.wait_logs(lambda lines: any("/after" in l for l in lines), "the record of the next request")
    assert rig.numbers(lines) == [0], "the app has answered the good request alone"
    process.stop()


def test_limits_of_a_cluster_are_503(start, peer):
    upstream, port = peer("flaky_upstream.py"), rig.free_port()
    upstream.tell("/_behave", {"delay": 30})
    process = start(
        {"clusters": {"up": {"endpoints": [f"127.0.0.1:{upstream.port}"], "limits": {"requests": 2}}},
         "outbound": {"pay": {"listen": f"127.0.0.1:{port}", "to": "up"}}}, ["sleep", "300"]).wait_ready()
    held = [rig.socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    for connection in held:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_until(lambda: upstream.ask("/_counts")["requests"] == 2, "two requests at the upstream")
    reply = rig.request(port, headers={"Accept": "application/json"})
    assert reply.status == 503 and reply.json["reason"] == "overflow" and reply.json["blame"] == "sidecar"
    assert "error=connection_limit_reached" in reply.headers["Proxy-Status"]
    process.wait_logs(lambda lines: any('"UO"' in line for line in lines), "the record")
    assert upstream.ask("/_counts")["requests"] == 2
    for connection in held:
        connection.close()
    upstream.tell("/_behave", {})
    wait_until(lambda: rig.status_of(port) == 200, "room again")
    process.stop()


def test_a_name_that_stops_resolving_keeps_its_last_good_addresses(start, peer, place):
    """The names come from a hosts file of the process's own mount namespace, which the test changes."""
    upstream, port = peer("flaky_upstream.py"), rig.free_port()
    hosts = place / "hosts"
    hosts.write_text("127.0.0.1 localhost up.test\n")
    mount = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c",
             f'mount --bind {hosts} /etc/hosts && exec "$@"', "mount"]
    process = start(
        {"outbound": {"pay": {"listen": f"127.0.0.1:{port}", "to": f"http://up.test:{upstream.port}"}}},
        ["sleep", "300"], wrap=mount).wait_ready()
    assert rig.status_of(port) == 200
    hosts.write_text("127.0.0.1 localhost\n")
    wait_until(lambda: "`up.test` does not resolve" in process.stderr, "a line that says so")
    assert "last good" in process.stderr
    assert rig.request(port).json["headers"]
    process.stop()


def test_requests_in_flight_finish_at_stop(payments):
    process, port, upstream = payments()
    upstream.tell("/_behave", {"delay": 1})
    answers = []
    client = threading.Thread(target=lambda: answers.append(rig.status_of(port)))
    client.start()
    wait_until(lambda: upstream.ask("/_counts")["requests"] == 1, "the request to reach the upstream")
    process.send(signal.SIGTERM)
    client.join(20)
    assert answers == [200]
    process.wait()
