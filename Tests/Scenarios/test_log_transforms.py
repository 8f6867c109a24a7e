"""Transforms and redaction: what leaves the sidecar is what the configuration says, in every place where records go."""

import base64
import json
import os
import random
import sys
import urllib.parse

import rig
from rig import wait_until

EXAMPLE = rig.ROOT / "Examples" / "transforms"


def run_json(*arguments, **options):
    result = rig.run(*arguments, "--output", "json", **options)
    return result, [json.loads(line) for line in result.stdout.splitlines()]


def test_the_example_is_valid_and_its_tests_pass(place):
    config = EXAMPLE / "outrider.yaml"
    result = rig.run("validate", "--test", "--config", config)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "5 tests, 0 failed" in result.stdout
    # A test that fails is told, and ends with 1.
    broken = place / "broken.yaml"
    broken.write_text(config.read_text().replace("fields: [password, token]", "fields: [token]"))
    result, tests = run_json("validate", "--test", "--config", broken)
    assert result.returncode == 1
    failed = [t for t in tests if not t["passed"]]
    assert [t["test"] for t in failed] == ["passwords are hidden in logfmt too"] and "hunter2" in failed[0]["failures"][0]


def test_logs_test_shows_before_and_after():
    arguments = ("logs", "test", EXAMPLE / "sample.log", "--config", EXAMPLE / "outrider.yaml")
    result, lines = run_json(*arguments)
    assert result.returncode == 0, result.stderr
    assert [line["before"] for line in lines] == (EXAMPLE / "sample.log").read_text().splitlines()
    assert [line["after"] is None for line in lines] == [True, False, False, False, False, True]
    assert lines[1]["after"]["card"] == "***" and lines[1]["sinks"] == ["console", "store"]
    assert lines[2]["after"]["authorization"] == "Bearer ***" and "errors" in lines[2]["sinks"]
    plain = rig.run(*arguments)
    assert plain.stdout.count("\n- ") + 1 == 6 and plain.stdout.count("dropped") == 2
    piped = rig.run("logs", "test", "-", "--config", EXAMPLE / "outrider.yaml", stdin="WARN x")
    assert '"level":"warn"' in piped.stdout
    assert rig.run("logs", "test", "/nonexistent", "--config", EXAMPLE / "outrider.yaml").returncode != 0


def test_a_fault_in_a_condition_has_a_caret(place):
    (place / "outrider.yaml").write_text("logs:\n  transforms:\n    - keep: 'level >= loud'\n")
    result = rig.run("validate", "--config", place / "outrider.yaml")
    assert result.returncode == 78
    lines = result.stderr.splitlines()
    at = next(i for i, line in enumerate(lines) if "`loud` is no level" in line)
    assert lines[at + 1][lines[at + 2].index("^"):].startswith("loud'")
    where = rig.run("logs", "--state", place, "--where", "status >> 3")
    assert where.returncode != 0 and "^" in where.stderr


def test_transforms_of_a_running_sidecar(start, peer):
    server = peer("bulk_fault_server.py")
    lines = ["GET /healthz", "INFO start", "ERROR boom", "ERROR boom", '{"level":"error","code":503,"user":"a@b.org"}',
             '{"level":"info","code":200,"took":0.2}', '{"level":"info","code":201,"took":3}']
    script = "\n".join(f"printf '%s\\n' '{line}'" for line in lines) + "\nsleep 300"
    config = {"logs": {
        "transforms": [
            {"drop": 'msg contains "/healthz"'}, {"redact": {"patterns": ["email"]}}, {"dedupe": {"window": "1h"}},
            {"metric": {"name": "answers_total", "labels": ["code"], "where": "has code"}},
            {"metric": {"name": "took_seconds", "histogram": "took", "buckets": [1]}},
            {"route": {"es": "level >= error"}}],
        "sinks": {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{server.port}", "index": "shop"},
                         "batch": {"age": "100ms"}}}}}
    process = start(config, ["sh", "-c", script]).wait_ready()
    records = [json.loads(line) for line in process.wait_logs(lambda lines: len(lines) >= 5, "five records")]
    assert [r.get("message", r.get("code")) for r in records] == ["INFO start", "ERROR boom", 503, 200, 201]
    assert records[2]["user"] == "***"
    wait_until(lambda: server.ask("/_accepted")["count"] == 2, "what is routed to the sink")
    sent = [json.loads(d["raw"]) for d in server.ask("/_accepted")["documents"]]
    assert [d["level"] for d in sent] == ["error", "error"]
    metrics = process.admin("/metrics").text
    assert 'answers_total{code="503"} 1' in metrics and 'took_seconds_bucket{le="1"} 1' in metrics
    assert "took_seconds_sum 3.2" in metrics
    assert 'outrider_log_filtered_total{source="app",transform="drop"} 1' in metrics
    assert 'outrider_log_filtered_total{source="app",transform="dedupe"} 1' in metrics
    assert 'outrider_log_redactions_total{source="app",pattern="email"} 1' in metrics
    # A reload changes what comes next, and only that.
    assert [json.loads(l)["code"] for l in process.logs("--where", "code in 200..299")] == [200, 201]
    assert len(process.logs("--where", 'level == error && !has code')) == 1
    config["logs"]["transforms"] = [{"route": {"es": "level >= info"}}]
    process.write_config({"admin": {"listen": "127.0.0.1:0"}, **config})
    assert rig.run("reload", "--state", process.state).returncode == 0
    process.stop()


# Written by the app: every form of every secret, cut at random into writes.
WRITER = """
import json, os, random, signal, sys
pieces, seed = json.load(open(sys.argv[1])), int(sys.argv[2])
rng = random.Random(seed)
data = "".join(piece + "\\n" for piece in pieces).encode()
while data:
    n = rng.choice([1, 3, 17, 80, 600, 5000])
    data = data[os.write(1, data[:n]):]
print("line-9-end", flush=True)
signal.pause()
"""


def forms(value):
    """The ways in which programs write a text."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1].replace("/", "\\/")
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote(value)
    yield urllib.parse.quote_plus(value)
    for before in ("", "x", "xy"):
        encoded = (before + value).encode()
        # Only what the value alone decides: letters that it shares with its neighbours are not its own.
        first, last = -(-len(before) * 8 // 6), len(encoded) * 8 // 6
        for text in (base64.b64encode(encoded), base64.urlsafe_b64encode(encoded)):
            yield text.decode()[first:last]


def test_no_secret_in_any_place_in_any_form(start, peer, place, age_store):
    """Random secrets, random forms, random splits; then every octet that left the worker is searched for them."""
    rng = random.Random(20)
    alphabet = "abcXYZ0189+/=&<>\"\\ %$-_~é"
    secrets = {f"s{n}": "".join(rng.choice(alphabet) for _ in range(rng.randint(9, 48))).strip() + f"Q{n}"
               for n in range(25)}
    # An outdated value is a secret too: it was in use a moment ago.
    known = sorted({form for value in secrets.values() for form in forms(value)})
    lines = []
    for value in secrets.values():
        for form in forms(value):
            wrap = rng.choice(["{}", "before {} after", "url=https://u:{}@h/ k=v", "a={} b=2", "[ERROR] {}"])
            lines.append(wrap.replace("{}", form))
        text = json.dumps(value)
        lines += [f'{{"level":"info","m":{text}}}', f'{{"a":{{"b":[1,{text}]}},"match":"bad"}}',
                  "x" * rng.randint(900, 1100) + value + "y" * 300]
    rng.shuffle(lines)
    (place / "lines.json").write_text(json.dumps(lines))
    (place / "writer.py").write_text(WRITER)
    document = json.dumps({name: {"v": value} for name, value in secrets.items()}, ensure_ascii=False)
    file, identity = age_store(document)
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", {"mode": "mapping", "match": '"match":"bad"'})
    out = place / "out.ndjson"
    process = start(
        {"secrets": {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
                     "values": {name: {"key": name} for name in secrets}},
         "logs": {
            "sources": {"app": {"max_record": "1KiB"}},
            "transforms": [{"redact": {"patterns": ["email"]}}, {"rename": {"m": "message"}}],
            "sinks": {
                "es": {"elasticsearch": {"url": f"http://127.0.0.1:{server.port}", "index": "shop"},
                       "batch": {"age": "100ms"}},
                "file": {"file": {"path": str(out)}}, "console": {}}}},
        [sys.executable, place / "writer.py", place / "lines.json", "7"]).wait_ready()
    wait_until(lambda: out.exists() and "line-9-end" in out.read_text(), "the last line in the file")
    process.wait_logs(lambda found: any("line-9-end" in line for line in found), "the last line in the store")
    wait_until(lambda: any("line-9-end" in d["raw"] for d in server.ask("/_accepted")["documents"]), "the last line sent")
    dead = process.state / "dead-letter" / "es.ndjson"
    wait_until(lambda: dead.exists() and dead.read_text().count("\n") >= len(secrets), "dead letters", every=0.2)
    wait_until(lambda: "line-9-end" in process.stdout, "the last line on the console")
    places = {"bulk": "\n".join(d["raw"] for d in server.ask("/_accepted")["documents"]), "file": out.read_text(),
              "stdout": process.stdout, "stderr": process.stderr}
    for directory, _, names in os.walk(process.state):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                with open(path, "rb") as stream:
                    places[path] = stream.read().decode("utf-8", "replace")
    assert any("dead-letter" in name for name in places) and any("store" in name for name in places)
    for name, text in places.items():
        # Stored JSON escapes what it holds once more.
        for form in known:
            for written in {form, json.dumps(form, ensure_ascii=False)[1:-1]}:
                assert written not in text, f"a secret's form is in {name}"
    assert places["file"].count("***") >= len(secrets) * 10
    process.stop()
