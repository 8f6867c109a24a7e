"""No secret leaves by any sink after a rotation either: current and previous values, in every form, cut anywhere."""

import json
import os
import random
import socketserver
import sys
import threading

import pytest

from rig import wait_until
from test_log_transforms import forms

# Writes the first file, and the second once it is told that the secrets have changed; cut at random into writes.
WRITER = """
import json, os, random, signal, sys, threading
rng, changed = random.Random(int(sys.argv[3])), threading.Event()
signal.signal(signal.SIGHUP, lambda *_: changed.set())
def write(path):
    data = "".join(piece + "\\n" for piece in json.load(open(path))).encode()
    while data:
        n = rng.choice([1, 3, 17, 80, 600, 5000])
        data = data[os.write(1, data[:n]):]
write(sys.argv[1])
print("line-1-first", flush=True)
while not changed.wait(0.1): pass
write(sys.argv[2])
print("line-2-second", flush=True)
signal.pause()
"""


@pytest.fixture
def octets(ending):
    """A server that keeps every octet that comes (syslog has no answers)."""

    class Keeper(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(65536):
                self.server.kept += data

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def end(self):
            self.shutdown()
            self.server_close()
            self.thread.join()

    server = Server(("127.0.0.1", 0), Keeper)
    server.kept = bytearray()
    server.thread = threading.Thread(target=server.serve_forever)
    server.thread.start()
    ending.append(server)
    return server


def lines_of(rng, values):
    lines = []
    for value in values:
        for form in forms(value):
            wrap = rng.choice(["{}", "before {} after", "url=https://u:{}@h/ k=v", "a={} b=2", "[ERROR] {}"])
            lines.append(wrap.replace("{}", form))
        text = json.dumps(value)
        lines += [f'{{"level":"info","m":{text}}}', f'{{"a":{{"b":[1,{text}]}},"match":"bad"}}',
                  "x" * rng.randint(900, 1100) + value + "y" * 300]
    rng.shuffle(lines)
    return lines


def test_no_secret_leaves_after_a_rotation(start, peer, place, age_store, octets):
    rng = random.Random(31)
    alphabet = "abcXYZ0189+/=&<>\"\\ %$-_~é"
    made = [{f"s{n}": "".join(rng.choice(alphabet) for _ in range(rng.randint(9, 40))).strip() + f"Q{n}{turn}"
             for n in range(8)} for turn in "ab"]
    old, new = made
    (place / "first.json").write_text(json.dumps(lines_of(rng, old.values())))
    (place / "second.json").write_text(json.dumps(lines_of(rng, [*old.values(), *new.values()])))
    (place / "writer.py").write_text(WRITER)

    def document(values):
        return json.dumps({name: {"v": value} for name, value in values.items()}, ensure_ascii=False)

    file, identity = age_store(document(old))
    bulk, forward = peer("bulk_fault_server.py"), peer("forward_fault_server.py")
    bulk.tell("/_fault", {"mode": "mapping", "match": '"match":"bad"'})
    out, quick = place / "out.ndjson", {"batch": {"age": "100ms"}}
    process = start(
        {"secrets": {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}},
                     "values": {name: {"key": name, "on_change": {"signal": "SIGHUP"}} for name in old}},
         "logs": {
             "sources": {"app": {"max_record": "1KiB"}},
             "sinks": {
                 "es": {"elasticsearch": {"url": f"http://127.0.0.1:{bulk.port}", "index": "shop"}, **quick},
                 "fluent": {"forward": {"address": f"127.0.0.1:{forward.ask('/_address')['port']}"},
                            "compress": "none", **quick},
                 "central": {"syslog": {"address": f"127.0.0.1:{octets.server_address[1]}"}, **quick},
                 "file": {"file": {"path": str(out)}}, "console": {}}}},
        [sys.executable, place / "writer.py", place / "first.json", place / "second.json", "5"]).wait_ready()
    process.wait_logs(lambda found: any("line-1-first" in line for line in found), "the first lines")
    age_store(document(new))

    def arrived():
        return {"bulk": json.dumps(bulk.ask("/_accepted"), ensure_ascii=False),
                "forward": json.dumps(forward.ask("/_accepted"), ensure_ascii=False),
                "syslog": octets.kept.decode("utf-8", "replace"), "file": out.read_text(),
                "stdout": process.stdout, "store": "\n".join(process.logs("--limit", "100000"))}

    wait_until(lambda: all("line-2-second" in text for text in arrived().values()), "the last line everywhere", every=0.3)
    dead = process.state / "dead-letter" / "es.ndjson"
    wait_until(lambda: dead.exists() and dead.read_text().count("\n") >= 24, "dead letters", every=0.2)
    places = arrived() | {"stderr": process.stderr, "metrics": process.admin("/metrics").text,
                          "status": process.admin("/status").text}
    for directory, _, names in os.walk(process.state):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                with open(path, "rb") as stream:
                    places[path] = stream.read().decode("utf-8", "replace")
    assert any("dead-letter" in name for name in places) and any("spool" in name for name in places)
    known = sorted({form for value in [*old.values(), *new.values()] for form in forms(value)})
    # Records are JSON, and what a server of the test tells of them is JSON once more.
    written = set()
    for form in known:
        once = json.dumps(form, ensure_ascii=False)[1:-1]
        written |= {form, once, json.dumps(once, ensure_ascii=False)[1:-1]}
    for name, text in places.items():
        for form in written:
            assert form not in text, f"a secret's form is in {name}"
    for name in arrived():
        assert places[name].count("***") >= 8 * 3 * 8, name
    process.stop()
