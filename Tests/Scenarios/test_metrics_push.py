"""Metrics that are sent: OTLP as the official decoder reads it, and remote write into a real Prometheus."""

import http.server
import json
import os
import re
import threading
import urllib.parse

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest, ExportMetricsServiceResponse)

import rig
from rig import wait_until

APP_METRICS = """# HELP orders_total Orders so far.
# TYPE orders_total counter
orders_total{kind="a\\"b\\\\c\\nd",empty=""} 7
# TYPE took_seconds histogram
took_seconds_bucket{shop="x",le="0.5"} 2
took_seconds_bucket{shop="x",le="2"} 5
took_seconds_bucket{shop="x",le="+Inf"} 6
took_seconds_sum{shop="x"} 9.25
took_seconds_count{shop="x"} 6
# TYPE size_bytes summary
size_bytes{quantile="0.5"} 100
size_bytes{quantile="0.99"} 900
size_bytes_sum 5000
size_bytes_count 40
# TYPE depth gauge
depth -3.5 1700000000000
"""


class Served(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = APP_METRICS.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.take(self.path, dict(self.headers), body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server:
    """The app's endpoint (GET), and a receiver (POST) that answers with `statuses` first, then with 200."""

    def __init__(self, *statuses):
        self.requests, self.statuses, self.answer = [], list(statuses), b""
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
        self.server.take = self.take
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def take(self, path, headers, body):
        status = self.statuses.pop(0) if self.statuses else 200
        self.requests.append((path, headers, body, status))
        return status, self.answer if status == 200 else b""

    def metrics(self):
        """By name, of every request that was taken."""
        found = {}
        for _, _, body, status in list(self.requests):
            if status == 200:
                message = ExportMetricsServiceRequest()
                message.ParseFromString(body)
                for resource in message.resource_metrics:
                    about = {a.key: a.value.string_value for a in resource.resource.attributes}
                    for scope in resource.scope_metrics:
                        assert scope.scope.name == "outrider" and scope.scope.version
                        for metric in scope.metrics:
                            found.setdefault(metric.name, []).append((about, metric))
        return found

    def end(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(ending):
    def starter(*statuses):
        made = Server(*statuses)
        ending.append(made)
        return made

    return starter


@pytest.fixture
def prometheus(place, ending):
    """A real Prometheus that takes remote write; `prometheus(port)` again finds what the last one had."""

    def starter(port, config="global: {}\n"):
        (place / "prometheus.yaml").write_text(config)
        process = rig.Process(
            [rig.tool("prometheus"), f"--config.file={place}/prometheus.yaml", f"--storage.tsdb.path={place}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"], place, "prometheus")
        ending.append(process)
        wait_until(lambda: rig.accepts(port) and rig.status_of(port, "/-/ready") == 200, "Prometheus", every=0.1)
        return process

    return starter


def query(port, expression, **more):
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression, **more})
    reply = rig.request(port, path)
    assert reply.status == 200, f"{expression}: {reply.text}"
    return reply.json["data"]["result"]


def metric(process, name, **labels):
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    found = re.search(rf"^{name}{{{pairs}}} (\S+)$", process.admin("/metrics").text, re.M)
    return float(found[1]) if found else 0


def attributes(point):
    return {a.key: a.value.string_value for a in point.attributes}


def test_otlp_metrics(start, server):
    app, collector = server(), server(503, 429)
    process = start(
        {"secrets": {"stores": {"e": {"env": {}}}, "values": {"key": {"key": "OTLP_KEY"}}},
         "telemetry": {"scrape": app.url + "/metrics", "metrics": {
             "otlp": {"url": collector.url, "headers": {"X-Key": "key ${secrets.key.value}"}},
             "interval": "1s", "service_name": "shop", "labels": {"deployment_environment": "test"}}}},
        ["sleep", "300"], env={"OTLP_KEY": "s3cret-key"}).wait_ready()
    found = wait_until(lambda: collector.metrics() if "took_seconds" in collector.metrics() else None, "metrics", every=0.2)
    assert [status for *_, status in collector.requests][:3] == [503, 429, 200]
    path, headers, _, _ = collector.requests[0]
    assert path == "/v1/metrics" and headers["X-Key"] == "key s3cret-key"
    assert {(k.lower(), v) for k, v in headers.items()} >= {("content-type", "application/x-protobuf")}
    about, orders = found["orders_total"][0]
    assert about["service.name"] == "shop" and about["host.name"] == os.uname().nodename
    assert about["deployment_environment"] == "test"
    assert orders.description == "Orders so far." and orders.sum.is_monotonic and orders.sum.aggregation_temporality == 2
    (point,) = orders.sum.data_points
    # Labels without a value are as if they were not there.
    assert point.as_double == 7 and attributes(point) == {"kind": 'a"b\\c\nd'}
    assert point.start_time_unix_nano == 0 and point.time_unix_nano > 1.7e18
    took = found["took_seconds"][0][1]
    (point,) = took.histogram.data_points
    assert took.unit == "s" and took.histogram.aggregation_temporality == 2 and attributes(point) == {"shop": "x"}
    assert list(point.explicit_bounds) == [0.5, 2] and list(point.bucket_counts) == [2, 3, 1]
    assert point.count == 6 and point.sum == 9.25
    (point,) = found["size_bytes"][0][1].summary.data_points
    assert [(q.quantile, q.value) for q in point.quantile_values] == [(0.5, 100), (0.99, 900)]
    assert point.count == 40 and point.sum == 5000
    (point,) = found["depth"][0][1].gauge.data_points
    assert point.as_double == -3.5 and point.time_unix_nano == 1700000000000 * 10**6
    # The sidecar's own counters say since when they count.
    (point, *_) = found["outrider_log_records_total"][0][1].sum.data_points
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano and attributes(point)["source"]
    assert metric(process, "outrider_metrics_retries_total", receiver="otlp") == 2
    # What the collector rejects of a request is counted.
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    answer.partial_success.error_message = "too old"
    collector.answer = answer.SerializeToString()
    wait_until(lambda: metric(
        process, "outrider_metrics_samples_dropped_total", receiver="otlp", reason="refused") >= 3, "the refused ones", every=0.2)
    assert metric(process, "outrider_metrics_samples_sent_total", receiver="otlp") > 50
    # One that refuses all of them loses them, with a word; nothing waits for ever.
    collector.statuses = [400]
    wait_until(lambda: "refused" in process.stderr and "status 400" in process.stderr, "the word")
    # The last numbers go out at the end.
    before = len(collector.requests)
    process.stop()
    assert len(collector.requests) > before
    assert "s3cret-key" not in process.stderr


def test_remote_write_into_a_real_prometheus(start, server, prometheus):
    app, port = server(), rig.free_port()
    first = prometheus(port)
    config = {"telemetry": {"scrape": app.url + "/metrics", "metrics": {
        "remote_write": f"http://127.0.0.1:{port}", "interval": "1s", "service_name": "shop", "labels": {"env": "test"}}}}
    process = start(config, ["sleep", "300"]).wait_ready()
    (build,) = wait_until(lambda: query(port, "outrider_build_info"), "the first metrics", every=0.2)
    assert build["metric"]["job"] == "shop" and build["metric"]["env"] == "test" and build["value"][1] == "1"
    assert build["metric"]["instance"] == os.uname().nodename
    (orders,) = wait_until(lambda: query(port, "orders_total"), "the app's metrics", every=0.2)
    assert orders["metric"]["kind"] == 'a"b\\c\nd' and "empty" not in orders["metric"] and orders["value"][1] == "7"
    (p50,) = query(port, 'histogram_quantile(0.5, took_seconds_bucket{shop="x"})')
    assert 0.5 < float(p50["value"][1]) <= 2
    # It goes away and comes back: what was made meanwhile arrives, in order, nothing dropped.
    first.stop()
    sent = metric(process, "outrider_metrics_samples_sent_total", receiver="remote_write")
    retries = "outrider_metrics_retries_total"
    wait_until(lambda: metric(process, retries, receiver="remote_write") >= 1, "a try in vain", every=0.2)
    waiting = wait_until(lambda: metric(process, "outrider_metrics_samples_waiting", receiver="remote_write"), "what waits")
    assert process.admin("/readyz").status == 200, "nobody waits for a receiver"
    prometheus(port)
    wait_until(lambda: metric(process, "outrider_metrics_samples_sent_total", receiver="remote_write") >= sent + waiting,
               "what waited", every=0.2)
    assert "outrider_metrics_samples_dropped_total" in process.admin("/metrics").text
    dropped = "outrider_metrics_samples_dropped_total"
    assert metric(process, dropped, receiver="remote_write", reason="queue_full") == 0
    # `depth` is years old: Prometheus refuses it, and it alone, once a round.
    refused = metric(process, dropped, receiver="remote_write", reason="refused")
    assert 1 <= refused <= metric(process, "outrider_metrics_samples_sent_total", receiver="remote_write") / 50
    assert "refused 1 samples: status 400" in process.stderr
    # One sample a second and none left out, while it was away too (a loaded machine may take longer between two).
    ((_, samples),) = [(s["metric"], s["values"]) for s in query(port, "outrider_build_info[10m]")]
    times = [time for time, _ in samples]
    assert times == sorted(set(times)) and len(times) >= 3
    # A reload that takes the receiver away.
    del config["telemetry"]["metrics"]
    process.write_config({"admin": json.loads(process.config_path.read_text())["admin"], **config})
    result = rig.run("reload", "--state", process.state)
    assert result.returncode == 0 and "metrics" in result.stdout + result.stderr
    process.stop()


def test_a_receiver_that_is_not_there_stops_nobody(start):
    url = f"http://127.0.0.1:{rig.free_port()}"
    process = start({"telemetry": {"metrics": {"otlp": url, "remote_write": url, "interval": "1s"}}}, ["true"])
    assert process.wait() == 0
    assert process.stderr.count("trying again") <= 2 and "did not reach" in process.stderr


@pytest.mark.parametrize("metrics, word", [
    ({"otlp": "ftp://x"}, "url"), ({"remote_write": {}}, "url"), ({"otlp": "http://x", "interval": "10ms"}, "1s or more"),
    ({"otlp": "http://x", "labels": {"1a": "x"}}, "label")])
def test_what_cannot_be_meant_is_refused(place, metrics, word):
    (place / "outrider.yaml").write_text(json.dumps({"telemetry": {"metrics": metrics}}))
    result = rig.run("validate", "--config", place / "outrider.yaml")
    assert result.returncode == 78 and word in (result.stdout + result.stderr).lower(), result.stderr
