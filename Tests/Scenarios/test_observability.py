"""What the sidecar tells about single requests: records by format, taps."""

import json
import subprocess
import threading

import pytest

import rig
from rig import wait_until


@pytest.fixture
def payments(start, peer):
    """Outrider as the way out to a flaky upstream. Returns (process, outbound port, upstream)."""

    def starter(more=None, **listener):
        upstream, port = peer("flaky_upstream.py"), rig.free_port()
        process = start(
            {"outbound": {"payments": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream.port}",
                                       **listener}}, **(more or {})}, ["sleep", "300"]).wait_ready()
        return process, port, upstream

    return starter


class Tap:
    """`outrider tap` with its lines as they come."""

    def __init__(self, process, *arguments):
        self.process = subprocess.Popen(
            [rig.binary(), "tap", "--state", str(process.state), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.thread = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")))
        self.thread.start()

    def end(self):
        self.process.terminate()
        self.process.wait(10)
        self.thread.join(10)


def test_records_by_format_are_log_lines(payments):
    process, port, _ = payments(
        access_log={"format": "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %REQ(X-Tenant?User-Agent):6% %ROUTE_NAME%"})
    rig.request(port, "/by-format", headers={"X-Tenant": "blue-and-green"})
    (line,) = wait_until(lambda: [l for l in process.logs("--source", "access") if "/by-format" in l], "the record")
    assert "GET /by-format 200 blue-a default" in line
    process.stop()


def test_reload_changes_the_form(payments):
    process, port, upstream = payments()
    config = json.loads(process.config_path.read_text())
    config["outbound"]["payments"]["access_log"] = {"format": "then %REQ(:PATH)%"}
    process.write_config(config)
    assert rig.run("reload", "--state", process.state).returncode == 0
    rig.request(port, "/after")
    wait_until(lambda: [l for l in process.logs("--source", "access") if "then /after" in l], "the record")
    process.stop()


def test_tap_shows_what_the_log_leaves_out(payments):
    process, port, upstream = payments(access_log=False)
    upstream.tell("/_behave", {"fail_each": 2, "fail_status": 500})
    tap = Tap(process, "--status", "5xx", "--blame", "upstream", "--output", "json", "--limit", "3")

    def enough():
        rig.request(port, "/watched")
        return tap.process.poll() is not None

    wait_until(enough, "the tap's limit")
    tap.end()
    records = [json.loads(line) for line in tap.lines]
    assert len(records) == 3
    assert {(r["status"], r["blame"], r["path"], r["listener"]) for r in records} == {
        (500, "upstream", "/watched", "payments")}
    process.stop()


def test_tap_as_text_and_its_errors(payments):
    process, port, _ = payments()
    tap = Tap(process, "--path", "/text")
    wait_until(lambda: rig.request(port, "/text/1").status and tap.lines, "a line of the tap")
    tap.end()
    assert "200  GET /text/1" in tap.lines[0] and "payments/default" in tap.lines[0]
    refused = rig.run("tap", "--state", process.state, "--status", "9xx")
    assert refused.returncode == 64 and "write `5xx`" in refused.stderr
    process.stop()


def test_http2_has_the_same_records_and_errors(start, tmp_path):
    port, closed = rig.free_port(), rig.free_port()
    process = start(
        {"outbound": {"gone": {
            "listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{closed}",
            "access_log": {"format": "%PROTOCOL% %REQ(:AUTHORITY)% %REQ(:PATH)% %RESPONSE_FLAGS% %BLAME% %REQ(X-A)%"}}}},
        ["sleep", "300"]).wait_ready()
    answer = subprocess.run(
        [rig.tool("curl"), "-sS", "-i", "--http2-prior-knowledge", "-H", "X-A: b", f"http://127.0.0.1:{port}/h2"],
        capture_output=True, text=True, timeout=30).stdout
    assert answer.startswith("HTTP/2 503")
    assert "proxy-status: outrider; error=connection_refused" in answer.lower()
    (line,) = wait_until(lambda: [l for l in process.logs("--source", "access") if "/h2" in l], "the record")
    assert f"HTTP/2 127.0.0.1:{port} /h2 UF,URX upstream b" in line
    process.stop()


def test_an_idle_sidecar_has_few_series(start, python_app):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}},
        python_app("web.py", app_port)).wait_ready()
    rig.request(port, "/")
    text = wait_until(
        lambda: (t := process.admin("/metrics").text) and "outrider_http_requests_total{" in t and t, "the counters")
    series = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(series) < 100, series
    names = {line.split("{")[0].split(" ")[0] for line in series}
    for name in ("outrider_http_requests_total", "outrider_http_request_duration_seconds_bucket",
                 "outrider_overhead_seconds_sum", "outrider_upstream_connections_active",
                 "outrider_upstream_retries_total", "outrider_upstream_pending"):
        assert name in names, name
    (requests,) = [line for line in series if line.startswith("outrider_http_requests_total{")]
    for label in ("direction", "route", "cluster", "code_class", "blame"):
        assert f'{label}="' in requests
    bounds = [line for line in series if line.startswith("outrider_http_request_duration_seconds_bucket")]
    assert [b.split('le="')[1].split('"')[0] for b in bounds] == [
        "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10", "+Inf"]
    process.stop()
