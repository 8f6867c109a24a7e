"""Sinks that speak over a connection (syslog to a real rsyslog, Fluentd's forward protocol to a strict server), and files."""

import collections
import json
import re
import subprocess

import pytest

import rig
from rig import numbers, wait_until

BATCH = 100


def sinks(kind, options, **more):
    return {"out": {kind: options, "batch": {"age": "50ms", "records": BATCH},
                    "retry": {"initial": "20ms", "max": "100ms"}, **more}}


def numbered(server):
    return collections.Counter(numbers(record["record"] for record in server.ask("/_accepted")["records"]))


@pytest.fixture
def forward(peer):
    def starter(*arguments):
        server = peer("forward_fault_server.py", None, *arguments)
        server.address = f"127.0.0.1:{server.ask('/_address')['port']}"
        return server

    return starter


FAULTS = [({"mode": "none"}, 0), ({"mode": "drop", "times": 3}, 0), ({"mode": "wrong-ack", "times": 1}, BATCH),
          ({"mode": "store-then-reset", "times": 1}, BATCH)]


@pytest.mark.parametrize("compress", ["gzip", "none"])
def test_forward_through_every_fault(start, forward, place, compress):
    server, log, first = forward(), place / "app.log", 0
    log.write_text("")
    process = start(
        {"logs": {"sources": {"file": {"files": str(log), "start": "beginning"}},
                  "sinks": sinks("forward", {"address": server.address, "tag": "shop.app"}, compress=compress, **{"from": "file"})}},
        ["sleep", "300"]).wait_ready()
    for fault, twice in FAULTS:
        server.tell("/_fault", fault)
        with log.open("a") as out:
            out.writelines(f"line-{number}-end\n" for number in range(first, first + 400))
        wait_until(lambda: set(range(first + 400)) <= set(numbered(server)), f"every line through {fault}", every=0.1)
        seen = numbered(server)
        assert sum(seen[number] - 1 for number in range(first, first + 400)) <= twice, fault
        first += 400
    requests = server.ask("/_requests")
    assert requests["rejected"] == [] and (requests["compressed"] > 0) == (compress == "gzip")
    records = server.ask("/_accepted")["records"]
    assert {record["tag"] for record in records} == {"shop.app"}
    assert json.loads(records[0]["record"])["message"] == "line-0-end" and records[0]["time"] > 1.6e18
    process.stop()


@pytest.mark.parametrize("word", ["k3y-of-us", "wr0ng-key"])
def test_forward_over_tls_with_a_login(start, forward, certificates, age_store, place, python_app, word):
    ca = certificates("fluent")
    server = forward("--shared-key", "k3y-of-us", "--user", "shop", "--password", "p4ss-word",
                     "--certificate", place / "fluent.pem", "--key", place / "fluent.key")
    file, identity = age_store(f"fluent:\n  key: {word}\n  password: p4ss-word\n")
    options = {"address": server.address.replace("127.0.0.1", "localhost"), "shared_key": "${secrets.fluent.key}",
               "user": "shop", "password": "${secrets.fluent.password}"}
    process = start(
        {"logs": {"sinks": sinks("forward", options, tls={"ca": str(ca)})},
         "secrets": {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
                     "values": {"fluent": {"key": "fluent"}}}, "shutdown": {"deadline": "3s"}},
        python_app("talker.py", 100, "stay")).wait_ready()

    def error():
        return next(s for s in process.admin("/status").json["sinks"] if s["name"] == "out").get("last_error", "")

    if word == "k3y-of-us":
        wait_until(lambda: set(numbered(server)) == set(range(100)), "the lines")
    else:
        wait_until(lambda: "shared_key mismatch" in error(), "the reason")
        assert not numbered(server)
    assert word not in process.stderr + error() and "p4ss-word" not in process.stderr + error()
    process.stop()


@pytest.fixture
def rsyslog(place, ending):
    """rsyslog(port, tls) runs a real rsyslogd that writes what it takes to a file."""

    def starter(port, name="rsyslog", tls=None):
        driver = (f'global(DefaultNetstreamDriverCAFile="{tls}" DefaultNetstreamDriverCertFile="{place}/log.pem" '
                  f'DefaultNetstreamDriverKeyFile="{place}/log.key")' if tls else "")
        mode = 'streamdriver.name="ossl" streamdriver.mode="1" streamdriver.authmode="anon"' if tls else ""
        (place / f"{name}.conf").write_text(
            f'global(workDirectory="{place}" maxMessageSize="64k")\n{driver}\nmodule(load="imtcp" {mode})\n'
            f'template(name="all" type="string" string="%syslogfacility-text%|%syslogseverity-text%|%hostname%|%app-name%|'
            f'%timereported:::date-rfc3339%|%protocol-version%|%msg%\\n")\n'
            f'input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="r")\n'
            f'ruleset(name="r") {{ action(type="omfile" file="{place}/out.log" template="all") }}\n')
        process = rig.Process(
            ["rsyslogd", "-n", "-f", str(place / f"{name}.conf"), "-i", str(place / f"{name}.pid")], place, name)
        ending.append(process)
        return process

    return starter


def taken(place):
    path = place / "out.log"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("text", ["json", "text"])
def test_syslog_to_a_real_rsyslog_that_comes_late(start, rsyslog, place, python_app, text):
    port = rig.free_port()
    options = {"address": f"127.0.0.1:{port}", "facility": "local3", "name": "shop", "format": text}
    process = start(
        {"logs": {"sinks": sinks("syslog", options)}}, python_app("talker.py", 500, "stay")).wait_ready()
    wait_until(lambda: 'outrider_log_circuit_open{sink="out"} 1' in process.admin("/metrics").text, "the open circuit")
    rsyslog(port)
    wait_until(lambda: len(set(numbers(taken(place)))) == 500, "every line")
    lines = [line for line in taken(place) if numbers([line])]
    assert collections.Counter(numbers(lines)) == collections.Counter(range(500))
    facility, severity, host, name, time, version, message = lines[0].split("|", 6)
    assert (facility, severity, name, version) == ("local3", "info", "shop", "1") and host
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)", time)
    message = message.strip()
    assert (json.loads(message)["message"] if text == "json" else message) in {f"line-{n}-end" for n in range(500)}
    process.stop()


def test_syslog_in_one_piece_whatever_is_in_it(start, rsyslog, place):
    """Octet counting: a line feed within a message does not end it."""
    port = rig.free_port()
    rsyslog(port)
    options = {"address": f"127.0.0.1:{port}", "format": "text"}
    process = start({"logs": {"sinks": sinks("syslog", options)}},
                    ["sh", "-c", """printf '%s\\n' '{"level":"fatal","message":"line-1-a\\nb"}'; echo line-2-c; sleep 300"""])
    wait_until(lambda: sorted(numbers(taken(place))) == [1, 2], "both")
    (first,) = [line for line in taken(place) if "line-1-" in line]
    assert first.endswith("line-1-a#012b") and "|crit|" in first
    process.stop()


def test_a_file_is_rotated_and_nothing_is_lost(start, place, python_app):
    path = place / "sink.ndjson"
    process = start(
        {"logs": {"sinks": {"out": {"file": {"path": str(path), "rotate": {"size": "16KiB", "keep": 200}}}}}},
        python_app("talker.py", 1000, 2000, "stay")).wait_ready()

    def files():
        return sorted(place.glob("sink.ndjson*"), key=lambda f: int(f.suffix[1:]) if f.suffix[1:].isdigit() else 0)

    def found():
        return [n for file in reversed(files()) for n in numbers(file.read_text().splitlines())]

    wait_until(lambda: len(found()) == 1000, "every line")
    assert sorted(found()) == list(range(1000)) and len(files()) > 1
    for parity in (0, 1):
        assert [n for n in found() if n % 2 == parity] == list(range(parity, 1000, 2)), "in order, oldest file first"
    process.stop()
