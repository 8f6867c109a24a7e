"""Health, metrics and status, on the TCP port and on the Unix socket."""

import json
import signal

import pytest

import rig
from rig import wait_until

HEALTHY = ("/livez", "/readyz", "/readyz/sidecar", "/readyz/outbound", "/healthz/app")


@pytest.fixture
def shop(start, python_app):
    app_port, port, admin = rig.free_port(), rig.free_port(), rig.free_port()
    process = start(
        {"admin": {"listen": f"127.0.0.1:{admin}"},
         "app": {"port": app_port, "ready": {"http": "/healthz", "interval": "100ms", "unhealthy": 1}},
         "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}}, python_app("web.py", app_port)).wait_ready()
    process.admin_port, process.inbound_port = admin, port
    return process


@pytest.mark.parametrize("path", HEALTHY)
def test_health_on_both_ways_in(shop, path):
    assert rig.request(shop.admin_port, path).status == 200
    assert rig.request(shop.socket, path).status == 200
    assert rig.request(shop.admin_port, "/no-such-thing").status == 404
    shop.stop()


def test_app_health_is_a_direct_probe(shop):
    shop.send(signal.SIGUSR2)
    wait_until(lambda: rig.status_of(shop.admin_port, "/healthz/app") == 503, "the app's bad health")
    wait_until(lambda: rig.status_of(shop.admin_port, "/readyz") == 503, "readiness to follow")
    assert rig.status_of(shop.admin_port, "/livez") == 200
    assert rig.status_of(shop.admin_port, "/readyz/sidecar") == 200
    shop.send(signal.SIGUSR2)
    wait_until(lambda: rig.status_of(shop.admin_port, "/readyz") == 200, "readiness to return")
    shop.stop()


def test_metrics_are_prometheus_text(shop):
    for _ in range(5):
        assert rig.status_of(shop.inbound_port) == 200
    reply = wait_until(
        lambda: (lambda r: r if "outrider_http_requests_total{" in r.text else None)(shop.admin("/metrics")), "counts")
    assert reply.headers["Content-Type"].startswith("text/plain")
    total = 0.0
    for line in reply.text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, value = line.rsplit(" ", 1)
        float(value)
        if name.startswith("outrider_http_requests_total{") and 'direction="inbound"' in name:
            total += float(value)
    assert total == 5
    assert sum(1 for l in reply.text.splitlines() if l and l[0] != "#") < 150
    shop.stop()


def test_status_as_json_and_as_a_command(shop):
    assert isinstance(shop.admin("/status").json, dict)
    text = rig.run("status", "--state", shop.state)
    assert text.returncode == 0 and "ready" in text.stdout
    parsed = json.loads(rig.run("status", "--state", shop.state, "--output", "json").stdout)
    assert "ready" in json.dumps(parsed)
    shop.stop()
    gone = rig.run("status", "--state", shop.state)
    assert gone.returncode != 0 and "outrider.sock" in gone.stderr


def test_status_goes_503_while_stopping(start):
    process = start(
        {"app": {"stop": {"grace": "30s"}}},
        ["sh", "-c", "trap 'while [ ! -e go ]; do sleep 0.1; done; exit 0' TERM; echo on; while :; do sleep 0.1; done"])
    process.wait_ready()
    process.send(signal.SIGTERM)
    wait_until(lambda: rig.status_of(process.socket, "/readyz") == 503, "readiness to fail")
    assert process.is_running
    (process.directory / "go").touch()
    assert process.wait() == 0


def test_default_admin_port_taken_is_no_reason_not_to_start(place, ending):
    """Two sidecars without configuration run side by side; each has its Unix socket."""
    first = rig.Outrider(place, None, ["sleep", "60"], name="first", state=place / "a")
    ending.append(first)
    first.wait_ready()
    second = rig.Outrider(place, None, ["sleep", "60"], name="second", state=place / "b")
    ending.append(second)
    second.wait_ready()
    assert rig.status_of(second.socket, "/livez") == 200
    first.stop()
    second.stop()


def test_two_sidecars_on_one_state_directory_are_refused(start, place, ending):
    first = start({}, ["sleep", "60"]).wait_ready()
    second = rig.Outrider(place, None, ["sleep", "60"], name="second", state=first.state)
    ending.append(second)
    assert second.wait() == 1
    assert str(first.state) in second.stderr
    assert rig.status_of(first.socket, "/readyz") == 200
    first.stop()


def test_version_and_help():
    version = rig.run("version")
    assert version.returncode == 0 and version.stdout.strip()
    help_text = rig.run("--help")
    assert help_text.returncode == 0
    for command in ("run", "validate", "explain", "schema", "status", "logs", "secrets", "reload"):
        assert command in help_text.stdout


def test_unknown_option_is_64_and_names_it():
    result = rig.run("run", "--no-such-option")
    assert result.returncode == 64 and "no-such-option" in result.stderr
