"""Outrider beside Envoy, HAProxy and nginx, in one interleaved run; prints a Markdown table with ratios.

    python3 Benchmarks/proxy/compare.py [--rotations 5] [--seconds 2] [--only outrider,haproxy] [--check]

How it measures: each proxy has one worker thread and is pinned to core 0; the load generator (wrk) and the upstream
(nginx, a reply of 100 bytes) are pinned to core 1. Bursts are short and take turns (A B C D, A B C D, …), since
machines drift. A row is the median over the rotations; a ratio is the median of the ratios within each rotation.
CPU per request is user and system time of the proxy's process tree (/proc/PID/stat) over a burst, divided by the
requests that the burst completed. Kept-alive connections, seven request fields, access log off, metrics on in Outrider.

With --check the exit code is 1 when a limit at the end of this file is missed. The table goes to standard output, so
that it may be kept; progress goes to standard error.
"""

import argparse
import glob
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROXY_CORE, LOAD_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")
BODY = "x" * 99 + "\n"
# What a proxy is started under; steady.py puts a counting tool here.
WRAPPER = []
# True for a proxy that puts the wrapper around its serving process itself.
SELF_WRAPPING = {"Outrider"}

WRK_SCRIPT = """
wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
wrk.headers["Accept-Language"] = "en-GB,en;q=0.7,de;q=0.3"
wrk.headers["Accept-Encoding"] = "gzip, deflate, br"
wrk.headers["Cookie"] = "session=3f2a9c1e77b04d5e8a6b; theme=light; consent=yes"
wrk.headers["Referer"] = "https://shop.example.com/shelf/tea?page=2"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"errors":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""

NGINX_TEMPORARY = "".join(
    f"{kind}_temp_path {{directory}}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
NGINX_HEAD = (
    # As root, nginx would run its worker as another user, whom the counting tools of steady.py cannot reach.
    ("user root; " if os.geteuid() == 0 else "") +
    "daemon off; worker_processes 1; pid {directory}/pid; error_log stderr crit;\n"
    "events {{ worker_connections 4096; }}\n"
    "http {{ access_log off; keepalive_requests 1000000000; " + NGINX_TEMPORARY)
NGINX_UPSTREAM = NGINX_HEAD + (
    "server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 '{body}'; }} }} }}\n")
NGINX_PROXY = NGINX_HEAD + (
    "upstream u {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}\n"
    "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; proxy_http_version 1.1;\n"
    'proxy_set_header Connection ""; proxy_set_header Host $host;\n'
    "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; }} }} }}\n")
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option forwardfor
  retries 1
frontend f
  bind 127.0.0.1:{port}
  unique-id-format %{{+X}}o%ci%cp%Ts%rt
  unique-id-header X-Request-Id
  default_backend b
backend b
  server u 127.0.0.1:{upstream}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def envoy_configuration(port, upstream):
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "codec_type": "HTTP1", "generate_request_id": True, "use_remote_address": True,
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{filters}.http.router.v3.Router"}}]}
    address = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    return {"static_resources": {
        "listeners": [{"name": "l", "address": address(port), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [{"name": "u", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
            "cluster_name": "u", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]}}]}}


class Server:
    """A process pinned to a core, that answers on `port`."""

    def __init__(self, name, core, port, argv, directory):
        self.name, self.port = name, port
        log = open(directory / "log", "wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *(WRAPPER if core == PROXY_CORE and name not in SELF_WRAPPING else []),
             *map(str, argv)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory)
        log.close()
        self.await_reply(directory / "log")
        self.idle_memory = self.memory()

    def await_reply(self, log):
        pause, end, problem = threading.Event(), time.monotonic() + 30, None
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2) as reply:
                    body = reply.read()
                    if reply.status == 200 and body == BODY.encode():
                        return
                    problem = f"answered {reply.status} with {len(body)} bytes"
            except OSError as error:
                problem = error
            pause.wait(0.1)
        self.stop()
        wrote = log.read_text(errors="replace")[-3000:]
        sys.exit(f"{self.name} did not serve the upstream's reply: {problem}\n{wrote}")

    def tree(self):
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for path in glob.glob(f"/proc/{pid}/task/*/children"):
                try:
                    queue += map(int, pathlib.Path(path).read_text().split())
                except OSError:
                    pass
        return found

    def cpu(self):
        """(user, system) seconds of the tree so far."""
        user = system = 0
        for pid in self.tree():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            user, system = user + int(fields[11]), system + int(fields[12])
        return user / TICK, system / TICK

    def memory(self):
        """Resident MiB of the tree, without the stand-in for an app."""
        total = 0
        for pid in self.tree():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                    continue
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Rss:\s+(\d+)", text, re.M).group(1))
            except (OSError, AttributeError):
                continue
        return total / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def command(name, way_out):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return found or sys.exit(f"'{name}' is not installed: {way_out}")


def start_nginx(name, core, text, directory, **values):
    directory.mkdir()
    port = free_port()
    (directory / "nginx.conf").write_text(text.format(directory=directory, port=port, body=BODY, **values))
    nginx = command("nginx", "run dev/setup.sh bench")
    return Server(name, core, port, [nginx, "-c", directory / "nginx.conf", "-p", directory], directory)


def start_haproxy(upstream, directory):
    directory.mkdir()
    port = free_port()
    (directory / "haproxy.cfg").write_text(HAPROXY.format(port=port, upstream=upstream))
    haproxy = command("haproxy", "run dev/setup.sh bench")
    return Server("HAProxy", PROXY_CORE, port, [haproxy, "-db", "-f", directory / "haproxy.cfg"], directory)


def start_envoy(upstream, directory):
    directory.mkdir()
    port = free_port()
    (directory / "envoy.yaml").write_text(json.dumps(envoy_configuration(port, upstream)))
    found = glob.glob(str(ROOT / ".venv/lib/python*/site-packages/envoy/_bin/envoy"))
    envoy = found[0] if found else command("envoy", "run dev/setup.sh bench")
    return Server(
        "Envoy", PROXY_CORE, port,
        [envoy, "-c", directory / "envoy.yaml", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"],
        directory)


def start_outrider(upstream, directory):
    binary = os.environ.get("OUTRIDER", str(ROOT / "dist/outrider"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"there is no binary at {binary}: run 'make build', or leave this row out with --only")
    directory.mkdir()
    port = free_port()
    (directory / "outrider.yaml").write_text(json.dumps({
        "threads": 1, "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "outbound": {"bench": {
            "listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream}", "access_log": False}}}))
    worker = []
    if WRAPPER:
        # The supervisor starts its worker from its own open binary, which a counting tool cannot follow.
        script = directory / "worker"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(WRAPPER)} {shlex.quote(binary)} \"$@\"\n")
        script.chmod(0o755)
        worker = ["--worker-binary", script]
    return Server(
        "Outrider", PROXY_CORE, port,
        [binary, "run", *worker, "--config", directory / "outrider.yaml", "--state", directory / "s", "--", "sleep", "1000000"],
        directory)


STARTERS = {
    "outrider": start_outrider,
    "haproxy": start_haproxy,
    "nginx": lambda upstream, directory: start_nginx("nginx", PROXY_CORE, NGINX_PROXY, directory, upstream=upstream),
    "envoy": start_envoy,
}


def burst(server, connections, seconds, script):
    """One measurement: load for some seconds, and the CPU that the server took for it."""
    before = server.cpu()
    result = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), command("wrk", "run dev/setup.sh bench"), "-t", "1", "-c", str(connections),
         "-d", f"{seconds}s", "-s", str(script), f"http://127.0.0.1:{server.port}/"],
        capture_output=True, text=True, check=True)
    after = server.cpu()
    values = json.loads(re.search(r"^RESULT (.*)$", result.stdout, re.M).group(1))
    if values["errors"] or not values["requests"]:
        sys.exit(f"{server.name}: {values['errors']} failed of {values['requests']} requests; the run means nothing")
    count = values["requests"]
    user, system = ((after[i] - before[i]) / count * 1e6 for i in (0, 1))
    return {
        "count": count, "rate": count / values["microseconds"] * 1e6, "user": user, "system": system, "cpu": user + system,
        "p50": values["p50"], "p99": values["p99"], "rss": server.memory()}


def measure(names, rotations, seconds, directory):
    """{connections: {proxy: [measurement of each rotation]}} and the servers' idle memory."""
    script = directory / "load.lua"
    script.write_text(WRK_SCRIPT)
    servers, results = [], {64: {}, 1: {}}
    upstream = start_nginx("the upstream", LOAD_CORE, NGINX_UPSTREAM, directory / "upstream")
    try:
        for name in names:
            servers.append(STARTERS[name](upstream.port, directory / name))
        for server in servers:
            burst(server, 64, 1, script)  # warms caches and pools; not counted
        for rotation in range(rotations):
            for connections in (64, 1):
                for server in servers:
                    print(f"rotation {rotation + 1}/{rotations}: {server.name}, {connections}", file=sys.stderr)
                    results[connections].setdefault(server.name, []).append(
                        burst(server, connections, seconds, script))
        return results, {server.name: server.idle_memory for server in servers}
    finally:
        for server in servers:
            server.stop()
        upstream.stop()


def ratio(results, name, base, key):
    """The median of the ratios within each rotation, or None without the base."""
    if base not in results:
        return None
    return statistics.median(a[key] / b[key] for a, b in zip(results[name], results[base]) if b[key])


def table(results, idle):
    shown = lambda value: "–" if value is None else f"{value:.2f}"
    lines = [
        "| Proxy | Connections | requests/s | CPU µs/request (user+sys) | × HAProxy | × Envoy | p50 µs | p99 µs "
        "| p50 × HAProxy | RSS MiB idle → loaded |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for connections, rows in results.items():
        for name, bursts in rows.items():
            middle = {key: statistics.median(b[key] for b in bursts) for key in bursts[0]}
            lines.append(
                f"| {name} | {connections} | {middle['rate']:,.0f} | "
                f"{middle['cpu']:.1f} ({middle['user']:.1f}+{middle['system']:.1f}) | "
                f"{shown(ratio(rows, name, 'HAProxy', 'cpu'))} | {shown(ratio(rows, name, 'Envoy', 'cpu'))} | "
                f"{middle['p50']:,.0f} | {middle['p99']:,.0f} | {shown(ratio(rows, name, 'HAProxy', 'p50'))} | "
                f"{idle[name]:.1f} → {middle['rss']:.1f} |")
    return "\n".join(lines)


# What Outrider has to reach: (connections, peer, measure, largest ratio).
LIMITS = [(64, "HAProxy", "cpu", 0.95), (64, "Envoy", "cpu", 0.25), (1, "HAProxy", "p50", 0.95)]


def check(results):
    missed = 0
    for connections, peer, key, limit in LIMITS:
        rows = results[connections]
        found = ratio(rows, "Outrider", peer, key) if "Outrider" in rows else None
        if found is None:
            sys.exit(f"--check needs Outrider and {peer} in the run")
        word = "ok" if found <= limit else "MISSED"
        missed += word != "ok"
        print(f"{word}: {key} at {connections} connections is {found:.2f} × {peer}, limit {limit}", file=sys.stderr)
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of a burst")
    parser.add_argument("--only", default=",".join(STARTERS), help="comma-separated rows: " + ", ".join(STARTERS))
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is missed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server is ended
    names = options.only.split(",")
    if unknown := set(names) - set(STARTERS):
        parser.error(f"unknown row {', '.join(sorted(unknown))}; there are {', '.join(STARTERS)}")
    if (os.cpu_count() or 1) < 2:
        sys.exit("this needs two cores: one for the proxy, one for the load and the upstream")
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as directory:
        results, idle = measure(names, options.rotations, options.seconds, pathlib.Path(directory))
    print(table(results, idle))
    return check(results) if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
