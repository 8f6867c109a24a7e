"""What comes into the log pipeline from outside: sockets, named pipes, and the programs that send there."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import msgpack
import pytest

import rig
from rig import numbers, wait_until


def listening(process, text):
    wait_until(lambda: f"listens on {text}" in process.stderr, f"a socket at {text}")
    return process


def source(start, **keys):
    """A sidecar with one source named `in`."""
    process = start({"logs": {"sources": {"in": keys}}}, ["sleep", "300"]).wait_ready()
    return listening(process, keys["listen"])


def records(process, count):
    """The records of the source once there are so many numbers in them."""
    lines = process.wait_logs(lambda lines: len(numbers(lines)) >= count, f"{count} records")
    return [json.loads(line) for line in lines if numbers([line])]


def metric(process, name, **labels):
    wanted = ["%s=\"%s\"" % pair for pair in labels.items()]
    return sum(float(line.rsplit(" ", 1)[1]) for line in process.admin("/metrics").text.splitlines()
               if line.startswith(name + "{") and all(label in line for label in wanted))


def tcp(port):
    return socket.create_connection(("127.0.0.1", port), timeout=rig.DEADLINE)


def test_lines_over_tcp_join_traces_by_connection(start):
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", multiline={"start": "^(Traceback|line-)", "timeout": "60s"})
    with tcp(port) as one, tcp(port) as other:
        one.sendall(b"Traceback (most recent call last):\n  File \"a\", li")
        other.sendall(b"line-1-other\nline-3-")
        one.sendall(b"ne 1\nValueError: line-2-trace\n")
        other.sendall(b"unfinished")
    found = records(process, 3)
    assert "Traceback (most recent call last):\n  File \"a\", line 1\nValueError: line-2-trace" in [
        record["message"] for record in found]
    process.stop()


def test_lines_over_a_unix_socket_in_order(start, place):
    process = source(start, listen=f"unix:{place}/in.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{place}/in.sock")
        client.sendall(b"".join(b"line-%d-x\n" % n for n in range(20000)))
    lines = process.wait_logs(lambda lines: len(numbers(lines)) >= 20000, "every line")
    assert numbers(lines) == list(range(20000))
    process.stop()


def test_a_full_spool_stops_the_sender_and_loses_nothing(start):
    port = rig.free_port()
    config = {"logs": {
        "sources": {"in": {"listen": f"tcp:127.0.0.1:{port}"}}, "spool": {"limit": "256KiB"},
        "sinks": {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{rig.free_port()}", "index": "x"}}}},
        "shutdown": {"deadline": "3s"}}
    process = listening(start(config, ["sleep", "300"]).wait_ready(), f"tcp:127.0.0.1:{port}")
    sent = 0
    with tcp(port) as client:
        client.settimeout(1.5)
        block = b"line-7-" + b"x" * 1000 + b"\n"
        with pytest.raises(TimeoutError):
            while sent < 200 << 20:
                sent += client.send(block * 64)
    assert sent < 100 << 20, "the sender waits"
    assert metric(process, "outrider_log_dropped_total", source="in") == 0
    process.stop()


def test_rsyslog_over_tcp_and_udp(start, place, ending):
    """A real rsyslogd forwards what it is told: RFC 5424 with octet counting, RFC 3164 by lines, and datagrams."""
    ports = [rig.free_port() for _ in range(3)]
    sources = {"counted": {"listen": f"tcp:127.0.0.1:{ports[0]}", "format": "syslog"},
               "framed": {"listen": f"tcp:127.0.0.1:{ports[1]}", "format": "syslog"},
               "datagram": {"listen": f"udp:127.0.0.1:{ports[2]}", "format": "syslog"}}
    process = start({"logs": {"sources": sources}}, ["sleep", "300"]).wait_ready()
    for one in sources.values():
        listening(process, one["listen"])
    (place / "rsyslog.conf").write_text(f"""
module(load="imfile")
global(workDirectory="{place}" net.enableDNS="off")
input(type="imfile" File="{place}/in.log" Tag="shop[17]:" Severity="warning" Facility="local3")
action(type="omfwd" target="127.0.0.1" port="{ports[0]}" protocol="tcp" template="RSYSLOG_SyslogProtocol23Format"
       TCP_Framing="octet-counted")
action(type="omfwd" target="127.0.0.1" port="{ports[1]}" protocol="tcp" template="RSYSLOG_TraditionalForwardFormat")
action(type="omfwd" target="127.0.0.1" port="{ports[2]}" protocol="udp" template="RSYSLOG_ForwardFormat")
""")
    (place / "in.log").write_text("".join(f"line-{n}-ä \"quoted\"\n" for n in range(500)))
    ending.append(rig.Process(
        ["/usr/sbin/rsyslogd", "-n", "-iNONE", "-f", place / "rsyslog.conf"], place, "rsyslogd"))

    def of(name):
        return [r for r in map(json.loads, process.logs("--source", name)) if numbers([r["message"]])]

    for name in sources:
        wait_until(lambda: sorted(numbers(r["message"] for r in of(name))) == list(range(500)), f"500 from {name}", every=0.3)
        record = next(r for r in of(name) if r["message"].startswith("line-7-"))
        assert record["message"] == 'line-7-ä "quoted"'
        assert (record["app"], record["pid"], record["facility"], record["level"]) == ("shop", "17", "local3", "warn")
        assert record["host"] and record["observed_timestamp"]
    process.stop()


def test_what_is_no_syslog_ends_the_connection_with_a_word(start):
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="syslog")
    with tcp(port) as client:
        client.sendall(b"<13>line-1-good\n99999999999 x")
        assert client.recv(10) == b""
    records(process, 1)
    wait_until(lambda: "octet count" in process.stderr, "the reason")
    assert metric(process, "outrider_log_refused_total", source="in") == 1
    process.stop()


def test_a_named_pipe_keeps_lines_over_a_killed_worker(start, place):
    fifo = place / "in.fifo"
    process = start({"logs": {"sources": {"in": {"fifo": str(fifo)}}}}, ["sleep", "300"]).wait_ready()
    wait_until(fifo.exists, "the pipe")
    # Held open both ways, so that the pipe has a reader while there is no worker.
    with open(fifo, "r+b", buffering=0) as out:
        out.write(b"line-1-a\n")
        records(process, 1)
        first = process.worker()
        os.kill(first, signal.SIGKILL)
        out.write(b"line-2-while-nobody-reads\n")
        wait_until(lambda: process.worker() not in (None, first), "the next worker")
        out.write(b"line-3-c\n")
        lines = process.wait_logs(lambda lines: set(numbers(lines)) == {1, 2, 3}, "three lines")
    assert [n for n in numbers(lines) if n > 1] == [2, 3]
    process.stop()


def test_fluent_logger(start):
    """The real client of PyPI, and then what it cannot do: packed and compressed messages with acknowledgement."""
    from fluent import event, sender
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="forward")
    client = sender.FluentSender("shop", host="127.0.0.1", port=port, nanosecond_precision=True)
    for n in range(100):
        assert client.emit("order", {"n": f"line-{n}-x", "level": "error", "sum": 1.5, "ok": True, "deep": {"a": [1, None]}})
    client.close()
    found = records(process, 100)
    assert sorted(numbers(r["n"] for r in found)) == list(range(100))
    assert found[0]["tag"] == "shop.order" and found[0]["deep"] == {"a": [1, None]} and found[0]["level"] == "error"
    assert found[0]["@timestamp"] != found[0]["observed_timestamp"], "the event's own time"

    when = msgpack.ExtType(0, (1769860800).to_bytes(4, "big") + (5_000_000).to_bytes(4, "big"))
    packed = b"".join(msgpack.packb([when, {"n": f"line-{n}-x"}]) for n in (200, 201))
    halves = [gzip.compress(packed[:20]), gzip.compress(packed[20:])]
    messages = [
        ["t", [[1769860800, {"n": "line-202-x"}]], {"chunk": "one"}],
        ["t", packed, {"chunk": "two", "size": 2}],
        ["t", b"".join(halves), {"chunk": "three" * 20, "compressed": "gzip"}],
    ]
    with tcp(port) as client:
        unpacker = msgpack.Unpacker()
        for message in messages:
            for octet in (data := msgpack.packb(message))[:7]:
                client.sendall(bytes([octet]))
            client.sendall(data[7:])
            while (answer := next(unpacker, None)) is None:
                unpacker.feed(client.recv(1000))
            assert answer == {"ack": message[2]["chunk"]}
    # What is acknowledged is in the spool, and stands in the store before long.
    found = records(process, 105)
    stamped = [r for r in found if r["n"] == "line-200-x"]
    assert len(stamped) == 2 and stamped[0]["@timestamp"] == "2026-01-31T12:00:00.005Z"
    process.stop()


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"\x93\xa1t\xce\x00\x00\x00\x01\x91\xc0", b"\x92\xa1t\xc1",
                                    msgpack.packb(["t", gzip.compress(bytes(64 << 20)), {"compressed": "gzip"}])])
def test_what_is_no_forward_message_ends_the_connection(start, octets):
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="forward")
    with tcp(port) as client:
        client.sendall(octets)
        assert client.recv(10) == b""
    wait_until(lambda: metric(process, "outrider_log_refused_total", source="in") == 1, "the count")
    process.stop()


def post(port, body, path="/", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=rig.DEADLINE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_ndjson_over_http(start):
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="http")
    assert post(port, b'{"n":"line-1-x","big":12345678901234567890}\n{"n":"line-2-x"}') == 204
    assert post(port, gzip.compress(b'{"n":"line-3-x"}\n'), Content_Encoding="gzip") == 204
    assert post(port, b'[{"n":"line-4-x",\n"a":1}, {"n":"line-5-x"}]') == 204
    assert post(port, gzip.compress(bytes(64 << 20)), Content_Encoding="gzip") == 400
    assert post(port, b"x", Content_Encoding="br") == 415
    assert post(port, b"[1") == 400
    assert post(port, b"x" * (17 << 20)) in (413, 400)
    found = records(process, 5)
    assert sorted(numbers(r["n"] for r in found)) == [1, 2, 3, 4, 5]
    assert any("12345678901234567890" in line for line in process.logs())
    curl = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-",
                           f"http://127.0.0.1:{port}/"], input=b'{"n":"line-6-x"}\n' * 200_000, capture_output=True)
    assert curl.stdout == b"204", curl.stderr
    assert post(port, None) == 405
    process.stop()


def test_opentelemetry_sdk(start):
    """The SDK's own exporter sends what its logging handler makes; then the JSON form of the same message."""
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="otlp")
    program = f"""
import logging
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
provider = LoggerProvider(resource=Resource.create({{"service.name": "shop"}}))
provider.add_log_record_processor(BatchLogRecordProcessor(
    OTLPLogExporter(endpoint="http://127.0.0.1:{port}/v1/logs", compression=Compression.Gzip)))
logger = logging.getLogger("orders")
logger.addHandler(LoggingHandler(logger_provider=provider))
for n in range(50):
    logger.error("line-%d-order", n, extra={{"order": n, "rate": 0.5, "ok": True, "tags": ["a", "b"]}})
provider.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Failed" not in done.stderr, done.stderr
    found = records(process, 50)
    assert sorted(numbers(r["message"] for r in found)) == list(range(50))
    one = next(r for r in found if r["message"] == "line-7-order")
    assert one["level"] == "error" and one["resource"]["service.name"] == "shop" and one["observed_timestamp"]
    assert one["attributes"]["order"] == 7 and one["attributes"]["rate"] == 0.5 and one["attributes"]["tags"] == ["a", "b"]
    body = {"resourceLogs": [{"resource": {"attributes": [{"key": "k", "value": {"intValue": "5"}}]}, "scopeLogs": [{
        "scope": {"name": "s"}, "logRecords": [{
            "timeUnixNano": "1769860800000000000", "severityNumber": 17, "body": {"stringValue": "line-60-json"},
            "traceId": "5b8efff798038103d269b633813fc60c", "attributes": [
                {"key": "m", "value": {"kvlistValue": {"values": [{"key": "x", "value": {"boolValue": True}}]}}}]}]}]}]}
    assert post(port, json.dumps(body).encode(), "/v1/logs", Content_Type="application/json") == 200
    last = next(r for r in records(process, 51) if r["message"] == "line-60-json")
    assert (last["@timestamp"], last["level"], last["scope"]) == ("2026-01-31T12:00:00.000Z", "error", "s")
    assert last["resource"] == {"k": 5} and last["attributes"] == {"m": {"x": True}} and last["trace_id"].startswith("5b8e")
    assert post(port, b"\x0a\xff", "/v1/logs", Content_Type="application/x-protobuf") == 400
    assert post(port, b"{}", "/v1/traces", Content_Type="application/json") == 404
    process.stop()


def test_sources_come_and_go_with_a_reload(start):
    first, second = rig.free_port(), rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{first}")
    with tcp(first) as client:
        client.sendall(b"line-1-a\nline-2-unfin")
        records(process, 1)
        sources = {"in": {"listen": f"tcp:127.0.0.1:{first}", "parse": "none"},
                   "web": {"listen": f"tcp:127.0.0.1:{second}", "format": "http"}}
        process.write_config({"admin": {"listen": "127.0.0.1:0"}, "logs": {"sources": sources}})
        assert rig.run("reload", "--state", process.state).returncode == 0
        listening(process, f"tcp:127.0.0.1:{second}")
        client.sendall(b"ished\n")
    assert post(second, b'{"n":"line-3-x"}') == 204
    assert {r.get("message") for r in records(process, 3)} >= {"line-1-a", "line-2-unfinished"}
    process.write_config({"admin": {"listen": "127.0.0.1:0"}, "logs": {"sources": {"web": sources["web"]}}})
    assert rig.run("reload", "--state", process.state).returncode == 0
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", first)) != 0, "a closed port")
    assert post(second, b'{"n":"line-4-x"}') == 204
    process.stop()
