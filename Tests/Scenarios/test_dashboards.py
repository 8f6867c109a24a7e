"""What deploy/ holds for Prometheus and Grafana: checked by their own tools, and run over metrics of a real sidecar."""

import json
import re
import subprocess

import pytest

import rig
from rig import wait_until
from test_metrics_push import metric, prometheus, query, server  # noqa: F401 (fixtures)

RULES = rig.ROOT / "deploy" / "prometheus" / "outrider.rules.yaml"
DASHBOARD = rig.ROOT / "deploy" / "grafana" / "outrider.json"


def promtool(*arguments):
    result = subprocess.run([rig.tool("promtool"), *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def reference():
    """The names of every family that the sources register."""
    names = set()
    for path in (rig.ROOT / "Sources").rglob("*.swift"):
        text = path.read_text()
        literals = set(re.findall(r'"(outrider_[a-z0-9_]+)"', text))
        for prefix in {name for name in literals if name.endswith("_")}:
            # A prefix, and what the same file puts behind it.
            names |= {prefix + rest for rest in re.findall(r'read\("([a-z0-9_]+)"', text)}
        names |= {name for name in literals if not name.endswith("_")}
    return names


def named(text):
    """Metrics that an expression names, histograms by their family."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\boutrider_[a-z0-9_]+", text)}


def expressions():
    """Every panel of the dashboard as (title, expression)."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_the_rules_are_valid_and_fire_when_they_should():
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", RULES.with_name("outrider.rules.test.yaml"))


def test_every_metric_that_is_named_exists():
    known = reference()
    assert len(known) > 60 and "outrider_app_cgroup_memory_bytes" in known and "outrider_http_requests_total" in known
    rules = RULES.read_text()
    shown = {expression for _, expression in expressions()}
    assert len(shown) > 40
    assert not named(rules) - known
    assert not named("\n".join(shown)) - known
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24 and place["h"] > 0


@pytest.mark.usefixtures("place")
def test_the_dashboard_and_the_rules_over_a_real_sidecar(start, prometheus, peer, place):  # noqa: F811
    """Pushed into a real Prometheus, which evaluates the rules; every panel's expression is asked of it."""
    port, listener, upstream = rig.free_port(), rig.free_port(), peer("flaky_upstream.py")
    prometheus(port, f"global: {{ evaluation_interval: 1s }}\nrule_files: [{RULES}]\n")
    process = start(
        # What the sink that is away did not get stays in the spool: nothing is to be waited for at the end.
        {"shutdown": {"deadline": "3s"}, "outbound": {"pay": {"listen": f"127.0.0.1:{listener}", "to": f"http://127.0.0.1:{upstream.port}"}},
         "secrets": {"stores": {"e": {"env": {}}}, "values": {"key": {"key": "A_KEY"}}},
         "logs": {"sinks": {"gone": {"http": {"url": f"http://127.0.0.1:{rig.free_port()}"},
                                     "retry": {"initial": "50ms", "max": "100ms"}}}},
         "telemetry": {"metrics": {"remote_write": f"http://127.0.0.1:{port}", "interval": "1s", "service_name": "shop"}}},
        ["sh", "-c", "echo line-1-x; exec sleep 300"], env={"A_KEY": "s3cret-key"}).wait_ready()
    for _ in range(20):
        rig.request(listener, "/")
    wait_until(lambda: query(port, 'outrider_http_requests_total{code_class="2xx"} >= 20'), "the requests", every=0.3)
    wait_until(lambda: query(port, 'outrider_log_circuit_open{sink="gone"} == 1'), "the sink that is away", every=0.3)
    # What every sidecar with a listener and a sink has; a rate needs two samples.
    wanted = {"App ready", "Requests", "Requests by listener", "Duration", "CPU", "Memory", "Behind", "Spool",
              "Records by source", "Samples sent", "Connections", "Send time"}

    def filled():
        full = set()
        for title, expression in expressions():
            asked = expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
            assert "$" not in asked, asked
            if query(port, asked):
                full.add(title)
        return full >= wanted or wanted - full

    wait_until(lambda: filled() is True, "every panel to show something", every=0.5)
    groups = rig.request(port, "/api/v1/rules").json["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 20
    wait_until(lambda: all(
        rule["health"] == "ok" for group in rig.request(port, "/api/v1/rules").json["data"]["groups"]
        for rule in group["rules"]), "every rule to be evaluated without an error", every=0.3)
    pending = rig.request(port, "/api/v1/alerts").json["data"]["alerts"]
    assert not [a for a in pending if a["labels"]["alertname"] == "OutriderAppNotReady"]
    process.stop()
