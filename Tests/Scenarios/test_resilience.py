"""Health checks, ejection, retries and hedging through the real binary, against upstreams that fail as they are told."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from concurrent import futures

import grpc
import pytest

import rig
from certificates import Authority
from rig import wait_until


@pytest.fixture
def way_out(start, peer):
    """way_out(count, cluster keys, **listener keys) returns (process, outbound port, upstreams)."""

    def starter(count, cluster=None, threads=2, **listener):
        upstreams = [peer("flaky_upstream.py", f"up{n}") for n in range(count)]
        port = rig.free_port()
        endpoints = [f"127.0.0.1:{upstream.port}" for upstream in upstreams]
        process = start(
            {"threads": threads, "clusters": {"up": {"endpoints": endpoints, **(cluster or {})}},
             "outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "up", **listener}}}, ["sleep", "300"])
        return process.wait_ready(), port, upstreams

    return starter


def status(process):
    return json.loads(process.admin("/status").body)


def absent(process):
    """{port: (state, reason)} of the endpoints that get no requests."""
    return {
        int(entry["address"].rsplit(":", 1)[1]): (entry["state"], entry["reason"])
        for entry in status(process)["unavailable_endpoints"]}


def metric(process, name):
    """The sum of the series whose line begins so."""
    lines = process.admin("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def many(port, count, connections=8, method="GET", prefix="r", body=None):
    """So many requests over kept connections, at once; returns their statuses (None = no answer) in any order."""

    def client(first):
        answers, connection = [], None
        for number in range(first, count, connections):
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request(method, f"/{prefix}{number}", body, {"X-Count-Id": f"{prefix}{number}"})
                reply = connection.getresponse()
                reply.read()
                answers.append(reply.status)
                if reply.will_close:
                    connection = None
            except (OSError, http.client.HTTPException):
                answers.append(None)
                connection = None
        if connection:
            connection.close()
        return answers

    with futures.ThreadPoolExecutor(connections) as pool:
        return [answer for answers in pool.map(client, range(connections)) for answer in answers]


# The two probes: an upstream that resets each second request of a connection.


def test_no_get_fails_when_each_second_request_is_reset(way_out):
    process, port, (upstream,) = way_out(1)
    upstream.tell("/_behave", {"reset_each_second": True})
    answers = many(port, 1000)
    assert len(answers) == 1000 and set(answers) == {200}
    # It did reset: more requests came than were asked.
    assert upstream.ask("/_counts")["requests"] > 1000
    assert absent(process) == {}
    process.stop()


@pytest.mark.parametrize("retries", [1, {"attempts": 5, "on": ["reset", "5xx", "gateway-error"], "hedge": {"after": "1ms"}}])
def test_no_post_is_sent_twice(way_out, retries):
    process, port, (one, two) = way_out(2, {"outliers": False}, retries=retries)
    for upstream in (one, two):
        upstream.tell("/_behave", {"reset_each_second": True, "fail_each": 7})
    answers = many(port, 400, method="POST", prefix="p", body=b"{}")
    counts = [upstream.ask("/_counts")["by_id"] for upstream in (one, two)]
    for number in range(400):
        times = sum(count.get(f"p{number}", {}).get("POST", 0) for count in counts)
        assert times == 1, f"p{number} came {times} times"
    # Whoever got none is told so.
    assert set(answers) <= {200, 502, 503} and 502 in answers and 503 in answers
    process.stop()


# Active checks.


def test_an_unhealthy_endpoint_is_left_out_until_it_is_well(way_out):
    process, port, (bad, good) = way_out(2, {"health": {"http": "/healthz", "interval": "50ms"}})
    assert absent(process) == {}
    bad.tell("/_behave", {"health_status": 503})
    wait_until(lambda: absent(process) == {bad.port: ("unhealthy", "status 503")}, "the endpoint to be unhealthy")
    before = bad.ask("/_counts")["requests"]
    assert set(many(port, 100)) == {200}
    assert bad.ask("/_counts")["requests"] == before
    told = rig.run("status", "--state", str(process.state))
    assert f"upstream  up 127.0.0.1:{bad.port}: unhealthy, status 503" in told.stdout
    assert metric(process, 'outrider_upstream_health_checks_total{cluster="up",result="failure"}') >= 3
    # A reload that changes the cluster keeps what is known.
    text = json.loads(process.config_path.read_text())
    text["clusters"]["up"]["health"]["interval"] = "100ms"
    text["clusters"]["up"]["connect_timeout"] = "3s"
    process.write_config(text)
    assert process.admin("/reload", method="POST").status == 200
    assert absent(process) == {bad.port: ("unhealthy", "status 503")}
    bad.tell("/_behave", {})
    wait_until(lambda: absent(process) == {}, "the endpoint to be well again")
    many(port, 100)
    assert bad.ask("/_counts")["requests"] > before
    process.stop()


def test_one_loop_asks_for_all(way_out):
    process, port, (upstream,) = way_out(1, {"health": {"http": "/healthz", "interval": "1h"}}, threads=4)
    passed = 'outrider_upstream_health_checks_total{cluster="up",result="success"}'
    wait_until(lambda: metric(process, passed), "the first check")
    assert set(many(port, 64, connections=16)) == {200}
    assert metric(process, passed) == 1
    process.stop()


def test_an_endpoint_that_is_away_at_the_start(start, peer):
    upstream, nobody, port = peer("flaky_upstream.py"), rig.free_port(), rig.free_port()
    process = start(
        {"clusters": {"up": {"endpoints": [f"127.0.0.1:{nobody}", f"127.0.0.1:{upstream.port}"],
                             "health": {"tcp": True, "interval": "50ms"}}},
         "outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "up", "retries": 0}}}, ["sleep", "300"]).wait_ready()
    wait_until(lambda: absent(process) == {nobody: ("unhealthy", "connection refused")}, "the first check")
    assert set(many(port, 50)) == {200}
    process.stop()


@pytest.mark.parametrize("protocols", ["", "http2"])
def test_checks_speak_what_requests_speak(start, nginx, certificates, place, protocols):
    """TLS with verification, HTTP/1.1 and HTTP/2, and a Host field of their own."""
    authority = certificates("up.test")
    upstream = nginx(server=f"""
        listen 127.0.0.1:PORT ssl {protocols}; server_name up.test;
        ssl_certificate {place}/up.test.pem; ssl_certificate_key {place}/up.test.key;
        location = /up {{ if ($host != checks.test) {{ return 404; }} return 204; }}
        location / {{ return 200 "$server_protocol\\n"; }}""")
    port = rig.free_port()
    config = {
        "clusters": {"up": {
            "endpoints": [f"localhost:{upstream}"], "tls": {"ca": str(authority)},
            "health": {"http": "/up", "interval": "50ms", "host": "checks.test", "panic": 0}}},
        "outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "up"}}}
    process = start(config, ["sleep", "300"]).wait_ready()
    passed = 'outrider_upstream_health_checks_total{cluster="up",result="success"}'
    wait_until(lambda: metric(process, passed) > 2, "checks to pass")
    reply = rig.request(port)
    assert (reply.status, reply.text) == (200, "HTTP/2.0\n" if protocols else "HTTP/1.1\n")
    # Without a connection of requests, the limit of connections is untouched.
    config["clusters"]["up"]["health"]["host"] = "others.test"
    process.write_config({**json.loads(process.config_path.read_text()), **config})
    assert process.admin("/reload", method="POST").status == 200
    wait_until(lambda: ("unhealthy", "status 404") in absent(process).values(), "checks to fail")
    wait_until(lambda: rig.status_of(port) == 503, "nobody to be left")
    assert rig.request(port).json["reason"] == "no_healthy_endpoint"
    # An authority that did not sign the certificate: a check fails as a request would.
    certificates("other.test")
    config["clusters"]["up"]["health"]["host"] = "checks.test"
    process.write_config({**json.loads(process.config_path.read_text()), **config})
    assert process.admin("/reload", method="POST").status == 200
    wait_until(
        lambda: any("authority" in reason or "certificate" in reason for _, reason in absent(process).values()),
        "the certificate to be refused")
    process.stop()


def test_grpc_health(start):
    """The real grpcio, which says SERVING for one service only."""
    answers = {b"\n\x04shop": b"\x08\x01", b"": b"\x08\x01", b"\n\x04bank": b"\x08\x02"}

    class Health(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method != "/grpc.health.v1.Health/Check":
                return None

            def check(request, context):
                if request not in answers:
                    context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
                return answers[request]

            return grpc.unary_unary_rpc_method_handler(check)

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Health()])
    upstream = server.add_insecure_port("127.0.0.1:0")
    server.start()
    clusters = {
        name: {"endpoints": [f"127.0.0.1:{upstream}"], "protocol": "http2",
               "health": {"grpc": service, "interval": "50ms"}}
        for name, service in [("whole", True), ("shop", "shop"), ("bank", "bank"), ("gone", "gone")]}
    process = start({"clusters": clusters}, ["sleep", "300"]).wait_ready()
    try:
        expected = {"bank": "the service says NOT_SERVING", "gone": "grpc-status 5"}
        wait_until(
            lambda: {e["cluster"]: e["reason"] for e in status(process)["unavailable_endpoints"]} == expected,
            "the services' own words")
        for name in ("whole", "shop"):
            wait_until(
                lambda: metric(process, f'outrider_upstream_health_checks_total{{cluster="{name}",result="success"}}') > 1,
                f"{name} to be asked")
    finally:
        server.stop(0)
    process.stop()


# Outlier detection.


def test_ejection_over_all_loops_and_back(way_out):
    process, port, (bad, good) = way_out(
        2, {"balance": "round_robin", "outliers": {"interval": "100ms", "ejection": "2s"}}, threads=4, retries=0)
    bad.tell("/_behave", {"fail_each": 1, "fail_status": 500})
    answers = many(port, 400, connections=16)
    assert set(answers) == {200, 500}
    # Five in a row, and what was under way meanwhile.
    assert answers.count(500) < 60
    seen = absent(process)
    assert seen.keys() == {bad.port} and seen[bad.port][0] == "ejected"
    entry = status(process)["unavailable_endpoints"][0]
    assert 0 <= entry["seconds_left"] <= 2 and "failures in a row" in entry["reason"]
    assert "ejected for" in rig.run("status", "--state", str(process.state)).stdout
    assert metric(process, 'outrider_upstream_ejections_total{cluster="up"}') == 1
    assert metric(process, 'outrider_upstream_ejected{cluster="up"}') == 1
    assert set(many(port, 100, connections=16)) == {200}
    # A reload that changes the cluster does not let it back.
    text = json.loads(process.config_path.read_text())
    text["clusters"]["up"]["connect_timeout"] = "3s"
    process.write_config(text)
    assert process.admin("/reload", method="POST").status == 200
    if absent(process):
        assert set(many(port, 20, connections=4)) == {200}
    bad.tell("/_behave", {})
    wait_until(lambda: absent(process) == {}, "the ejection to end")
    before = bad.ask("/_counts")["requests"]
    assert set(many(port, 100, connections=16)) == {200}
    assert bad.ask("/_counts")["requests"] > before
    process.stop()


def test_one_endpoint_is_never_ejected(way_out):
    process, port, (only,) = way_out(1, {"outliers": {"consecutive_5xx": 1}}, retries=0)
    only.tell("/_behave", {"fail_each": 1, "fail_status": 500})
    assert set(many(port, 100)) == {500}
    assert absent(process) == {}
    only.tell("/_behave", {})
    assert set(many(port, 20)) == {200}
    process.stop()


def test_an_endpoint_that_refuses_costs_nobody_a_request(way_out):
    process, port, (bad, good) = way_out(2, {"outliers": {"ejection": "1s", "interval": "100ms"}})
    many(port, 20)
    bad.tell("/_behave", {"refuse": 2})
    assert set(many(port, 300)) == {200}
    process.stop()


# Retries.


def test_retry_after_is_kept(way_out):
    process, port, (upstream,) = way_out(1, retries={"attempts": 1, "on": ["gateway-error"]})
    upstream.tell("/_behave", {"fail_each": 2, "retry_after": 1})
    assert rig.request(port).status == 200
    begun = time.monotonic()
    assert rig.request(port).status == 200
    assert time.monotonic() - begun >= 1
    upstream.tell("/_behave", {"fail_each": 1, "retry_after": 60})
    reply = rig.request(port)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "60")
    process.stop()


def test_named_statuses_and_fields(way_out):
    process, port, (upstream,) = way_out(
        1, retries={"attempts": 3, "status_codes": [409], "response_headers": {"X-Why": "busy"}})
    for wishes in ({"fail_status": 409}, {"fail_status": 404, "fail_headers": {"X-Why": "busy"}}):
        upstream.tell("/_behave", {"fail_each": 2, **wishes})
        assert set(many(port, 20, connections=1)) == {200}
        assert many(port, 20, connections=1, method="POST").count(200) < 20
    upstream.tell("/_behave", {"fail_each": 2, "fail_status": 404, "fail_headers": {"X-Why": "gone"}})
    assert 404 in many(port, 4, connections=1)
    process.stop()


def test_a_response_that_has_begun_is_never_retried(way_out):
    """Cut inside its head: 502; cut inside its body: the client's connection breaks."""
    process, port, (upstream,) = way_out(1, retries={"attempts": 5, "on": ["reset", "5xx"]})
    upstream.tell("/_behave", {"reset_at": 20})
    assert rig.request(port, "/bytes/5000", headers={"X-Count-Id": "head"}).status == 502
    upstream.tell("/_behave", {"reset_at": 1000})
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        rig.request(port, "/bytes/5000", headers={"X-Count-Id": "body"})
    assert upstream.ask("/_counts")["by_id"] == {"head": {"GET": 1}, "body": {"GET": 1}}
    process.stop()


def test_a_body_that_makes_progress_is_not_cut(way_out):
    """Time limits of tries and routes end with the response's head."""
    process, port, (upstream,) = way_out(1, retries={"attempts": 2, "on": ["5xx"], "per_try_timeout": "2s"}, timeout="3s")
    upstream.tell("/_behave", {"trickle": 0.001})
    begun = time.monotonic()
    reply = rig.request(port, "/bytes/4000", headers={"X-Count-Id": "slow"}, timeout=60)
    assert (reply.status, len(reply.body)) == (200, 4000)
    assert time.monotonic() - begun > 3
    assert upstream.ask("/_counts")["by_id"] == {"slow": {"GET": 1}}
    process.stop()


def test_a_server_that_closes_idle_connections_costs_no_get(way_out):
    process, port, (upstream,) = way_out(1, threads=1)
    upstream.tell("/_behave", {"idle_close": 0.05})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    pause = threading.Event()
    for number in range(60):
        connection.request("GET", "/")
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200
        # About when the server closes.
        pause.wait(0.045 + number % 10 / 1000)
    connection.close()
    process.stop()


def test_hedging_hides_a_slow_endpoint(way_out):
    process, port, (slow, fast) = way_out(
        2, {"outliers": False, "balance": "round_robin"}, retries={"attempts": 0, "hedge": {"after": "50ms"}})
    slow.tell("/_behave", {"delay": 30})
    assert set(many(port, 16, connections=2)) == {200}
    hedges = metric(process, 'outrider_upstream_hedges_total{cluster="up"}')
    assert 1 <= hedges <= 16
    assert metric(process, 'outrider_upstream_hedges_won_total{cluster="up"}') == hedges
    # A POST waits.
    fast.tell("/_behave", {"delay": 30})
    with futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(many, port, 1, 1, "POST", "p")
        wait_until(lambda: slow.ask("/_counts")["by_id"].keys() | fast.ask("/_counts")["by_id"].keys() >= {"p0"}, "a POST")
        slow.tell("/_behave", {})
        fast.tell("/_behave", {})
        assert waiting.result() == [200]
    assert sum(up.ask("/_counts")["by_id"].get("p0", {}).get("POST", 0) for up in (slow, fast)) == 1
    process.stop()


def test_limits_are_counted(way_out):
    process, port, (upstream,) = way_out(1, {"limits": {"requests": 2}}, threads=1)
    upstream.tell("/_behave", {"delay": 30})
    with futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(many, port, 2, 2, "GET", "w")
        wait_until(lambda: upstream.ask("/_counts")["requests"] == 2, "two requests")
        reply = rig.request(port)
        assert reply.status == 503 and reply.json["reason"] == "overflow"
        upstream.tell("/_behave", {})
        assert waiting.result() == [200, 200]
    assert metric(process, 'outrider_upstream_overflow_total{cluster="up",limit="requests"}') == 1
    process.stop()


def test_a_connection_that_comes_too_late_carries_nothing(start, place):
    """A try that timed out while it was connecting: its connection comes about during the wait before the next try, and
    the request is still sent once, and answered once."""
    authority = Authority(place / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("up", "IP:127.0.0.1"))
    late, requests = threading.Event(), []

    def serve(connection):
        late.wait(rig.DEADLINE)
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as stream:
            while data := stream.recv(65536):
                requests.append(data)
                # Time for a second copy of it.
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: len(requests) > 1, "a second request", deadline=1.2)
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def accept(listening):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        port = rig.free_port()
        process = start({
            "clusters": {"up": {"endpoints": [f"127.0.0.1:{listening.getsockname()[1]}"],
                                "tls": {"ca": str(authority.file)}, "protocol": "http1"}},
            "outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "up", "retries": {
                "attempts": 1, "on": ["gateway-error"], "per_try_timeout": "3s",
                "backoff": {"base": "1s", "cap": "1s"}}}}}, ["sleep", "300"]).wait_ready()
        with socket.create_connection(("127.0.0.1", port), timeout=rig.DEADLINE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: metric(process, "outrider_upstream_retries_total") == 1, "the second try")
            late.set()
            answer = client.recv(65536)
            client.sendall(b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while data := client.recv(65536):
                answer += data
        assert answer.count(b"HTTP/1.1 200 OK") == 2, answer
        assert len(requests) == 2, requests
        process.stop()
