"""Lines and messages that were made to do harm: the worker lives, what was accepted is kept, and what was refused is counted."""

import gzip
import json
import socket
import struct
import sys

import msgpack
import pytest

import rig
from rig import numbers, wait_until
from test_log_sources import listening, metric, post, source, tcp


def read(process, count):
    lines = process.wait_logs(lambda lines: len(numbers(lines)) >= count, f"{count} records")
    return {numbers([line])[0]: line for line in lines if numbers([line])}


def test_octets_that_are_no_text(start, place):
    """NULs, broken UTF-8 and terminal sequences stay in the record, where JSON can say them; a terminal never sees them."""
    log = place / "a.log"
    log.write_bytes(
        b"line-1-nul \0 in it\n"
        b"line-2-utf8 \xff\xfe\xc0\xaf\xed\xa0\x80 broken\n"
        b"line-3-ansi \x1b[31mred\x1b[0m \x1b]0;title\x07\n"
        b'{"message":"line-4-json \xff broken"}\n'
        b'{"message":"line-5-raw \x01 control"}\n'
        b'{"message":"line-6-escaped \\u001b[2J"}\n')
    process = start(
        {"logs": {"sources": {"f": {"files": [str(log)], "start": "beginning"}},
                  "sinks": {"store": {"store": {}}, "console": {"console": {"pretty": True}, "from": "f"}}}},
        ["sleep", "300"]).wait_ready()
    found = {n: json.loads(line) for n, line in read(process, 6).items()}
    assert found[1]["message"] == "line-1-nul \0 in it"
    assert found[2]["message"] == "line-2-utf8 \\xff\\xfe\\xc0\\xaf\\xed\\xa0\\x80 broken" and found[2]["invalid_utf8"] is True
    assert found[3]["message"] == "line-3-ansi \x1b[31mred\x1b[0m \x1b]0;title\x07"
    assert found[4]["invalid_utf8"] is True and found[4]["message"] == "line-4-json \\xff broken"
    assert "\x01" in found[5]["message"], "no JSON: kept as a text"
    assert found[6]["message"] == "line-6-escaped \x1b[2J"
    wait_until(lambda: "line-6-" in process.stdout, "the console")
    shown = process.stdout
    assert all(f"line-{n}-" in shown for n in range(1, 7))
    assert not {c for c in shown if ord(c) < 32 and c not in "\n\t"}, "nothing that steers a terminal"
    process.stop()


def test_json_that_is_too_much(start, place):
    """Deep, wide and long: kept as it is, as JSON where it can be, else as a text; digits stay."""
    log = place / "a.log"
    deep = '{"message":"line-1-deep","x":' + "[" * 10_000 + "]" * 10_000 + "}"
    wide = "{" + ",".join(f'"k{n}":{n}' for n in range(10_000)) + ',"message":"line-2-wide"}'
    digits = "9" * 1000
    number = f'{{"message":"line-3-number","n":{digits},"f":0.{digits}e-{digits[:300]}}}'
    same = "{" + '"a":1,' * 5_000 + '"message":"line-4-same"}'
    log.write_text("\n".join([deep, wide, number, same, "line-5-last"]) + "\n")
    process = start({"logs": {"sources": {"f": {"files": [str(log)], "start": "beginning"}}}}, ["sleep", "300"]).wait_ready()
    found = read(process, 5)
    assert "[" * 10_000 in json.loads(found[1])["message"], "too deep for JSON: the line as a text"
    assert json.loads(found[2])["k9999"] == 9999
    assert f'"n":{digits},' in found[3]
    assert found[4].count('"a":1,') >= 4_999
    process.stop()


def test_an_expression_that_would_not_end(start, place):
    """The match limit ends it; the record is kept, what was looked at is hidden, and it is counted."""
    log = place / "a.log"
    log.write_text("line-1-" + "a" * 5000 + "!\nline-2-plain\n")
    process = start(
        {"logs": {"sources": {"f": {"files": [str(log)], "start": "beginning"}},
                  "transforms": [{"redact": {"patterns": [{"regex": "(a+)+$"}]}}]}}, ["sleep", "300"]).wait_ready()
    lines = process.wait_logs(lambda lines: any("line-2-" in line for line in lines), "both records")
    assert len([line for line in lines if json.loads(line)["source"] == "f"]) == 2
    assert metric(process, "outrider_log_match_limit_total", source="f") >= 1
    process.stop()


NESTED = b"\x93\xa1t\xce\x00\x00\x00\x01\x81\xa1k" + b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize("bomb,refused", [
    (b"\x92\xa1t\xdd\xff\xff\xff\xff" + b"\x92\x01\x80" * 1000, False),  # Not wrong yet, and never whole.
    (NESTED, True),
    (msgpack.packb(["t", gzip.compress(bytes(256 << 20), 9), {"compressed": "gzip"}]), True),
    (msgpack.packb(["t", gzip.compress(b"\x92\x01\x80" * 100)[:-4] + struct.pack("<I", 1), {"compressed": "gzip"}]), True),
], ids=["a list of 2^32", "nested 100,000 deep", "256 MiB in a few", "a size that lies"])
def test_msgpack_bombs(start, bomb, refused):
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="forward")
    before = rig.private_memory(process.worker())
    with tcp(port) as client:
        try:
            client.sendall(bomb)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""
        except OSError:
            pass  # It was closed before it had all.
    if refused:
        wait_until(lambda: metric(process, "outrider_log_refused_total", source="in") >= 1, "the count")
    assert rig.private_memory(process.worker()) < before + (80 << 20)
    with tcp(port) as client:
        client.sendall(msgpack.packb(["t", 1769860800, {"n": "line-1-x"}]))
        read(process, 1)
    process.stop()


def field(number, content):
    """A length-delimited field of protobuf."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def nested(depth):
    value = b"\x0a\x01x"
    for _ in range(depth):
        value = field(5, field(1, value))
    return value


def export(body):
    return field(1, field(2, field(2, field(5, body))))


@pytest.mark.parametrize("body,headers", [
    (export(nested(3000)), {}),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", {}),
    (b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", {}),
    (gzip.compress(bytes(256 << 20), 9), {"Content_Encoding": "gzip"}),
    (gzip.compress(export(b"\x0a\x01x"))[:-4] + struct.pack("<I", 7), {"Content_Encoding": "gzip"}),
], ids=["nested 3,000 deep", "a length beyond the end", "a number without an end", "256 MiB in a few", "a size that lies"])
def test_protobuf_bombs(start, body, headers):
    port = rig.free_port()
    process = source(start, listen=f"tcp:127.0.0.1:{port}", format="otlp")
    before = rig.private_memory(process.worker())
    assert post(port, body, "/v1/logs", Content_Type="application/x-protobuf", **headers) in (400, 413)
    assert rig.private_memory(process.worker()) < before + (80 << 20)
    assert post(port, export(b"\x0a\x08line-1-x"), "/v1/logs", Content_Type="application/x-protobuf") == 200
    read(process, 1)
    process.stop()


def test_a_damaged_segment_costs_its_damaged_batch(start, place):
    """Octets of one batch in the spool are turned while nobody runs: the other records arrive, and a line tells how many did not."""
    port = rig.free_port()
    plan = {"logs": {"sinks": {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{port}", "index": "x"}, "from": "app"}}},
            "shutdown": {"deadline": "2s"}}
    program = "import threading\nfor n in range(30):\n print(f'line-{n}-x', flush=True); threading.Event().wait(0.05)\ninput()"
    process = start(plan, [sys.executable, "-c", program]).wait_ready()
    process.wait_logs(lambda lines: len(numbers(lines)) >= 30, "thirty lines")
    process.stop()
    (segment,) = (process.state / "spool").glob("*.spool")
    octets = bytearray(segment.read_bytes())
    starts = [at for at in range(len(octets)) if octets[at:at + 4] == b"ORB2"]
    assert len(starts) > 5
    hurt = octets[starts[2]:starts[3]]
    octets[starts[2] + 100] ^= 0x40
    segment.write_bytes(octets)
    lost = set(numbers([hurt.decode("latin-1")]))
    (place / "receiver").mkdir()
    server = rig.Peer(place / "receiver", "bulk_fault_server.py")
    try:
        plan["logs"]["sinks"]["es"]["elasticsearch"]["url"] = f"http://127.0.0.1:{server.port}"
        again = start(plan, ["sleep", "300"], name="again").wait_ready()
        wanted = set(range(30)) - lost

        def arrived():
            return set(numbers(document["raw"] for document in server.ask("/_accepted")["documents"]))

        wait_until(lambda: arrived() >= wanted, "the other lines")
        assert arrived() == wanted
        if lost:
            assert f"{len(lost)} records" in again.stderr and "damaged" in again.stderr
        again.stop()
    finally:
        server.end()
