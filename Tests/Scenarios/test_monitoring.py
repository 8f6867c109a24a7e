"""The app's metrics beside the sidecar's, and what its processes use."""

import re
import sys

import rig
from rig import wait_until

APP = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; x = sum(i * i for i in range(3000000)); sys.stdin.read()"],
                         stdin=subprocess.PIPE)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open(sys.argv[2], "rb").read()
        self.send_response(200 if body else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("line-1-serving", flush=True)
server.serve_forever()
"""

TEXT = """# HELP orders_total Orders.
# TYPE orders_total counter
orders_total{kind="a\\"b"} 7
# TYPE outrider_build_info gauge
outrider_build_info{mine="1"} 5
# TYPE took_seconds histogram
took_seconds_bucket{le="1"} 2
took_seconds_bucket{le="+Inf"} 3
took_seconds_sum 4.5
took_seconds_count 3
"""


def samples(text):
    """A strict look at an exposition: every family once, every sample behind its type, no series twice."""
    found, families, current = {}, set(), None
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            current = line.split()[2]
            assert current not in families, f"{current} stands twice"
            families.add(current)
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-zA-Z_:][\w:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (\S+)( -?\d+)?', line)
            assert match, line
            assert match[1] == current or re.sub("_(bucket|sum|count)$", "", match[1]) == current, line
            assert match[1] + (match[2] or "") not in found, f"{line} stands twice"
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_the_apps_metrics_stand_beside_ours(start, place):
    port = rig.free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    (place / "app.py").write_text(APP)
    (place / "metrics.txt").write_text(TEXT)
    config = {"telemetry": {"scrape": [url]}, "logs": {"transforms": [{"metric": {"name": "orders_total"}}]}}
    process = start(config, [sys.executable, place / "app.py", port, place / "metrics.txt"]).wait_ready()
    process.wait_logs(lambda lines: any("line-1-" in line for line in lines), "the app to serve")

    def scrape():
        return samples(process.admin("/metrics").text)

    found = scrape()
    up = f'outrider_scrape_up{{target="{url}"}}'
    # A metric of ours has the same name: the app's steps aside.
    assert found["orders_total"] == 1 and found['app_orders_total{kind="a\\"b"}'] == 7
    assert found['app_outrider_build_info{mine="1"}'] == 5 and found[up] == 1
    assert found['took_seconds_bucket{le="+Inf"}'] == 3 and found["took_seconds_sum"] == 4.5
    # What its processes use: the app and its child, as /proc has them.
    pids = [process.app(), *rig.descendants(process.app())]
    wait_until(lambda: scrape()["outrider_app_processes"] == len(pids) == 2, "two processes")
    found = wait_until(lambda: (lambda f: f if f["outrider_app_cpu_seconds_total"] > 0.1 else None)(scrape()), "CPU time")
    assert 5e6 < found["outrider_app_resident_memory_bytes"] < 1e9
    assert found["outrider_app_threads"] >= 2
    assert found["outrider_app_open_fds"] >= sum(1 for pid in pids for _ in (0, 1, 2))
    # What is no exposition is refused as a whole, told once, and does no harm.
    (place / "metrics.txt").write_text(TEXT + "1broken 2\n")
    found = scrape()
    assert found[up] == 0 and "took_seconds_sum" not in found and found["orders_total"] == 1
    scrape()
    assert process.stderr.count("line 11: no metric's name") == 1
    (place / "metrics.txt").write_text("")
    assert scrape()[up] == 0 and "status 500" in process.stderr
    # A reload that takes the target away.
    del config["telemetry"]
    process.write_config({"admin": {"listen": "127.0.0.1:0"}, **config})
    result = rig.run("reload", "--state", process.state)
    assert result.returncode == 0 and "scrape" in result.stdout + result.stderr
    assert up not in scrape()
    process.stop()


def test_a_target_that_is_not_there_does_no_harm(start):
    process = start({"telemetry": {"scrape": f"http://127.0.0.1:{rig.free_port()}/m"}}, ["sleep", "300"]).wait_ready()
    found = samples(process.admin("/metrics").text)
    assert [value for name, value in found.items() if name.startswith("outrider_scrape_up")] == [0]
    process.stop()
