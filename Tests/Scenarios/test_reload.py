"""Reload in full: every part changes while the app goes on, and no request and no log line is lost by it."""

import json
import os
import signal
import threading

import pytest

import rig
from rig import numbers, wait_until


def fixed(port, text, name="fixed", **more):
    return {name: {"listen": f"127.0.0.1:{port}",
                   "routes": [{"match": {"path": "/*"}, "respond": {"status": 200, "body": text}}], **more}}


def refuses(port):
    try:
        rig.request(port, timeout=5)
        return False
    except ConnectionRefusedError:
        return True


def listens(port):
    """Whether any socket of this machine listens on the port, in whichever process."""
    wanted = f":{port:04X}"
    return any(
        line.split()[1].endswith(wanted) and line.split()[3] == "0A"
        for table in ("/proc/net/tcp", "/proc/net/tcp6") for line in open(table).readlines()[1:])


@pytest.fixture
def reloading(start):
    """reloading(config, command) runs outrider; its `change(config)` writes the file, reloads, and gives the answer."""

    def starter(config, command=("sleep", "300"), **options):
        admin = {"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}}
        process = start({**admin, **config}, list(command), **options).wait_ready()

        def change(fresh, code=0):
            process.write_config({**admin, **fresh})
            result = rig.run("reload", "--state", process.state)
            assert result.returncode == code, result.stdout + result.stderr
            return result.stdout + result.stderr

        process.change = change
        return process

    return starter


def test_sources_sinks_and_transforms_change_under_output(reloading, peer, place, python_app):
    first, second = peer("bulk_fault_server.py", "first"), peer("bulk_fault_server.py", "second")
    log = place / "extra.log"
    log.write_text("line-900001-file\n")

    def config(server, **more):
        sinks = {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{server.port}", "index": "shop"},
                        "batch": {"age": "50ms"}, "retry": {"initial": "50ms", "max": "200ms"}}}
        return {"logs": {"sinks": sinks, **more}}

    total = 15000
    process = reloading(config(first), python_app("talker.py", total, 3000, "stay"))
    app = process.app()
    wait_until(lambda: numbers(process.logs("--limit", "1")), "the first lines")
    told = process.change(config(second, transforms=[{"add": {"site": "two"}}]))
    assert "sinks (es)" in told and "transforms" in told
    told = process.change(config(second, sources={"file": {"files": [str(log)], "start": "beginning"}}))
    assert "sources (file)" in told
    process.wait_logs(lambda lines: 900001 in numbers(lines), "the line of the new source")
    process.change({"logs": {"sinks": {"store": {"store": {}}}}})
    told = process.change(config(first))
    process.wait_logs(lambda lines: any("talker-done" in l for l in lines), "the end of the app's lines")
    lines = process.logs("--source", "app")
    assert sorted(numbers(lines)) == list(range(total)), "every line once"
    assert any('"site":"two"' in line for line in lines)
    assert process.app() == app
    assert {s["name"] for s in process.admin("/status").json["sinks"]} == {"es", "store"}
    process.stop()
    assert "had not acknowledged" not in process.stderr


def test_secrets_come_and_go(reloading, place, python_app, age_store):
    file, identity = age_store("db:\n  password: first-secret-value\napi:\n  token: second-secret-value\n")
    store = {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}}}
    report, target = place / "report.json", place / "api.conf"
    one = {"secrets": {**store, "values": {"db": {"key": "db"}}}}
    port = rig.free_port()
    target.write_text("none")
    process = reloading(one, python_app("keeper.py", report, target))
    app = process.app()
    upstream = {"outbound": fixed(port, "in", inject={"X-Key": "${secrets.api.token}"})}
    two = {**upstream, "secrets": {
        **store, "values": {"db": {"key": "db"}, "api": {"key": "api"}},
        "files": [{"path": str(target), "template": "token=${secrets.api.token}", "on_change": {"signal": "SIGHUP"}}]}}
    told = process.change(two)
    assert "values (api)" in told and "files" in told
    seen = wait_until(lambda: (lambda r: r if r["hups"] else None)(json.loads(report.read_text())), "the signal")
    assert seen["file"] == "token=second-secret-value"
    assert {s["name"] for s in process.admin("/status").json["secrets"]} == {"api", "db"}
    told = process.change(one)
    assert not target.exists()
    assert {s["name"] for s in process.admin("/status").json["secrets"]} == {"db"}
    assert process.app() == app
    for text in (process.stderr, process.admin("/status").text, *process.logs()):
        assert "secret-value" not in text
    process.stop()


def test_secrets_that_cannot_be_had_leave_the_last_good(reloading, place, age_store):
    file, identity = age_store("db:\n  password: first-secret-value\n")
    store = {"stores": {"local": {"age": {"file": str(file), "identity": str(identity)}}}}
    port, other = rig.free_port(), rig.free_port()
    target = place / "db.conf"
    delivered = [{"path": str(target), "template": "${secrets.db.password}"}]
    good = {"outbound": fixed(port, "good"), "secrets": {**store, "values": {"db": {"key": "db"}}, "files": delivered}}
    process = reloading(good)
    told = process.change(
        {"outbound": {**fixed(port, "bad"), **fixed(other, "bad", "more")},
         "secrets": {**store, "values": {"db": {"key": "nothing-of-that-name"}}, "files": delivered}}, code=1)
    assert "nothing-of-that-name" in told and "last good" in told
    assert rig.request(port).text == "good" and not listens(other)
    assert target.read_text() == "first-secret-value"
    assert "nothing-of-that-name" in process.admin("/status").json["last_reload_error"]
    age_store("db:\n  password: later-secret-value\n")
    wait_until(lambda: target.read_text() == "later-secret-value", "the former configuration to be followed")
    assert "nothing has changed" in process.change(good)
    assert process.admin("/status").json.get("last_reload_error") is None
    process.stop()


def test_a_listener_is_taken_away_while_a_request_is_in_flight(reloading, peer):
    upstream, port, stays = peer("flaky_upstream.py"), rig.free_port(), rig.free_port()
    to = f"http://127.0.0.1:{upstream.port}"
    keep = fixed(stays, "stays", "stays")
    process = reloading({"outbound": {"web": {"listen": f"127.0.0.1:{port}", "to": to}, **keep}})
    upstream.tell("/_behave", {"delay": 2})
    answers = []
    client = threading.Thread(target=lambda: answers.append(rig.request(port, "/slow", timeout=30)))
    client.start()
    wait_until(lambda: upstream.ask("/_counts")["requests"] == 1, "the request to reach the upstream")
    assert "outbound (web)" in process.change({"outbound": keep})
    assert refuses(port) and not listens(port), "neither worker nor supervisor holds it"
    client.join(30)
    assert [a.status for a in answers] == [200]
    assert answers[0].headers["Connection"] == "close"
    assert rig.request(stays).text == "stays"
    assert [l["name"] for l in process.admin("/status").json["listeners"]] == ["stays"]
    process.stop()


def test_addresses_change_hands_and_spelling_under_load(reloading):
    """A listener moves to another port and back, is renamed on the same port, and is narrowed to one interface."""
    steady, moving = rig.free_port(), rig.free_port()
    base = fixed(steady, "steady", "steady")
    process = reloading({"outbound": {**base, **fixed(moving, "a", "a")}})
    failures, answers, over = [], [], threading.Event()

    def client():
        while not over.is_set():
            try:
                answers.append(rig.request(steady, timeout=20).text)
            except (OSError, rig.http.client.HTTPException) as error:
                failures.append(error)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    try:
        for _ in range(4):
            process.change({"outbound": {**fixed(steady, "steady", "renamed"), **fixed(moving, "a", "a")}})
            assert rig.request(moving).text == "a"
            process.change({"inbound": fixed(steady, "steady", "steady"), "outbound": fixed(moving, "b", "b")})
            assert rig.request(moving).text == "b"
        process.change({"outbound": {**base, "b": {**fixed(moving, "c", "b")["b"], "listen": f":{moving}"}}})
        assert rig.request(moving).text == "c"
        process.change({"outbound": {**base, **fixed(moving, "d", "b")}})
        assert rig.request(moving).text == "d"
        wait_until(lambda: len(answers) > 100, "answers")
    finally:
        over.set()
        for thread in clients:
            thread.join(30)
    assert not failures and set(answers) == {"steady"}
    process.stop()


def test_an_inbound_and_an_outbound_listener_of_one_name(reloading, python_app):
    app_port, way_in, way_out = rig.free_port(), rig.free_port(), rig.free_port()
    process = reloading(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}},
         "inbound": {"web": {"listen": f"127.0.0.1:{way_in}"}}, "outbound": fixed(way_out, "out", "web")},
        python_app("web.py", app_port))
    assert rig.request(way_in).json["path"] == "/" and rig.request(way_out).text == "out"
    told = process.change(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}}, "inbound": {"web": {"listen": f"127.0.0.1:{way_in}"}}})
    assert "outbound (web)" in told
    assert rig.request(way_in).json["path"] == "/" and refuses(way_out)
    metrics = process.admin("/metrics").text
    for direction in ("inbound", "outbound"):
        assert f'direction="{direction}",listener="web"' in metrics
    process.stop()


def test_the_admin_address_and_socket_change(reloading, place):
    first, second = rig.free_port(), rig.free_port()
    process = reloading({"admin": {"listen": f"127.0.0.1:{first}"}})
    assert rig.status_of(first, "/livez") == 200
    assert "admin" in process.change({"admin": {"listen": f"127.0.0.1:{second}"}})
    assert rig.status_of(second, "/livez") == 200
    assert refuses(first) and not listens(first)
    socket = place / "elsewhere.sock"
    process.change({"admin": {"listen": False, "socket": str(socket)}})
    assert rig.status_of(socket, "/readyz") == 200
    assert refuses(second) and not process.socket.exists()
    process.write_config({"admin": {"listen": f"127.0.0.1:{first}"}})
    assert rig.run("reload", "--config", process.config_path, "--state", process.state).returncode != 0
    process.send(signal.SIGHUP)
    wait_until(lambda: rig.status_of(process.socket, "/livez") == 200, "the control socket in its usual place")
    process.stop()


def test_an_address_in_use_leaves_the_last_good(reloading):
    port, free = rig.free_port(), rig.free_port()
    with rig.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = reloading({"outbound": fixed(port, "one")})
        told = process.change(
            {"outbound": {**fixed(free, "two", "new"), **fixed(taken.getsockname()[1], "two", "taken")}}, code=1)
        assert "outbound.taken" in told and str(taken.getsockname()[1]) in told
        assert rig.request(port).text == "one" and not listens(free)
        assert rig.status_of(process.socket, "/readyz") == 200
    process.stop()


def test_what_needs_a_new_process_is_named_and_waits(reloading, place):
    port = rig.free_port()
    process = reloading({"outbound": fixed(port, "one")})
    told = process.change({"outbound": fixed(port, "two"), "threads": 1, "logs": {"spool": {"path": str(place / "s")}}})
    assert rig.request(port).text == "two"
    assert "outbound (fixed)" in told and "threads, logs.spool.path: at the next start of the sidecar" in told
    told = process.change({"outbound": fixed(port, "two"), "app": {"env": {"A": "b"}}})
    assert "when it starts the next time" in told and "threads" not in told
    process.stop()


def test_policy_and_probe_of_the_app_change(reloading, python_app):
    app_port, port = rig.free_port(), rig.free_port()

    def config(path, **more):
        return {"app": {"port": app_port, "ready": {"http": path, "interval": "50ms", "unhealthy": 1}, **more},
                "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}}

    process = reloading(config("/healthz"), python_app("web.py", app_port))
    process.change(config("/fail"))
    wait_until(lambda: rig.status_of(process.socket, "/readyz") == 503, "the new probe to fail")
    process.change(config("/healthz", stop={"signal": "SIGKILL"}))
    process.wait_ready()
    assert process.stop() == 137, "the new stop signal ends the app"


def test_a_sidecar_that_cannot_start_begins_anew_with_the_new_configuration(start, place, python_app):
    """A wrong path in Vault keeps it waiting; the corrected file and SIGHUP let it go on."""
    (place / "token").write_text("none")
    vault = {"vault": {"address": f"http://127.0.0.1:{rig.free_port()}", "auth": {"token_file": str(place / "token")}}}
    process = start(
        {"secrets": {"stores": {"one": vault}, "values": {"db": {"kv": "secret/db"}}}},
        python_app("talker.py", 3, "stay"))
    wait_until(lambda: "waiting for secret" in process.stderr, "a line that says what it waits for")
    process.write_config({"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}})
    process.send(signal.SIGHUP)
    process.wait_ready()
    process.wait_logs(lambda lines: sorted(numbers(lines)) == [0, 1, 2], "the app's lines")
    assert process.stop() == 0


@pytest.mark.parametrize("disk", ["invalid", "in use", "gone"])
def test_a_worker_that_takes_over_begins_with_what_was_applied(reloading, disk):
    """Whatever has become of the file meanwhile: only a reload applies it."""
    port = rig.free_port()
    process = reloading({"outbound": fixed(port, "one")})
    process.change({"outbound": fixed(port, "two")})
    with rig.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if disk == "gone":
            process.config_path.unlink()
        else:
            process.write_config(
                "outbound: [" if disk == "invalid" else {"outbound": fixed(taken.getsockname()[1], "three")})
        assert rig.run("reload", "--state", process.state).returncode == (1 if disk == "in use" else 78)
        worker = process.worker()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: process.worker() not in (None, worker), "a new worker")
        process.wait_ready()
        assert rig.request(port).text == "two"
    process.change({"outbound": fixed(port, "four")})
    assert rig.request(port).text == "four"
    process.stop()


def test_reloads_and_kills_of_the_worker_lose_no_line(reloading, python_app):
    port, total = rig.free_port(), 20000
    process = reloading({"outbound": fixed(port, "0")}, python_app("talker.py", total, 4000, "stay"))
    for round in range(1, 7):
        if round % 3 == 0:
            worker = wait_until(process.worker, "a worker")
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: process.worker() not in (None, worker), "a new worker")
            process.wait_ready()
        process.change(
            {"outbound": fixed(port, str(round)), "logs": {"transforms": [{"add": {"round": str(round)}}]}})
        assert rig.request(port).text == str(round)
    process.wait_logs(lambda lines: any("talker-done" in l for l in lines), "the end of the app's lines")
    assert sorted(set(numbers(process.logs()))) == list(range(total))
    process.stop()
