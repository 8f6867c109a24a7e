"""`outrider doctor`, `top` and `init`: what they find, show and write."""

import json
import os
import socket
import stat
import threading

import pytest

import rig


def doctor(*arguments, cwd=None, wrap=()):
    result = rig.subprocess.run(
        [*wrap, rig.binary(), "doctor", "--output", "json", *map(str, arguments)], capture_output=True, text=True,
        timeout=rig.DEADLINE, cwd=cwd)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)["findings"]


def of(findings, check, level=None):
    return [f for f in findings if f["check"] == check and level in (None, f["level"])]


def write(place, config):
    path = place / "outrider.yaml"
    path.write_text(json.dumps({"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}, **config}))
    return path


def test_all_is_well_without_a_sidecar(place):
    config = write(place, {"app": {"command": ["sleep", "1"], "port": rig.free_port()},
                           "inbound": {"web": {"listen": f"127.0.0.1:{rig.free_port()}"}}})
    code, findings = doctor("--config", config, "--state", place / "state")
    assert code == 0, findings
    assert {f["check"] for f in findings} >= {"configuration", "sidecar", "permissions", "state", "app", "ports", "limits"}
    assert not [f for f in findings if f["level"] == "error"]
    text = rig.run("doctor", "--config", config, "--state", place / "state").stdout
    assert "ok       configuration: valid" in text and " 0 errors" in text


def test_every_finding_has_the_way_out(place, certificates):
    certificates("web")
    os.chmod(place / "web.key", 0o644)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tls = {"certificate": str(place / "web.pem"), "key": str(place / "web.key")}
        config = write(place, {
            "app": {"command": ["no-such-program"]},
            "outbound": {"a": {"listen": f"127.0.0.1:{taken.getsockname()[1]}", "to": "http://127.0.0.1:9"}},
            "inbound": {"web": {"listen": f"127.0.0.1:{rig.free_port()}", "to": "http://127.0.0.1:9", "tls": tls}}})
        os.chmod(config, 0o666)
        code, findings = doctor("--config", config, "--state", place / "state", wrap=["prlimit", "--nofile=512:512"])
    assert code == 1
    assert all(f["way_out"] for f in findings if f["level"] != "ok")
    assert "no-such-program" in of(findings, "app", "error")[0]["text"]
    assert "outbound.a" in of(findings, "ports", "error")[0]["text"]
    texts = " ".join(f["text"] for f in of(findings, "permissions", "warning"))
    assert "web.key" in texts and "outrider.yaml" in texts
    assert "expires in" in of(findings, "certificates", "warning")[0]["text"]
    assert "512" in of(findings, "limits", "warning")[0]["text"]


def test_an_invalid_configuration_is_78(place):
    (place / "outrider.yaml").write_text("inbund: {}\n")
    code, findings = doctor("--config", place / "outrider.yaml")
    assert code == 78 and "inbund" in findings[0]["text"] and findings[0]["level"] == "error"


def test_a_state_directory_that_cannot_be_used(place):
    (place / "file").write_text("")
    code, findings = doctor("--state", place / "file" / "state", cwd=place)
    assert code == 1 and of(findings, "state", "error"), findings


def test_what_a_running_sidecar_knows(start, python_app, place):
    app_port = rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "100ms", "unhealthy": 1}},
         "inbound": {"web": {"listen": f"127.0.0.1:{rig.free_port()}"}},
         "outbound": {"gone": {"listen": f"127.0.0.1:{rig.free_port()}", "to": "http://nobody.invalid"}},
         "secrets": {"stores": {"here": {"env": {}}}, "values": {"t": {"key": "NO_SUCH_VARIABLE", "required": False}}}},
        python_app("web.py", app_port)).wait_ready()
    options = ("--config", process.config_path, "--state", process.state)
    rig.wait_until(lambda: of(doctor(*options)[1], "clusters", "error"), "the name that does not resolve")
    code, findings = doctor(*options)
    assert code == 1
    assert "ready" in of(findings, "app", "ok")[-1]["text"]
    assert of(findings, "listeners", "ok")
    assert "NO_SUCH_VARIABLE" in json.dumps(of(findings, "secrets", "error"))
    rig.run("bypass", "on", "--state", process.state)
    process.send(rig.signal.SIGUSR2)  # its health check fails from now on
    rig.wait_until(lambda: of(doctor(*options)[1], "app", "error"), "the app that is not ready")
    assert of(doctor(*options)[1], "bypass", "warning")
    process.stop()


def test_top_shows_what_passes(start, python_app):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}},
        python_app("web.py", app_port)).wait_ready()
    over = threading.Event()

    def ask():
        while not over.is_set():
            rig.request(port, "/fail" if int(rig.time.time() * 1000) % 4 == 0 else "/")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        view = json.loads(rig.run("top", "--once", "--output", "json", "--state", process.state).stdout)
        text = rig.run("top", "--once", "--interval", "500ms", "--state", process.state).stdout
    finally:
        over.set()
        thread.join()
    row = view["listeners"][0]
    assert row["listener"] == "inbound.web" and row["requests_per_second"] > 1 and row["p99_ms"] >= row["p50_ms"] > 0
    assert "inbound.web" in text and "REQ/S" in text and "app: ready" in text
    assert rig.run("top", "--interval", "1ms", "--state", process.state).returncode == 64
    process.stop()


@pytest.mark.parametrize("arguments, expected", [
    ((), ["restart: never"]),
    (("--port", "8080", "--ready", "/healthz", "--", "python3", "app.py", "a b", "${HOME}"),
     ["port: 8080", '"/healthz"', '"a b"', '"$${HOME}"']),
    (("--port", "8080", "--logs", "/var/log/app/*.log", "--logs", "/tmp/b.log", "--listen", "127.0.0.1:9000"),
     ['"/var/log/app/*.log", "/tmp/b.log"', '"127.0.0.1:9000"']),
])
def test_init_writes_what_is_valid(place, arguments, expected):
    result = rig.run("init", *arguments, cwd=place)
    assert result.returncode == 0, result.stderr
    path = place / "outrider.yaml"
    text = path.read_text()
    assert all(part in text for part in expected), text
    assert sum(line.lstrip().startswith("#") for line in text.splitlines()) > 8
    assert rig.run("validate", cwd=place).returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
    again = rig.run("init", cwd=place)
    assert again.returncode == 1 and "it exists" in again.stderr and path.read_text() == text


def test_init_knows_the_app_at_hand(place):
    (place / "Procfile").write_text("worker: x\nweb: gunicorn shop:app --bind 127.0.0.1:8080\n")
    assert rig.run("init", "--port", "8080", cwd=place).returncode == 0
    explained = rig.run("explain", cwd=place).stdout
    assert "gunicorn" in explained
    (place / "other").mkdir()
    (place / "other" / "app.py").write_text("")
    assert rig.run("init", "--config", "a.yaml", cwd=place / "other").returncode == 0
    assert '["python3", "app.py"]' in (place / "other" / "a.yaml").read_text()


def test_what_init_wrote_runs(place, ending, python_app):
    app_port, port = rig.free_port(), rig.free_port()
    result = rig.run("init", "--port", app_port, "--listen", f"127.0.0.1:{port}", "--ready", "/healthz", "--",
                     *python_app("web.py", app_port), cwd=place)
    assert result.returncode == 0, result.stderr
    text = (place / "outrider.yaml").read_text() + f'\nadmin: {{ listen: "127.0.0.1:{rig.free_port()}" }}\n'
    process = rig.Outrider(place, text)
    ending.append(process)
    process.wait_ready()
    assert rig.status_of(port) == 200
    process.stop()
