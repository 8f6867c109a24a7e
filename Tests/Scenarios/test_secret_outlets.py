"""Secrets that go out by shared memory, by the socket and by change actions, from the real binary."""

import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import rig
from rig import wait_until

READERS = rig.ROOT / "Examples" / "readers"


def report_of(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def content(number):
    return f"db:\n  user: shop-user-{number}\n  password: the-password-{number}\n"


def secrets(store, **more):
    file, identity = store
    return {"stores": {"age": {"file": str(file), "identity": str(identity)}}, "values": {"db": {}}, **more}


@pytest.fixture
def memory_path():
    path = pathlib.Path(f"/dev/shm/outrider-test-{os.getpid()}-{time.monotonic_ns()}")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def c_reader(place):
    program = place / "memory_reader"
    subprocess.run(
        [rig.tool("cc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", f"-I{READERS}", "-o", program,
         rig.APPS / "memory_reader.c"], check=True)
    return program


@pytest.mark.parametrize("language", ["c", "python", "node"])
@pytest.mark.parametrize("way", ["descriptor", "path"])
def test_readers_follow_rotations_and_see_nothing_torn(
        start, place, age_store, memory_path, c_reader, language, way):
    store = age_store(content(1))
    report = place / "report.json"
    command = {"c": [c_reader], "python": [sys.executable, rig.APPS / "memory_reader.py"],
               "node": [rig.tool("node"), rig.APPS / "memory_reader.mjs"]}[language]
    memory = {"values": ["db"], **({"path": str(memory_path)} if way == "path" else {})}
    process = start({"secrets": secrets(store, shared_memory=memory)}, [*map(str, command), report, "the-password-3"])
    process.wait_ready()
    for number in (1, 2, 3):
        if number > 1:
            age_store(content(number))
        wait_until(lambda: f"the-password-{number}" in (report_of(report) or {"seen": []})["seen"], f"value {number}")
    seen = report_of(report)
    assert seen["torn"] == 0 and seen["reads"] > 3, seen
    assert seen["seen"] == ["the-password-1", "the-password-2", "the-password-3"]
    if way == "path":
        assert memory_path.stat().st_mode & 0o777 == 0o600
    assert process.stop() in (0, 143)
    assert not memory_path.exists()


def test_the_go_reader(start, place, age_store):
    if not shutil.which("go"):
        pytest.skip("the Go toolchain is not installed")
    program, store = place / "reader", age_store(content(1))
    subprocess.run(["go", "test", "-c", "-o", program, "."], cwd=READERS / "go", check=True,
                   env={**os.environ, "GOFLAGS": "-mod=mod", "GOCACHE": str(place / "go-cache")})
    process = start(
        {"app": {"env": {"READER_FIELD": "db.password", "READER_LAST": "the-password-2"}},
         "secrets": secrets(store, shared_memory={"values": ["db"]})}, [str(program), "-test.v"])
    wait_until(lambda: "the-password" in process.stderr + process.stdout or not process.is_running, "a first value")
    age_store(content(2))
    assert process.wait() == 0


def test_memory_is_sealed_and_its_descriptor_is_the_apps(start, place, age_store):
    """The app cannot write what it inherits, nor change its length."""
    program = (
        "import fcntl, json, mmap, os, sys\n"
        "fd, out = int(os.environ['OUTRIDER_SECRETS_FD']), {}\n"
        "out['seals'] = fcntl.fcntl(fd, fcntl.F_GET_SEALS)\n"
        "for name, act in {'write': lambda: os.pwrite(fd, b'x', 64), 'grow': lambda: os.ftruncate(fd, 1 << 24),\n"
        "                  'map': lambda: mmap.mmap(fd, 4096)}.items():\n"
        "    try:\n        act()\n        out[name] = 'done'\n"
        "    except (OSError, PermissionError) as error:\n        out[name] = error.errno\n"
        "json.dump(out, open(sys.argv[1], 'w'))\n")
    report = place / "report.json"
    process = start({"secrets": secrets(age_store(content(1)), shared_memory={"values": ["db"]})},
                    [sys.executable, "-c", program, report])
    assert process.wait() == 0
    assert report_of(report) == {"seals": 0x1F & ~0x8, "write": 1, "grow": 1, "map": 1}


def test_a_restarted_worker_publishes_anew(start, place, age_store, memory_path):
    report, store = place / "report.json", age_store(content(1))
    sock = place / "secrets.sock"
    process = start(
        {"secrets": secrets(store, shared_memory={"values": ["db"], "path": str(memory_path)},
                            socket={"path": str(sock)})},
        [sys.executable, rig.APPS / "memory_reader.py", report, "the-password-2"]).wait_ready()
    wait_until(lambda: report_of(report), "the first value")
    app, worker = process.app(), process.worker()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: process.worker() not in (None, worker), "a new worker")
    age_store(content(2))
    seen = wait_until(lambda: (lambda r: r if "the-password-2" in r["seen"] else None)(report_of(report)), "the value")
    assert seen["closed"] >= 1, "the old memory says that it is closed"
    assert process.app() == app
    assert ask(sock, "/v1/secrets/db").json["data"]["password"] == "the-password-2"
    process.stop()


def ask(path, target, **headers):
    return rig.request(path, target, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=60)


def test_the_socket_answers_with_etag_and_long_poll(start, place, age_store):
    store, path = age_store(content(1) + "other:\n  value: x\n"), place / "secrets.sock"
    process = start({"secrets": {**secrets(store), "values": {"db": {}, "other": {}}, "socket": {"path": str(path)}}},
                    ["sleep", "600"]).wait_ready()
    assert ask(path, "/v1/secrets").json == {"names": ["db", "other"]}
    first = ask(path, "/v1/secrets/db")
    assert first.json["data"] == {"user": "shop-user-1", "password": "the-password-1"}
    assert first.headers["cache-control"] == "no-store"
    etag = first.headers["etag"]
    assert ask(path, "/v1/secrets/db", If_None_Match=etag).status == 304
    began = time.monotonic()
    assert ask(path, "/v1/secrets/db?wait=300ms", If_None_Match=etag).status == 304
    assert time.monotonic() - began >= 0.3
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(ask(path, "/v1/secrets/db?wait=50s", If_None_Match=etag)))
    waiting.start()
    age_store(content(2) + "other:\n  value: x\n")
    waiting.join(rig.DEADLINE)
    assert answers and answers[0].status == 200 and answers[0].json["data"]["password"] == "the-password-2"
    assert answers[0].headers["etag"] != etag
    assert ask(path, "/v1/secrets/none").status == 404
    assert ask(path, "/v1/secrets/db?wait=soon").status == 400
    assert ask(path, "/v1/memory").status == 404, "no shared memory is configured"
    assert rig.request(path, "/v1/secrets/db", "DELETE").status == 405
    assert "the-password" not in process.stderr + process.stdout
    process.stop()
    assert not path.exists()


def test_the_socket_hands_the_memory_over(start, place, age_store, monkeypatch):
    path = place / "secrets.sock"
    start({"secrets": secrets(age_store(content(1)), shared_memory={"values": ["db"]}, socket={"path": str(path)})},
          ["sleep", "600"]).wait_ready()
    monkeypatch.syspath_prepend(str(READERS))
    import outrider_secrets
    memory = outrider_secrets.Secrets(outrider_secrets.ask(str(path)))
    assert memory["db.password"] == b"the-password-1"
    age_store(content(2))
    assert memory.wait(rig.DEADLINE)
    wait_until(lambda: memory["db.password"] == b"the-password-2", "the new value")


def as_user(uid, path):
    """A request by another user: the status, or `reset`."""
    program = (
        f"import os, socket\nos.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})\n"
        "try:\n    s.sendall(b'GET /v1/secrets/db HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n    print(s.recv(4096).decode())\n"
        "except (ConnectionResetError, BrokenPipeError):\n    print('reset')\n")
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask as another user")
def test_only_named_users_may_ask(start, place, age_store):
    place.chmod(0o755)
    path = place / "secrets.sock"
    config = {"admin": {"listen": "false"},
              "secrets": secrets(age_store(content(1)), socket={"path": str(path), "uids": [12345]})}
    process = start(config, ["sleep", "600"]).wait_ready()
    assert "the-password-1" in as_user(12345, path)
    refused = as_user(12346, path)
    assert "the-password-1" not in refused and ("403" in refused or "reset" in refused)
    wait_until(lambda: "user 12346 may not ask" in process.stderr, "a line that says so")
    config["secrets"]["socket"]["uids"] = [12346]
    process.write_config(config)
    assert rig.request(process.socket, "/reload", "POST").status == 200
    assert "the-password-1" in as_user(12346, path)
    assert "the-password-1" not in as_user(12345, path)
    process.stop()


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        answers = self.server.answers
        self.server.asked += 1
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.answers, server.asked = [200], 0
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def metric(process, name):
    for line in process.admin("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    return None


def test_exec_and_http_follow_a_change_once_for_a_set(start, place, age_store, hook):
    marks = place / "marks"
    store = age_store(content(1) + "other:\n  value: one\n")
    url = f"http://127.0.0.1:{hook.server_port}/changed?token=not-for-logs"
    change = {"exec": ["sh", "-c", f"echo ran >> {marks}"], "http": url}
    process = start(
        {"secrets": {**secrets(store), "values": {"db": {"on_change": change}, "other": {"on_change": change}}}},
        ["sleep", "600"]).wait_ready()
    assert not marks.exists() and hook.asked == 0, "the first values are no change"
    age_store(content(2) + "other:\n  value: two\n")
    wait_until(lambda: marks.exists() and hook.asked, "both actions")
    wait_until(lambda: metric(process, 'outrider_secret_actions_total{action="exec",outcome="done"}') == 1, "the count")
    assert marks.read_text() == "ran\n" and hook.asked == 1, "two secrets, one change"
    process.stop()


def shown(process):
    """The secret `db` as `outrider secrets status` shows it."""
    result = rig.run("secrets", "status", "--state", process.state, "--output", "json")
    assert result.returncode in (0, 1), result.stderr
    return next(s for s in json.loads(result.stdout) if s["name"] == "db")


def test_a_failing_action_is_tried_again_alone(start, place, age_store, hook):
    """The server answers 500 twice: the action is repeated, the store is not read again."""
    hook.answers = [500, 500, 200]
    url = f"http://127.0.0.1:{hook.server_port}/changed?token=not-for-logs"
    process = start(
        {"secrets": {**secrets(age_store(content(1))), "values": {"db": {"on_change": {"http": url}}}}},
        ["sleep", "600"]).wait_ready()
    age_store(content(2))
    wait_until(lambda: hook.asked >= 1 and "failed" in shown(process).get("last_error", ""), "the reason in the status")
    assert shown(process)["state"] == "failing" and "not-for-logs" not in json.dumps(shown(process))
    wait_until(lambda: hook.asked >= 3, "the third try")
    wait_until(lambda: metric(process, 'outrider_secret_actions_total{action="http",outcome="done"}') == 1, "its end")
    assert metric(process, 'outrider_secret_fetches_total{secret="db"}') == 2
    assert metric(process, 'outrider_secret_actions_total{action="http",outcome="failed"}') == 2
    wait_until(lambda: shown(process)["state"] == "fresh", "a good state")
    assert "the answer is 500" in process.stderr and "not-for-logs" not in process.stderr
    process.stop()


def test_an_action_that_hangs_is_killed_and_repeated(start, place, age_store):
    marks = place / "marks"
    change = {"exec": ["sh", "-c", f"echo ran >> {marks}; test $(wc -l < {marks}) -gt 1 || sleep 600"], "timeout": "1s"}
    process = start({"secrets": {**secrets(age_store(content(1))), "values": {"db": {"on_change": change}}}},
                    ["sleep", "600"]).wait_ready()
    age_store(content(2))
    wait_until(lambda: marks.exists() and marks.read_text() == "ran\nran\n", "the second try")
    assert "did not end within 1s" in process.stderr
    process.stop()
