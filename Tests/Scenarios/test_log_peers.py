"""Other people's programs as senders and receivers of logs: systemd's journal, syslog-ng, Splunk's handler; and TLS."""

import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys

import msgpack
import pytest

import rig
from certificates import Authority
from rig import numbers, wait_until

SYSLOG_NG = rig.ROOT / ".venv" / "syslog-ng"
REMOTE = "/lib/systemd/systemd-journal-remote"


def entry(number, **fields):
    """An entry in the export format; journal-remote makes its cursor."""
    fields = {"MESSAGE": f"line-{number}-x", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "shop", "_HOSTNAME": "far",
              "_SYSTEMD_UNIT": "shop.service", "_PID": "17", **fields}
    out = (f"__REALTIME_TIMESTAMP={1_790_000_000_000_000 + number}\n__MONOTONIC_TIMESTAMP={number + 1}\n"
           "_BOOT_ID=0123456789abcdef0123456789abcdef\n").encode()
    for name, value in fields.items():
        if isinstance(value, bytes):
            out += name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        else:
            out += f"{name}={value}\n".encode()
    return out + b"\n"


@pytest.fixture
def journal(place, ending):
    """A journal that a real systemd-journal-remote writes; `write(bytes)` adds entries."""
    directory = place / "journal"
    directory.mkdir()
    assert os.path.exists(REMOTE), "systemd-journal-remote is not installed: run dev/setup.sh test"
    writer = subprocess.Popen([REMOTE, f"--output={directory}/far.journal", "-"], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    class Journal:
        path = str(directory)

        def write(self, data):
            writer.stdin.write(data)
            writer.stdin.flush()

        def end(self):
            writer.stdin.close()
            writer.wait()

    made = Journal()
    ending.append(made)
    return made


def records(process, source="in"):
    return [json.loads(line) for line in process.logs("--source", source, "--limit", "100000")]


def test_the_journal(start, place, journal):
    journal.write(b"".join(entry(n) for n in range(200)))
    wait_until(lambda: (place / "journal" / "far.journal").exists(), "a journal")
    config = {"logs": {"sources": {"in": {"journald": {"directory": journal.path, "start": "beginning"}}}}}
    process = start(config, ["sleep", "300"]).wait_ready()
    process.wait_logs(lambda lines: len(numbers(lines)) >= 200, "what was there")
    # What comes later, with a value of several lines and one that is no UTF-8.
    journal.write(entry(200, MESSAGE=b"line-200-\ntwo \"lines\"", CODE_FILE="a.c", PRIORITY="3"))
    journal.write(entry(201, MESSAGE=b"line-201-\xff"))
    process.wait_logs(lambda lines: len(numbers(lines)) >= 202, "what came later")
    found = records(process)
    first = found[0]
    assert (first["message"], first["level"], first["unit"], first["app"], first["pid"], first["host"]) == (
        "line-0-x", "warn", "shop.service", "shop", "17", "far")
    assert first["@timestamp"].startswith("2026-09-21T14:13:20") and first["observed_timestamp"]
    assert found[200]["message"] == 'line-200-\ntwo "lines"' and found[200]["journal"]["CODE_FILE"] == "a.c"
    assert found[200]["level"] == "error"
    assert "\\xff" in json.dumps(found[201]) and found[201]["invalid_utf8"] is True
    # Killed and stopped at any instant, it goes on where it was.
    worker = process.worker()
    journal.write(b"".join(entry(n) for n in range(202, 600)))
    os.kill(worker, signal.SIGKILL)
    journal.write(b"".join(entry(n) for n in range(600, 800)))
    process.wait_logs(lambda lines: set(numbers(lines)) == set(range(800)), "all of them after a kill")
    process.stop()
    journal.write(b"".join(entry(n) for n in range(800, 900)))
    again = rig.Outrider(place, json.loads(process.config_path.read_text()), ["sleep", "300"], state=process.state, name="again")
    try:
        again.wait_logs(lambda lines: set(numbers(lines)) == set(range(900)), "what came while nobody read")
        assert len([r for r in records(again) if "line-850-" in r["message"]]) == 1
    finally:
        again.stop()
    # No child is left behind.
    assert f"--directory={journal.path}" not in subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True).stdout


def test_parts_of_the_journal(start, journal, place):
    for n in range(90):
        journal.write(entry(n, _SYSTEMD_UNIT=["a.service", "b.service", "c.service"][n % 3], COLOUR="red" if n < 50 else "blue"))
    wait_until(lambda: (place / "journal" / "far.journal").exists(), "a journal")
    common = {"directory": journal.path, "start": "beginning"}
    process = start({"logs": {"sources": {
        "units": {"journald": {**common, "units": ["a.service", "b.service"]}},
        "red": {"journald": {**common, "matches": "COLOUR=red"}}, "late": {"journald": {"directory": journal.path}}}}},
        ["sleep", "300"]).wait_ready()
    wait_until(lambda: process.stderr.count("reads the journal") == 3, "all three")
    wait_until(lambda: sorted(numbers(r["message"] for r in records(process, "units"))) == [
        n for n in range(90) if n % 3 < 2], "two units", every=0.3)
    wait_until(lambda: numbers(r["message"] for r in records(process, "red")) == list(range(50)), "red ones", every=0.3)
    process.stop()


def test_a_journal_that_is_not_there(start, place):
    process = start({"logs": {"sources": {"in": {"journald": {"directory": str(place / "none")}}}}}, ["sleep", "300"])
    process.wait_ready()
    wait_until(lambda: "source 'in' cannot read the journal" in process.stderr, "the word")
    process.stop()
    again = start({"logs": {"sources": {"in": {"journald": {}}}}}, ["/bin/sleep", "300"], env={"PATH": "/nowhere"}, name="b")
    wait_until(lambda: "`journalctl` cannot be started: No such file" in again.stderr, "the word")
    again.stop()


# --- syslog-ng


@pytest.fixture
def syslog_ng(place, ending):
    def starter(config, name="syslog-ng"):
        library = SYSLOG_NG / "usr/lib/syslog-ng"
        assert library.exists(), "syslog-ng is not there: run dev/setup.sh test"
        (place / f"{name}.conf").write_text('@version: 3.38\noptions { keep-hostname(yes); use-dns(no); };\n' + config)
        process = rig.Process(
            [SYSLOG_NG / "usr/sbin/syslog-ng", "--foreground", "--no-caps", f"--module-path={library}/3.38",
             f"--cfgfile={place}/{name}.conf", f"--persist-file={place}/{name}.persist", f"--pidfile={place}/{name}.pid",
             f"--control={place}/{name}.ctl"], place, name, env={"LD_LIBRARY_PATH": str(library)})
        ending.append(process)
        return process

    return starter


@pytest.fixture
def authority(place):
    return Authority(place / "ca")


def test_syslog_ng_sends(start, place, syslog_ng, authority):
    """RFC 5424 with octet counting over TCP and in mutual TLS, RFC 3164 by lines, and datagrams."""
    ports = [rig.free_port() for _ in range(4)]
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    client, client_key = authority.issue("client", "DNS:client")
    tls = {"certificate": str(certificate), "key": str(key), "client_ca": str(authority.file)}
    sources = {"counted": {"listen": f"tcp:127.0.0.1:{ports[0]}", "format": "syslog"},
               "framed": {"listen": f"tcp:127.0.0.1:{ports[1]}", "format": "syslog"},
               "datagram": {"listen": f"udp:127.0.0.1:{ports[2]}", "format": "syslog"},
               "secure": {"listen": f"tcp:127.0.0.1:{ports[3]}", "format": "syslog", "tls": tls}}
    process = start({"logs": {"sources": sources}}, ["sleep", "300"]).wait_ready()
    wait_until(lambda: process.stderr.count("listens on") == 4, "four sockets")
    (place / "in.log").write_text("".join(f"line-{n}-ä \"quoted\"\n" for n in range(500)))
    syslog_ng(f"""
source s {{ file("{place}/in.log" flags(no-parse) program-override("shop") default-severity("warning")
  default-facility("local3") follow-freq(0.1)); }};
destination counted {{ syslog("127.0.0.1" port({ports[0]}) transport("tcp")); }};
destination framed {{ network("127.0.0.1" port({ports[1]}) transport("tcp")); }};
destination datagram {{ network("127.0.0.1" port({ports[2]}) transport("udp")); }};
destination secure {{ syslog("127.0.0.1" port({ports[3]}) transport("tls") tls(ca-file("{authority.file}")
  cert-file("{client}") key-file("{client_key}") peer-verify(required-trusted))); }};
log {{ source(s); destination(counted); destination(framed); destination(datagram); destination(secure); }};
""")
    for name in sources:
        wait_until(lambda: sorted(numbers(r["message"] for r in records(process, name))) == list(range(500)),
                   f"500 from {name}", every=0.3)
        record = next(r for r in records(process, name) if r["message"].startswith("line-7-"))
        assert record["message"] == 'line-7-ä "quoted"'
        assert (record["app"], record["facility"], record["level"]) == ("shop", "local3", "warn")
        assert record["host"] and record["observed_timestamp"]
    process.stop()


@pytest.mark.parametrize("secure", [False, True])
def test_syslog_ng_takes(start, place, syslog_ng, authority, python_app, secure):
    port = rig.free_port()
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    tls = (f'transport("tls") tls(key-file("{key}") cert-file("{certificate}") peer-verify(optional-untrusted))'
           if secure else 'transport("tcp")')
    options = {"address": f"127.0.0.1:{port}", "facility": "local3", "name": "shop", "format": "text"}
    sink = {"syslog": options, "batch": {"age": "50ms"}, "retry": {"initial": "20ms", "max": "100ms"}}
    if secure:
        sink["tls"] = {"ca": str(authority.file)}
    process = start({"logs": {"sinks": {"out": sink}}}, python_app("talker.py", 500, "stay")).wait_ready()
    syslog_ng(f"""
source s {{ syslog(ip("127.0.0.1") port({port}) {tls}); }};
destination d {{ file("{place}/out.log" template("$FACILITY|$LEVEL|$PROGRAM|$ISODATE|$MESSAGE\\n")); }};
log {{ source(s); destination(d); }};
""")

    def taken():
        path = place / "out.log"
        return path.read_text().splitlines() if path.exists() else []

    wait_until(lambda: len(set(numbers(taken()))) == 500, "every line", every=0.2)
    facility, level, program, time, message = next(l for l in taken() if numbers([l]) == [7]).split("|", 4)
    assert (facility, level, program) == ("local3", "info", "shop") and time.startswith("20")
    process.stop()


# --- TLS, and other senders


def secure(port, authority, certificate=None):
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate:
        context.load_cert_chain(*map(str, certificate))
    plain = socket.create_connection(("127.0.0.1", port), timeout=rig.DEADLINE)
    return context.wrap_socket(plain, server_hostname="localhost")


def test_every_format_in_tls(start, authority, place):
    certificate, key = authority.issue("server", "DNS:localhost")
    client = authority.issue("client", "DNS:client")
    ports = {name: rig.free_port() for name in ("lines", "forward", "http", "otlp")}
    tls = {"certificate": str(certificate), "key": str(key)}
    sources = {name: {"listen": f"tcp:127.0.0.1:{port}", "format": name, "tls": dict(tls)} for name, port in ports.items()}
    sources["lines"]["tls"] |= {"client_ca": str(authority.file), "min_version": "1.3"}
    process = start({"logs": {"sources": sources}}, ["sleep", "300"]).wait_ready()
    wait_until(lambda: process.stderr.count("listens on") == 4, "four sockets")
    # Lines: more than all buffers hold, then the end.
    with secure(ports["lines"], authority, client) as out:
        out.sendall(b"".join(b"line-%d-%s\n" % (n, b"x" * 1000) for n in range(3000)))
        out.unwrap()
    process.wait_logs(lambda _: len(numbers(r["message"] for r in records(process, "lines"))) == 3000, "3000 lines")
    # Forward: the acknowledgement comes back through TLS.
    with secure(ports["forward"], authority) as out:
        out.sendall(msgpack.packb(["tag", [[1_790_000_000, {"message": "line-1-f"}]], {"chunk": "c1"}]))
        assert msgpack.unpackb(out.recv(1000)) == {"ack": "c1"}
    with secure(ports["http"], authority) as out:
        out.sendall(b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\n{"message":"line-1-h"}')
        assert out.recv(1000).startswith(b"HTTP/1.1 204")
    wait_until(lambda: numbers(r["message"] for r in records(process, "forward") + records(process, "http")) == [1, 1],
               "both records")
    # Without the certificate that is asked for, and without TLS: refused, counted and said.
    with pytest.raises(OSError):
        with secure(ports["lines"], authority) as out:
            out.sendall(b"line-9-x\n")
            assert out.recv(10) != b"", "closed"
            raise AssertionError("it was taken")
    with socket.create_connection(("127.0.0.1", ports["forward"]), timeout=rig.DEADLINE) as out:
        out.sendall(b"plain words, no handshake\n")
        out.shutdown(socket.SHUT_WR)
        while out.recv(1000):
            pass
    wait_until(lambda: process.stderr.count("a TLS handshake failed") >= 2, "the words")
    assert 'outrider_log_refused_total{source="forward"} 1' in process.admin("/metrics").text
    # A new certificate is used without a reload.
    new = Authority(place / "other", "other root")
    for old, fresh in zip((certificate, key), new.issue("server", "DNS:localhost")):
        old.with_suffix(".new").write_bytes(fresh.read_bytes())
        os.replace(old.with_suffix(".new"), old)

    def renewed():
        try:
            with secure(ports["http"], new):
                return True
        except ssl.SSLError:
            return False

    wait_until(renewed, "the new certificate", every=0.3)
    process.stop()


def test_splunk_hec_handler(start):
    """PyPI's splunk-hec-handler posts to the HTTP source; one record an event."""
    port = rig.free_port()
    process = start({"logs": {"sources": {"in": {"listen": f"tcp:127.0.0.1:{port}", "format": "http"}}}},
                    ["sleep", "300"]).wait_ready()
    wait_until(lambda: "listens on" in process.stderr, "the socket")
    program = f"""
import logging
from splunk_hec_handler import SplunkHecHandler
handler = SplunkHecHandler("127.0.0.1", "a-token", port={port}, proto="http", source="shop", hostname="far")
logger = logging.getLogger("x")
logger.addHandler(handler)
for n in range(20):
    logger.error("line-%d-hec" % n)
logger.warning({{"message": "line-20-hec", "order": 7}})
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    found = wait_until(lambda: (lambda all: all if len(all) == 21 else None)(
        [r for r in records(process) if "event" in r]), "21 events")
    assert numbers(r["event"]["message"] for r in found) == list(range(21))
    assert found[0]["host"] == "far" and found[0]["event"]["log_level"] == "ERROR" and found[20]["event"]["order"] == 7
    process.stop()


def test_two_cannot_listen_at_one_place(place):
    def validate(logs, **more):
        (place / "outrider.yaml").write_text(json.dumps({"logs": {"sources": logs}, **more}))
        return rig.run("validate", "--config", place / "outrider.yaml")

    one, other = {"listen": "tcp:127.0.0.1:5140"}, {"listen": "tcp:0.0.0.0:5140"}
    result = validate({"a": one, "b": other})
    assert result.returncode == 78 and "`logs.sources.b` and `logs.sources.a`" in result.stderr
    result = validate({"a": one}, admin={"listen": "127.0.0.1:5140"})
    assert result.returncode == 78 and "`admin` and `logs.sources.a`" in result.stderr
    assert validate({"a": one, "b": {"listen": "udp:127.0.0.1:5140"}}).returncode == 0
    assert validate({"a": {**one, "tls": {"certificate": "a.pem"}}}).returncode == 78
    assert "only" in validate({"a": {"listen": "udp:127.0.0.1:1", "tls": {"certificate": "a", "key": "b"}}}).stderr
