"""Every network sink against a strict server that fails on command: nothing is missing, and at most one batch comes twice."""

import base64
import collections
import json

import pytest

import rig
from rig import numbers, wait_until

BATCH = 100
LINES = 600


def way(kind, port, **more):
    url = f"http://127.0.0.1:{port}"
    return {
        "http": {"url": url + "/lines"},
        "http-array": {"url": url + "/lines", "format": "json"},
        "splunk": {"url": url, "token": "t0ken", "index": "shop"},
        "splunk-ack": {"url": url, "token": "t0ken", "ack": True},
        "splunk-raw": {"url": url, "token": "t0ken", "endpoint": "raw", "index": "shop", "sourcetype": "shop lines"},
        "loki": {"url": url, "labels": {"job": "shop", "stream": "${stream}"}, "tenant": "t1"},
        "otlp": {"url": url, "service": "shop"},
        "otlp-json": {"url": url, "service": "shop", "protocol": "http/json"},
    }[kind] | more


def sink(kind, port, options=None, **more):
    return {"out": {kind.split("-")[0]: way(kind, port, **(options or {})), "batch": {"age": "50ms", "records": BATCH},
                    "retry": {"initial": "20ms", "max": "100ms"}, **more}}


def numbered(server):
    return collections.Counter(numbers(record["record"] for record in server.ask("/_accepted")["records"]))


def faults(kind):
    # Splunk's own answer to what it does not understand names the event; the others are looked through by halves.
    bad = "line-{}-" if kind != "otlp" else "line-{}-"
    return [
        ({"mode": "none"}, 0), ({"mode": "429", "times": 3, "retry_after": 0}, 0), ({"mode": "503", "times": 3}, 0),
        ({"mode": "413", "limit": 6000}, 0), ({"mode": "drop", "times": 3}, 0),
        ({"mode": "store-then-reset", "times": 1}, BATCH), ({"mode": "refuse", "match": bad}, BATCH),
    ]


@pytest.mark.parametrize("kind", ["http", "http-array", "splunk", "splunk-ack", "splunk-raw", "loki", "otlp", "otlp-json"])
def test_nothing_is_missing_through_every_fault(start, peer, place, kind):
    server = peer("log_fault_server.py")
    acks = {"ack": kind == "splunk-ack"}
    log, dead, first = place / "app.log", place / "dead.ndjson", 0
    log.write_text("")
    process = start(
        {"logs": {"sources": {"file": {"files": str(log), "start": "beginning"}},
                  "sinks": sink(kind, server.port, dead_letter=str(dead), **{"from": "file"})}},
        ["sleep", "300"]).wait_ready()
    for fault, twice in faults(kind):
        refused = {first + 7} if fault["mode"] == "refuse" else set()
        server.tell("/_fault", {**acks, **fault, "match": fault.get("match", "").format(first + 7)})
        with log.open("a") as out:
            out.writelines(f"line-{number}-end of {fault['mode']}\n" for number in range(first, first + LINES))
        wanted = set(range(first, first + LINES)) - refused
        wait_until(lambda: wanted <= set(numbered(server)), f"every line through {fault}", every=0.1)
        if refused:
            wait_until(lambda: dead.exists() and set(numbers(dead.read_text().splitlines())) == refused, "the refused line")
        seen = numbered(server)
        assert set(seen) == set(range(first + LINES)) - refused, fault
        again = sum(seen[number] - 1 for number in wanted)
        assert again <= twice and max(seen[number] for number in wanted) <= (2 if twice else 1), fault
        first += LINES
    status = next(s for s in process.admin("/status").json["sinks"] if s["name"] == "out")
    assert status["dead_letters"] == 1 and status["lag_records"] == 0
    requests = server.ask("/_requests")
    assert requests["rejected"] == [] and requests["gzip"] > 0
    assert (requests["polls"] > 0) == (kind == "splunk-ack")
    metrics = process.admin("/metrics").text
    assert 'outrider_log_circuit_open{sink="out"} 0' in metrics and 'outrider_log_sent_bytes_total{sink="out"}' in metrics
    process.stop()


@pytest.mark.parametrize("kind", ["http", "otlp"])
def test_a_server_that_hangs_holds_up_nothing_else(start, peer, python_app, kind):
    server = peer("log_fault_server.py")
    server.tell("/_fault", {"mode": "hang"})
    process = start({"logs": {"sinks": sink(kind, server.port)}}, python_app("talker.py", 300, "stay")).wait_ready()
    wait_until(lambda: server.ask("/_requests")["count"] >= 1, "a request that hangs")
    process.wait_logs(lambda lines: len(set(numbers(lines))) == 300, "the lines in the store")
    server.tell("/_fault", {"mode": "none"})
    wait_until(lambda: set(numbered(server)) == set(range(300)), "the lines after the hang")
    process.stop()


def test_a_sink_whose_server_comes_back(start, peer, python_app):
    server = peer("log_fault_server.py", "first")
    process = start(
        {"logs": {"sinks": sink("http", server.port)}}, python_app("talker.py", 600, 400, "stay")).wait_ready()
    wait_until(lambda: numbered(server), "the first lines")
    before = numbered(server)
    port = server.port
    server.end()
    wait_until(lambda: 'outrider_log_circuit_open{sink="out"} 1' in process.admin("/metrics").text, "the open circuit")
    later = peer("log_fault_server.py", "second", "--port", port)
    # What the first one took between the look and its end, it did not lose for us: it acknowledged.
    wait_until(lambda: max(numbered(later), default=0) == 599, "the last line")
    seen = numbered(later)
    assert set(range(max(seen) + 1)) - set(before) - set(seen) <= set(range(max(before), min(seen)))
    assert max(seen.values()) == 1
    process.stop()


def test_splunk_says_what_the_records_are(start, peer):
    server = peer("log_fault_server.py")
    options = {"sourcetype": "shop:json", "source": "the-shop", "host": "h1"}
    line = '{"level":"error","message":"line-1-x","time":"2026-01-31T12:00:00.5Z"}'
    process = start({"logs": {"sinks": sink("splunk", server.port, options)}}, ["sh", "-c", f"echo '{line}'; sleep 300"])
    wait_until(lambda: numbered(server), "the line")
    (event,) = server.ask("/_accepted")["records"]
    assert (event["time"], event["host"], event["source"], event["sourcetype"], event["index"]) == (
        1769860800.5, "h1", "the-shop", "shop:json", "shop")
    assert json.loads(event["record"])["message"] == "line-1-x"
    process.stop()


def test_splunk_with_a_token_that_is_not_known_stops_loudly(start, peer, age_store, python_app):
    server = peer("log_fault_server.py")
    server.tell("/_fault", {"mode": "token"})
    file, identity = age_store("hec:\n  token: t0ken\n")
    process = start(
        {"logs": {"sinks": sink("splunk", server.port, {"token": "${secrets.hec.token}"})},
         "secrets": {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
                     "values": {"hec": {"key": "hec", "refresh": "200ms"}}}},
        python_app("talker.py", 50, "stay")).wait_ready()

    def status():
        return next(s for s in process.admin("/status").json["sinks"] if s["name"] == "out")

    wait_until(lambda: "stopped" in status().get("last_error", ""), "the stop")
    assert "code 4" in status()["last_error"] and "has stopped" in process.stderr
    asked = server.ask("/_requests")["count"]
    # Another credential is a reason to try again.
    server.tell("/_fault", {"token": "n3w-token"})
    assert server.ask("/_requests")["count"] == asked, "it asks no more"
    age_store("hec:\n  token: n3w-token\n")
    wait_until(lambda: set(numbered(server)) == set(range(50)), "the lines")
    everything = process.stderr + process.admin("/metrics").text + json.dumps(status())
    assert "t0ken" not in everything and "n3w-token" not in everything
    process.stop()


def test_splunk_raw_has_lines_as_they_were(start, peer):
    server = peer("log_fault_server.py")
    line = '{"level":"error","message":"line-1-x"}'
    process = start({"logs": {"sinks": sink("splunk-raw", server.port, {"source": "the-shop"})}},
                    ["sh", "-c", f"echo '{line}'; echo ' line-2-\tä [warn]'; sleep 300"])
    wait_until(lambda: len(numbered(server)) == 2, "the lines")
    found = server.ask("/_accepted")["records"]
    assert [record["record"] for record in found] == [line, " line-2-\tä [warn]"]
    assert (found[0]["source"], found[0]["sourcetype"], found[0]["index"]) == ("the-shop", "shop lines", "shop")
    assert found[0]["host"]
    process.stop()


@pytest.mark.parametrize("kind", ["otlp", "otlp-json"])
def test_otlp_is_what_the_official_messages_say(start, peer, kind):
    server = peer("log_fault_server.py")
    line = ('{"level":"error","message":"line-1-x","time":"2026-01-31T12:00:00.5Z","n":12345678901234,"f":1.5,"yes":true,'
            '"none":null,"list":[1,"a\\u00e9"],"deep":{"k":"v"},"trace_id":"0af7651916cd43dd8448eb211c80319c",'
            '"span_id":"b7ad6b7169203331"}')
    process = start(
        {"logs": {"sinks": sink(kind, server.port)}}, ["sh", "-c", f"printf '%s\\n' '{line}'; sleep 300"])
    wait_until(lambda: numbered(server), "the line")
    (record,) = server.ask("/_accepted")["records"]
    entry = record["entry"]
    assert record["resource"]["service.name"] == "shop" and record["resource"]["host.name"] and record["scope"] == "outrider"
    assert entry["time_unix_nano"] == "1769860800500000000" and entry["severity_text"] == "error"
    assert entry["severity_number"] == "SEVERITY_NUMBER_ERROR" and entry["body"] == {"string_value": "line-1-x"}
    assert int(entry["observed_time_unix_nano"]) > 1769860800500000000
    assert base64.b64decode(entry["trace_id"]).hex() == "0af7651916cd43dd8448eb211c80319c"
    assert base64.b64decode(entry["span_id"]).hex() == "b7ad6b7169203331"
    attributes = {item["key"]: item.get("value", {}) for item in entry["attributes"]}
    assert attributes["n"] == {"int_value": "12345678901234"} and attributes["f"] == {"double_value": 1.5}
    assert attributes["yes"] == {"bool_value": True} and attributes["none"] == {}
    assert attributes["list"] == {"array_value": {"values": [{"int_value": "1"}, {"string_value": "aé"}]}}
    assert attributes["deep"] == {"kvlist_value": {"values": [{"key": "k", "value": {"string_value": "v"}}]}}
    assert attributes["source"] == {"string_value": "app"} and attributes["stream"] == {"string_value": "stdout"}
    process.stop()


@pytest.mark.parametrize("kind", ["otlp", "otlp-json"])
def test_otlp_partial_success_keeps_the_request_in_the_dead_letter(start, peer, place, python_app, kind):
    server = peer("log_fault_server.py")
    server.tell("/_fault", {"mode": "partial", "match": "line-13-"})
    dead = place / "dead.ndjson"
    process = start(
        {"logs": {"sinks": sink(kind, server.port, dead_letter=str(dead))}},
        python_app("talker.py", 50, "stay")).wait_ready()
    wait_until(lambda: set(numbered(server)) == set(range(50)) - {13}, "the good lines")
    wait_until(lambda: dead.exists() and 13 in numbers(dead.read_text().splitlines()), "the dead letter")
    assert "rejected 1 of" in dead.read_text() and "told to reject" in dead.read_text()
    assert max(numbered(server).values()) == 1
    process.stop()


def test_headers_hold_credentials_that_never_show(start, peer, age_store, python_app):
    server = peer("log_fault_server.py")
    server.tell("/_fault", {"authorization": "Bearer h1dden-value"})
    file, identity = age_store("web:\n  token: h1dden-value\n")
    process = start(
        {"logs": {"sinks": sink("loki", server.port, {"headers": {"Authorization": "Bearer ${secrets.web.token}"}})},
         "secrets": {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
                     "values": {"web": {"key": "web"}}}}, python_app("talker.py", 20, "stay")).wait_ready()
    wait_until(lambda: set(numbered(server)) == set(range(20)), "the lines")
    records = server.ask("/_accepted")["records"]
    assert {record["tenant"] for record in records} == {"t1"}
    assert {json.dumps(record["labels"], sort_keys=True) for record in records} == {
        '{"job": "shop", "stream": "stderr"}', '{"job": "shop", "stream": "stdout"}'}
    assert "h1dden-value" not in process.stderr + process.admin("/metrics").text
    process.stop()


def test_batches_go_side_by_side_and_the_checkpoint_waits_for_the_oldest(start, peer, python_app):
    server = peer("log_fault_server.py")
    server.tell("/_fault", {"mode": "hang"})
    process = start(
        {"logs": {"sinks": sink("http", server.port, concurrency=4)}}, python_app("talker.py", 600, 400, "stay")).wait_ready()
    wait_until(lambda: server.ask("/_requests")["count"] >= 4, "four requests at once")
    status = next(s for s in process.admin("/status").json["sinks"] if s["name"] == "out")
    assert status["sent"] == 0 and status["lag_records"] > 0
    server.tell("/_fault", {"mode": "none"})
    wait_until(lambda: set(numbered(server)) == set(range(600)), "every line")
    assert max(numbered(server).values()) == 1
    process.stop()


def test_dead_letters_are_listed_shown_and_sent_again(start, peer, python_app):
    server = peer("log_fault_server.py")
    server.tell("/_fault", {"mode": "refuse", "match": "line-1"})
    process = start({"logs": {"sinks": sink("http", server.port)}}, python_app("talker.py", 20, "stay")).wait_ready()
    refused = {1, *range(10, 20)}
    wait_until(lambda: set(numbered(server)) == set(range(20)) - refused, "the good lines")

    def letters(*arguments):
        return rig.run("logs", "dead-letter", *arguments, "--state", process.state)

    wait_until(lambda: "out: 11 records" in letters("ls").stdout, "the letters")
    listed = json.loads(letters("ls", "--output", "json").stdout)
    assert (listed["sink"], listed["records"]) == ("out", 11) and "told to refuse" in listed["last_reason"]
    shown = letters("show", "out").stdout
    assert sorted(numbers(shown.splitlines())) == sorted(refused) and shown.count("told to refuse") == 11
    # What is refused again comes back; the rest arrives.
    server.tell("/_fault", {"mode": "refuse", "match": "line-13-"})
    assert letters("replay", "out").returncode == 0
    wait_until(lambda: set(numbered(server)) == set(range(20)) - {13}, "the letters that are taken now")
    wait_until(lambda: "out: 1 records" in letters("ls").stdout, "the one that is not")
    server.tell("/_fault", {"mode": "none"})
    wait_until(lambda: letters("replay", "out").returncode == 0, "the end of the first replay")
    wait_until(lambda: set(numbered(server)) == set(range(20)), "the last one")
    assert max(numbered(server).values()) == 1
    nothing = letters("show", "nowhere")
    assert nothing.returncode != 0 and "nowhere" in nothing.stderr
    process.stop()
