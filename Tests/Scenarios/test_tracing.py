"""Spans, as the official decoder of OTLP reads them; and the stories of single requests."""

import http.server
import json
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import rig
from rig import wait_until


class Collector:
    """Takes spans by OTLP/HTTP; answers with `statuses` first, then with 200."""

    def __init__(self, *statuses):
        self.spans, self.requests, self.statuses = [], [], list(statuses)
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, dict(self.headers), body))
                status = collector.statuses.pop(0) if collector.statuses else 200
                if status == 200:
                    message = ExportTraceServiceRequest()
                    message.ParseFromString(body)
                    for resource in message.resource_spans:
                        service = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
                        for scope in resource.scope_spans:
                            collector.spans += [(service, span) for span in scope.spans]
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def collector(ending):
    def starter(*statuses):
        made = Collector(*statuses)
        ending.append(made)
        return made

    return starter


@pytest.fixture
def traced(start, peer):
    """Outrider as the way out to a flaky upstream, with spans of every request."""

    def starter(collector, more=None, **listener):
        upstream, port = peer("flaky_upstream.py"), rig.free_port()
        process = start(
            {"outbound": {"payments": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream.port}",
                                       **listener}},
             "secrets": {"stores": {"e": {"env": {}}}, "values": {"otlp": {"key": "OTLP_KEY"}}},
             "telemetry": {"tracing": {
                 "otlp": f"http://127.0.0.1:{collector.port}", "sample": 1, "service_name": "shop",
                 "headers": {"X-Key": "key ${secrets.otlp.value}"}}}, **(more or {})},
            ["sleep", "300"], env={"OTLP_KEY": "s3cret-key"}).wait_ready()
        return process, port, upstream

    return starter


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_spans_of_a_retried_request(collector, traced):
    sink = collector(503, 429)
    process, port, upstream = traced(sink, retries=2)
    upstream.tell("/_behave", {"fail_each": 2})
    trace = "0af7651916cd43dd8448eb211c80319c"
    rig.request(port, "/warm")
    rig.request(port, "/pay?card=4111", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    spans = wait_until(
        lambda: [s for _, s in sink.spans if s.trace_id.hex() == trace], "the spans, after 503 and 429", every=0.2)
    assert len(spans) == 3
    server = next(s for s in spans if s.kind == 2)
    tries = sorted((s for s in spans if s.kind == 3), key=lambda s: s.start_time_unix_nano)
    assert server.parent_span_id.hex() == "b7ad6b7169203331" and server.name == "GET default"
    assert {t.parent_span_id for t in tries} == {server.span_id}
    assert len({s.span_id for s in spans}) == 3
    about = attributes(server)
    assert about["http.request.method"] == "GET" and about["url.path"] == "/pay"
    assert about["http.response.status_code"] == 200 and about["outrider.cluster"] and about["outrider.request_id"]
    assert "4111" not in str(spans)
    assert [attributes(t)["http.response.status_code"] for t in tries] == [503, 200]
    assert attributes(tries[0])["error.type"] == "503" and tries[0].status.code == 2
    assert attributes(tries[1])["http.request.resend_count"] == 1
    assert attributes(tries[1])["server.port"] == upstream.port
    assert server.start_time_unix_nano <= tries[0].start_time_unix_nano <= tries[1].start_time_unix_nano
    assert tries[1].end_time_unix_nano <= server.end_time_unix_nano
    assert {service for service, _ in sink.spans} == {"shop"}
    path, headers, _ = sink.requests[0]
    assert path == "/v1/traces" and headers["X-Key"] == "key s3cret-key"
    metrics = process.admin("/metrics").text
    assert "outrider_trace_spans_sent_total" in metrics
    assert "s3cret-key" not in process.stderr and "s3cret-key" not in rig.run(
        "explain", "--config", process.config_path, env={"OTLP_KEY": "s3cret-key"}).stdout
    process.stop()


def test_the_end_and_a_reload_lose_no_spans(collector, traced):
    first, second = collector(), collector()
    process, port, _ = traced(first)
    rig.request(port, "/one")
    wait_until(lambda: len(first.spans) == 2, "the spans")
    config = json.loads(process.config_path.read_text())
    config["telemetry"]["tracing"]["otlp"] = f"http://127.0.0.1:{second.port}"
    process.write_config(config)
    assert rig.run("reload", "--state", process.state).returncode == 0
    rig.request(port, "/two")
    process.stop()
    assert len(second.spans) == 2 and len(first.spans) == 2


def test_a_collector_that_is_gone_stops_nobody(collector, traced):
    sink = collector()
    process, port, _ = traced(sink)
    sink.end()
    assert {rig.request(port, f"/{n}").status for n in range(50)} == {200}
    process.stop()


def test_the_story_of_a_request(collector, traced):
    process, port, upstream = traced(collector(), retries={"attempts": 1, "on": ["5xx"]})
    upstream.tell("/_behave", {"fail_each": 1})
    rig.request(port, "/broken", headers={"X-Request-Id": "tell me/1"})
    told = rig.run("explain", "request", "tell me/1", "--state", process.state)
    assert told.returncode == 0, told.stderr
    assert "GET /broken: 503 URX, blame: upstream" in told.stdout
    assert "try 1" in told.stdout and "try 2" in told.stdout and "answered 503" in told.stdout
    as_json = json.loads(rig.run(
        "explain", "request", "tell me/1", "--state", process.state, "--output", "json").stdout)
    (story,) = as_json["requests"]
    assert [a["status"] for a in story["attempts"]] == [503, 503] and story["routes"] == ["default"]
    newest = rig.run("explain", "request", "--state", process.state)
    assert "tell me/1" in newest.stdout and "/broken" in newest.stdout
    unknown = rig.run("explain", "request", "nobody", "--state", process.state)
    assert unknown.returncode == 1 and "telemetry.stories.keep" in unknown.stderr
    assert rig.request(int(json.loads(process.config_path.read_text())["admin"]["listen"].split(":")[1]),
                       "/requests").status == 404
    process.stop()


def test_the_story_of_a_refused_connection_and_of_a_cut(start):
    port, closed = rig.free_port(), rig.free_port()
    process = start(
        {"outbound": {"gone": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{closed}", "retries": 2}}},
        ["sleep", "300"]).wait_ready()
    reply = rig.request(port, "/x")
    assert reply.status == 503
    told = rig.run("explain", "request", reply.headers["X-Request-Id"], "--state", process.state).stdout
    assert "UF,URX, blame: upstream (connection_refused)" in told and "hint:" in told and "try 3" in told
    process.stop()
