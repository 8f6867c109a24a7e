"""How it is known that the app is ready, when it is started again, and that who waits says so."""

import re

import pytest

import rig
from rig import wait_until

READY = {
    "http": {"http": "/healthz"},
    "tcp": {"tcp": True},
    "exec": {"exec": ["test", "-e", "GATE"]},
    "fd": {"fd": True},
}
APP = """
import http.server, os, sys, threading
gate, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
wait = threading.Event().wait
class Web(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_GET(self):
        ok = self.path != "/healthz" or kind != "http" or os.path.exists(gate)
        self.send_response(200 if ok else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()
def open_gate():
    while not os.path.exists(gate): wait(0.02)
    if kind == "fd": os.write(int(os.environ["OUTRIDER_READY_FD"]), b"ready\\n")
if kind == "tcp": open_gate()
else: threading.Thread(target=open_gate, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", port), Web).serve_forever()
"""


def starting(start, place, kind):
    app_port, port, gate = rig.free_port(), rig.free_port(), place / "gate"
    ready = {name: [w.replace("GATE", str(gate)) for w in value] if isinstance(value, list) else value
             for name, value in READY[kind].items()}
    process = start(
        {"app": {"port": app_port, "ready": {**ready, "interval": "100ms"}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}},
        [rig.sys.executable, "-uc", APP, str(gate), str(app_port), kind])
    process.wait_ready("/readyz/outbound")
    wait_until(lambda: (process.admin("/status").json.get("app") or {}).get("pid"), "the app")
    return process, port, gate


@pytest.mark.parametrize("kind", READY)
def test_inbound_opens_once_the_app_says_so(start, place, kind):
    process, port, gate = starting(start, place, kind)
    assert rig.status_of(process.socket, "/readyz") == 503
    status = process.admin("/status").json
    assert status["state"] == "app-starting" and not status["app"]["ready"] and not status["listeners"][0]["open"]
    gate.touch()
    process.wait_ready()
    wait_until(lambda: rig.status_of(port) == 200, "the app, which may open its port after it said so")
    process.stop()


@pytest.mark.parametrize("kind, reason", [("http", "503"), ("exec", "failed")])
def test_who_waits_says_for_what(start, place, kind, reason):
    process, _, gate = starting(start, place, kind)
    line = wait_until(
        lambda: re.search(r"waiting for the app to become ready \((.+)\)", process.stderr), "the line after 5 s")
    assert reason in line[1], line[0]
    gate.touch()
    process.wait_ready()
    process.stop()


@pytest.mark.parametrize("policy, code, runs", [
    ("never", 0, 1), ("never", 3, 1), ("on-failure", 0, 1), ("on-failure", 3, 2), ("always", 0, 2), ("always", 3, 2)])
def test_policies(start, place, policy, code, runs):
    """The app ends with that code at first, and stays the second time."""
    script = f"echo x >> {place}/runs; test $(wc -l < {place}/runs) -ge 2 && exec sleep 600; exit {code}"
    process = start({"app": {"restart": policy}}, ["sh", "-c", script])
    if runs == 1:
        assert process.wait() == code
        assert (place / "runs").read_text() == "x\n"
        return
    wait_until(lambda: (place / "runs").exists() and (place / "runs").read_text() == "x\n" * 2, "the second start")
    wait_until(lambda: (process.admin("/status").json.get("app") or {}).get("restarts") == 1, "its count")
    assert "outrider_app_restarts_total 1" in process.admin("/metrics").text
    assert re.search(r"the app .*; restart 1 in \d+ ms", process.stderr)
    assert process.stop() == 143


@pytest.mark.parametrize("name", ["HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_signals_reach_the_whole_group(start, name):
    number = getattr(rig.signal, f"SIG{name}")
    script = f"trap 'echo line-1-parent' {name}; sh -c \"trap 'echo line-2-child' {name}; echo up; while :; do sleep 0.05; done\" & echo up; while :; do sleep 0.05; done"
    process = start({}, ["sh", "-c", script])
    process.wait_logs(lambda lines: sum("up" in line for line in lines) == 2, "both")
    process.send(number)
    # A shell starts what runs in its background with QUIT ignored, and what is ignored there cannot be trapped.
    expected = {1} if name == "QUIT" else {1, 2}
    process.wait_logs(lambda lines: expected <= set(rig.numbers(lines)), f"SIG{name} in the group")
    process.stop()


def test_hangup_does_not_end_an_app_without_a_handler(start):
    process = start({}, ["sleep", "600"]).wait_ready()
    app = process.app()
    process.send(rig.signal.SIGHUP)
    wait_until(lambda: rig.run("status", "--state", process.state).returncode == 0, "an answer")
    assert process.app() == app and process.is_running
    process.stop()
