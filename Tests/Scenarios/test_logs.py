"""`outrider logs` and the sinks: every line that the app wrote arrives, whatever the receiver does."""

import collections
import datetime
import json
import os
import re
import signal
import subprocess
import sys

import pytest

import rig
from rig import numbers, wait_until


def sink(port, **more):
    return {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{port}", "index": "shop"},
                   "batch": {"age": "100ms", **more.pop("batch", {})},
                   "retry": {"initial": "50ms", "max": "200ms"}, **more}}


def arrived(server):
    return numbers(document["raw"] for document in server.ask("/_accepted")["documents"])


def test_logs_command_filters(start, place):
    script = 'echo "line-1-plain apple"; echo \'{"level":"error","message":"line-2-json pear"}\'; echo "line-3-err" >&2'
    process = start({}, ["sh", "-c", script])
    assert process.wait() == 0
    assert sorted(numbers(process.logs())) == [1, 2, 3]
    assert numbers(process.logs("--grep", "apple")) == [1]
    assert numbers(process.logs("--level", "error")) == [2]
    assert sorted(numbers(process.logs("--since", "5m"))) == [1, 2, 3]
    assert sorted(numbers(process.logs("--source", "app"))) == [1, 2, 3]
    assert numbers(process.logs("--source", "access")) == []
    plain = rig.run("logs", "--state", process.state)
    assert plain.returncode == 0 and sorted(numbers(plain.stdout.splitlines())) == [1, 2, 3]


def test_logs_streams_are_told_apart(start):
    process = start({}, ["sh", "-c", "echo line-1-out; echo line-2-err >&2"])
    assert process.wait() == 0
    by_number = {numbers([line])[0]: json.loads(line) for line in process.logs()}
    assert "stdout" in json.dumps(by_number[1]) and "stderr" in json.dumps(by_number[2])


def test_logs_json_keeps_numbers_and_order(start):
    process = start({}, ["sh", "-c", 'echo \'{"z":1.50,"a":12345678901234567890,"m":"line-4-x"}\''])
    assert process.wait() == 0
    (line,) = [l for l in process.logs() if "line-4-" in l]
    assert "1.50" in line and "12345678901234567890" in line and line.index('"z"') < line.index('"a"')


def test_logs_follow(start, python_app, place, ending):
    process = start({}, python_app("talker.py", 200, 50, "stay")).wait_ready()
    follower = rig.Process(
        [rig.binary(), "logs", "--state", process.state, "--follow", "--grep", "line-1[0-9][0-9]-"], place, "follow")
    ending.append(follower)
    wait_until(lambda: sorted(numbers(follower.stdout.splitlines())) == list(range(100, 200)), "the followed lines")
    process.stop()


def test_logs_follow_since_a_moment(start, place, ending):
    """--since cuts off what was before; --grep and --level hold for old and new records alike."""
    script = ("echo line-1-apple; while [ ! -e go ]; do sleep 0.05; done; echo line-2-apple; echo line-3-pear;"
              "while [ ! -e on ]; do sleep 0.05; done; echo line-4-pear; echo line-5-apple; sleep 300")
    process = start({}, ["sh", "-c", script])
    process.wait_logs(lambda lines: numbers(lines) == [1], "the first line")
    moment = json.loads(process.logs()[0])["@timestamp"]
    # Times are compared by the millisecond.
    later = (datetime.datetime.fromisoformat(moment[:23]) + datetime.timedelta(milliseconds=1)).isoformat("T", "milliseconds") + "Z"
    (place / "go").touch()
    process.wait_logs(lambda lines: len(numbers(lines)) == 3, "three lines")
    assert numbers(process.logs("--since", later)) == [2, 3] and numbers(process.logs("--until", later)) == [1]

    def follow(name, *more):
        follower = rig.Process(
            [rig.binary(), "logs", "--state", process.state, "--follow", "--grep", "apple", *more], place, name)
        ending.append(follower)
        return follower

    recent, all_of_it = follow("recent", "--since", later), follow("all", "--since", "5m")
    wait_until(lambda: numbers(recent.stdout.splitlines()) == [2], "what was there")
    (place / "on").touch()
    wait_until(lambda: numbers(recent.stdout.splitlines()) == [2, 5], "what came")
    wait_until(lambda: numbers(all_of_it.stdout.splitlines()) == [1, 2, 5], "all")
    process.stop()
    assert recent.is_running, "it goes on when the sidecar has ended"
    assert recent.stop(signal.SIGINT) == 130


def test_logs_options_that_make_no_sense(start, place):
    process = start({}, ["true"])
    process.wait()
    for option, value in (("--since", "yesterday"), ("--level", "loud"), ("--grep", "(")):
        result = rig.run("logs", "--state", process.state, option, value)
        assert result.returncode == 64 and option in result.stderr and value in result.stderr


def test_logs_of_a_state_directory_that_is_not_there(place):
    result = rig.run("logs", "--state", place / "nowhere")
    assert result.returncode != 0 and "nowhere" in result.stderr


def test_files_source(start, place):
    log = place / "app.log"
    log.write_text("line-1-before\n")
    process = start(
        {"logs": {"sources": {"file": {"files": [f"{place}/*.log"], "start": "beginning"}}}},
        ["sleep", "60"]).wait_ready()
    process.wait_logs(lambda lines: 1 in numbers(lines), "the line that was there")
    with log.open("a") as out:
        out.write("line-2-more\n")
    process.wait_logs(lambda lines: 2 in numbers(lines), "the line that came")
    log.rename(place / "app.log.1")
    log.write_text("line-3-rotated\n")
    process.wait_logs(lambda lines: 3 in numbers(lines), "the line after rotation")
    assert sorted(numbers(process.logs())) == [1, 2, 3]
    process.stop()


def test_elasticsearch_sink_with_a_real_server(start, osmem):
    port = int(osmem.url.rsplit(":", 1)[1].strip("/"))
    process = start({"logs": {"sinks": sink(port)}}, ["sh", "-c", "for i in $(seq 0 999); do echo line-$i-end; done"])
    assert process.wait() == 0

    def found():
        osmem.request("POST", "/shop/_refresh")
        return osmem.request("GET", "/shop/_count")["count"] >= 1000

    wait_until(found, "1,000 documents")
    hits = osmem.request("POST", "/shop/_search", {"size": 2000, "query": {"match_all": {}}})["hits"]["hits"]
    assert sorted(numbers(json.dumps(hit["_source"]) for hit in hits)) == list(range(1000))


LOCATION = "location / { %s proxy_pass %s; proxy_set_header Authorization ''; }"
# nginx -> osmem, with the way in that a cluster would have.
LOGINS = {
    "basic": ({"basic": {"user": "shop", "password": "${secrets.es.password}"}},
              "auth_basic es; auth_basic_user_file PLACE/users;"),
    "api key": ({"api_key": "${secrets.es.password}"}, 'if ($http_authorization != "ApiKey p4ss-of-es") { return 401; }'),
}


@pytest.mark.parametrize("auth, check", LOGINS.values(), ids=LOGINS.keys())
def test_elasticsearch_over_tls_with_a_login(start, osmem, nginx, certificates, age_store, place, python_app, auth, check):
    """TLS with our own authority, a client certificate, and credentials from a secret."""
    ca = certificates("es", "client")
    (place / "users").write_text("shop:{PLAIN}p4ss-of-es\n")
    port = nginx(server=(
        f"listen 127.0.0.1:PORT ssl; ssl_certificate {place}/es.pem; ssl_certificate_key {place}/es.key;"
        f"ssl_client_certificate {ca}; ssl_verify_client on;"
        + LOCATION % (check.replace("PLACE", str(place)), osmem.url.rstrip("/"))))
    file, identity = age_store("es:\n  password: p4ss-of-es\n")
    one = {"es": {"elasticsearch": {"url": f"https://localhost:{port}", "index": "shop", "auth": auth},
                  "batch": {"age": "100ms"}, "retry": {"initial": "50ms", "max": "200ms"},
                  "tls": {"ca": str(ca), "certificate": str(place / "client.pem"), "key": str(place / "client.key")}}}
    secrets = {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
               "values": {"es": {"key": "es"}}}
    process = start({"logs": {"sinks": one}, "secrets": secrets}, python_app("talker.py", 200, "stay")).wait_ready()

    def stored():
        osmem.request("POST", "/shop/_refresh")
        hits = osmem.request("POST", "/shop/_search", {"size": 1000, "query": {"match_all": {}}})["hits"]["hits"]
        return sorted(n for hit in hits for n in numbers([json.dumps(hit["_source"])])) == list(range(200))

    wait_until(lambda: process.admin("/status").json["sinks"][0]["sent"] >= 200, "the acknowledgements")
    wait_until(stored, "every document")
    process.stop()
    assert "p4ss-of-es" not in process.stderr


WRONG = {
    "an authority that is not ours": (lambda sink, place: sink["tls"].pop("ca"), "tls.ca"),
    "a name that is not the server's": (
        lambda sink, place: sink["elasticsearch"].update(url=sink["elasticsearch"]["url"].replace("localhost", "127.0.0.2")),
        "another name"),
    "a wrong password": (
        lambda sink, place: sink["elasticsearch"].update(auth={"basic": {"user": "shop", "password": "wr0ng"}}), "401"),
}


@pytest.mark.parametrize("spoil, word", WRONG.values(), ids=WRONG.keys())
def test_elasticsearch_that_cannot_be_trusted_gets_nothing(start, osmem, nginx, certificates, place, spoil, word):
    ca = certificates("es")
    (place / "users").write_text("shop:{PLAIN}p4ss-of-es\n")
    port = nginx(server=(
        f"listen 127.0.0.1:PORT ssl; listen 127.0.0.2:PORT ssl;"
        f"ssl_certificate {place}/es.pem; ssl_certificate_key {place}/es.key;"
        + LOCATION % (f"auth_basic es; auth_basic_user_file {place}/users;", osmem.url.rstrip("/"))))
    one = {"elasticsearch": {"url": f"https://localhost:{port}", "index": "shop",
                             "auth": {"basic": {"user": "shop", "password": "p4ss-of-es"}}},
           "batch": {"age": "100ms"}, "retry": {"initial": "50ms", "max": "200ms"}, "tls": {"ca": str(ca)}}
    spoil(one, place)
    config = {"logs": {"sinks": {"es": one}}, "shutdown": {"deadline": "3s"}}
    process = start(config, ["sh", "-c", "echo line-7-kept; sleep 300"]).wait_ready()

    def sink_status():
        return next(s for s in process.admin("/status").json["sinks"] if s["name"] == "es")

    wait_until(lambda: word in (sink_status().get("last_error") or ""), "the reason in the status")
    assert sink_status()["sent"] == 0 and sink_status()["lag_records"] == 1 and "'es'" in process.stderr
    # Put right, it is delivered: nothing was lost meanwhile.
    one["tls"] = {"ca": str(ca)}
    one["elasticsearch"].update(url=f"https://localhost:{port}", auth={"basic": {"user": "shop", "password": "p4ss-of-es"}})
    process.write_config({"admin": {"listen": "127.0.0.1:0"}, **config})
    assert rig.run("reload", "--state", process.state).returncode == 0
    wait_until(lambda: sink_status()["sent"] == 1, "the line")
    process.stop()


FAULTS = [
    {"mode": "none"},
    {"mode": "429", "times": 3},
    {"mode": "429-items", "times": 3},
    {"mode": "429-third", "times": 8},
    {"mode": "503", "times": 3},
    {"mode": "413", "limit": 20000},
    {"mode": "drop", "times": 3},
    {"mode": "store-then-reset", "times": 3},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f["mode"])
def test_every_line_arrives_once(start, peer, python_app, fault):
    """Deterministic ids make a batch that is sent twice harmless: stored once, in effect."""
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", fault)
    process = start({"logs": {"sinks": sink(server.port)}}, python_app("talker.py", 3000, "stay")).wait_ready()
    wait_until(lambda: len(set(arrived(server))) >= 3000, f"3,000 lines through {fault}", every=0.3)
    assert collections.Counter(arrived(server)) == collections.Counter(range(3000))
    assert server.ask("/_requests")["rejected"] == [] or fault["mode"] in ("429", "503", "413")
    process.stop()


def test_server_that_hangs_loses_nothing(start, peer, python_app):
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", {"mode": "hang"})
    process = start({"logs": {"sinks": sink(server.port)}}, python_app("talker.py", 500, "stay")).wait_ready()
    wait_until(lambda: server.ask("/_requests")["bulk"] >= 1, "a request that hangs")
    # One slow sink never holds back another: the store has the lines already.
    process.wait_logs(lambda lines: len(set(numbers(lines))) == 500, "the lines in the store")
    server.tell("/_fault", {"mode": "none"})
    wait_until(lambda: len(set(arrived(server))) == 500, "the lines after the hang", every=0.3)
    process.stop()


def test_what_cannot_be_sent_stays_in_the_spool_for_the_next_run(start, peer, place, ending, python_app):
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", {"mode": "503"})
    config = {"logs": {"sinks": sink(server.port)}, "shutdown": {"deadline": "3s"}}
    process = start(config, python_app("talker.py", 300, "stay")).wait_ready()
    process.wait_logs(lambda lines: len(numbers(lines)) == 300, "the lines in the store")
    process.stop()
    assert arrived(server) == []
    server.tell("/_fault", {"mode": "none"})
    second = start(config, ["sleep", "60"], name="second").wait_ready()
    wait_until(lambda: len(set(arrived(server))) == 300, "the lines of the first run", every=0.3)
    second.stop()


def test_refused_documents_go_to_the_dead_letter_file(start, peer, python_app, place):
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", {"mode": "mapping", "match": "line-13-"})
    dead = place / "dead.ndjson"
    process = start(
        {"logs": {"sinks": sink(server.port, dead_letter=str(dead))}}, python_app("talker.py", 50, "stay")).wait_ready()
    wait_until(lambda: len(set(arrived(server))) == 49, "the good lines")
    wait_until(lambda: dead.exists() and 13 in numbers(dead.read_text().splitlines()), "the dead letter")
    assert "failed to parse" in dead.read_text()
    process.stop()


def test_sink_credentials_come_from_a_secret(start, peer, age_store, python_app):
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", {"authorization": "ApiKey key-from-age"})
    file, identity = age_store("es:\n  key: key-from-age\n")
    one = sink(server.port)
    one["es"]["elasticsearch"]["auth"] = {"api_key": "${secrets.es.key}"}
    process = start(
        {"logs": {"sinks": one}, "secrets": {
            "stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
            "values": {"es": {"key": "es"}}}}, python_app("talker.py", 5, "stay")).wait_ready()
    wait_until(lambda: sorted(arrived(server)) == list(range(5)), "the lines")
    process.stop()


def test_a_line_of_100_mib_is_split_and_marked(start):
    size = 100 << 20
    script = (f"import os; n={size}\nwhile n: n -= os.write(1, b'x' * min(n, 1 << 20))\n"
              "os.write(1, b'\\nline-1-after\\n')")
    process = start({}, [sys.executable, "-c", script])
    assert process.wait(240) == 0
    lines = rig.run("logs", "--state", process.state, "--output", "json", timeout=120).stdout.splitlines()
    assert numbers(lines) == [1]
    long = [line for line in lines if "xxxx" in line]
    assert sum(line.count("x") for line in long) >= size, "nothing of the line may be lost"
    assert all(len(line) < 2 << 20 for line in long)
    assert all("truncated" in line for line in long[:-1])


@pytest.mark.parametrize("choice", ["drop_oldest", "drop_newest"])
def test_full_spool_by_choice_drops_with_a_word(start, python_app, choice):
    process = start(
        {"logs": {"spool": {"limit": "64KiB", "when_full": choice}, "sinks": sink(rig.free_port())},
         "shutdown": {"deadline": "3s"}},
        python_app("talker.py", 20000, "stay")).wait_ready()
    wait_until(lambda: "dropped" in process.stderr and "logs.spool.limit" in process.stderr, "a line that says so")
    assert process.stderr.count("dropped the") == 1, "at most once a minute"
    assert process.stop(signal.SIGTERM) == 0


def test_full_disk_under_the_spool_blocks_and_loses_nothing_accepted(start, python_app, place):
    """The spool lies on a file system of 1 MiB, mounted in a namespace of the process's own."""
    spool = place / "small"
    spool.mkdir()
    mount = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c",
             f'mount -t tmpfs -o size=1m tmpfs {spool} && exec "$@"', "mount"]
    process = start(
        {"logs": {"spool": {"path": str(spool)}, "sinks": sink(rig.free_port())}, "shutdown": {"deadline": "3s"}},
        python_app("talker.py", 60000, "stay"), wrap=mount)
    wait_until(
        lambda: str(spool) in process.stderr and "space" in process.stderr.lower(), "a line that names the place")
    assert process.is_running and process.app()
    assert rig.status_of(process.socket, "/livez") == 200
    # The two pipes fill up apart from each other: each stands somewhere, without a gap before.
    found = numbers(process.logs())
    assert len(found) < 60000
    for parity in (0, 1):
        of_one = [number for number in found if number % 2 == parity]
        assert of_one == list(range(parity, 2 * len(of_one), 2)), "what was accepted is whole and in order"
    enter = ["nsenter", "--target", str(process.worker()), "--mount",
             *([] if os.geteuid() == 0 else ["--user", "--preserve-credentials"])]
    subprocess.run([*enter, "mount", "-o", "remount,size=64m", str(spool)], check=True)
    wait_until(lambda: len(numbers(process.logs())) >= 60000, "every line", every=0.5)
    assert sorted(numbers(process.logs())) == list(range(60000)), "every line once"
    process.stop()


TRACE = "Traceback (most recent call last):\n  File \"app.py\", line 1, in <module>\nValueError: line-7-trace"


def test_a_stack_trace_is_one_record_even_when_the_worker_is_killed_within_it(start, place):
    """The app writes the first half of a trace, the worker dies, the app writes the second half."""
    script = ("echo line-1-start; printf 'Traceback (most recent call last):\\n  File \"app.py\", line 1, in <module>\\n';"
              "touch half; while [ ! -e go ]; do sleep 0.02; done; echo 'ValueError: line-7-trace'; echo line-9-end; sleep 300")
    process = start(
        {"logs": {"sources": {"app": {"multiline": {"start": "^(line-|Traceback)", "timeout": "60s"}}}}},
        ["sh", "-c", script]).wait_ready()
    wait_until(lambda: (place / "half").exists(), "half a trace")
    process.wait_logs(lambda lines: 1 in numbers(lines), "the line before it")
    first = process.worker()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: process.worker() not in (None, first), "the next worker")
    (place / "go").touch()
    lines = process.wait_logs(lambda lines: 7 in numbers(lines), "the trace")
    assert [json.loads(line)["message"] for line in lines if "Traceback" in line] == [TRACE]
    process.stop()


def test_a_file_of_a_container_runtime(start, place):
    """Parts of lines are joined, streams told apart, a trace is one record, and the runtime's time holds."""
    log = place / "c.log"
    log.write_text(
        "2026-01-31T12:00:00.5Z stdout P line-1-\n"
        "2026-01-31T12:00:01Z stderr F Traceback (most recent call last):\n"
        "2026-01-31T12:00:02Z stdout F whole\n"
        "2026-01-31T12:00:03Z stderr F   File \"x.py\", line 1\n"
        "2026-01-31T12:00:04Z stderr F ValueError: line-2-x\n"
        "2026-01-31T12:00:05Z stdout F {\"n\":\"line-3-x\",\"time\":\"2026-01-31T11:00:00Z\"}\n")
    source = {"files": [str(log)], "start": "beginning", "parse": "cri", "multiline": {"start": "^(?!  |Value)"}}
    process = start({"logs": {"sources": {"pod": source}}}, ["sleep", "300"]).wait_ready()
    lines = process.wait_logs(lambda lines: sorted(numbers(lines)) == [1, 2, 3], "three records")
    found = {numbers([line])[0]: json.loads(line) for line in lines}
    assert (found[1]["message"], found[1]["stream"], found[1]["@timestamp"]) == (
        "line-1-whole", "stdout", "2026-01-31T12:00:00.500Z")
    assert found[2]["message"].count("\n") == 2 and found[2]["stream"] == "stderr"
    assert found[3]["time"] == "2026-01-31T11:00:00Z" and found[3]["@timestamp"] == "2026-01-31T11:00:00.000Z"
    process.stop()
