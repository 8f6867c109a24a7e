"""The load generators: wrk, h2load and constant_rate.c, each pinned to the core of the upstream, each bounded."""

import json
import pathlib
import re
import struct
import subprocess
import sys
import time

from server import LOAD_CORE, command

FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "session=3f2a9c1e77b04d5e8a6b; theme=light; consent=yes",
    "Referer": "https://shop.example.com/shelf/tea?page=2",
}
WRK_SCRIPT = "".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}\n" for k, v in FIELDS.items()) + """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"errors":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
GRPC_FIELDS = {"Content-Type": "application/grpc", "TE": "trailers", "User-Agent": "grpc-python/1.60.0"}
# A frame of gRPC: not compressed, 20 bytes.
GRPC_BODY = struct.pack(">BI", 0, 20) + b"m" * 20
SOURCE = pathlib.Path(__file__).with_name("constant_rate.c")


def fields_of(fields):
    return [word for key, value in fields.items() for word in ("-H", f"{key}: {value}")]


def pinned(server, argv, seconds, **more):
    """What the generator wrote."""
    argv = ["taskset", "-c", str(LOAD_CORE), *map(str, argv)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=3 * seconds + 60, **more)
    except subprocess.TimeoutExpired:
        sys.exit(f"{server.name}: the load did not end: {' '.join(argv)}")
    if done.returncode:
        sys.exit(f"{server.name}: '{argv[3]}' ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def found(pattern, text, server):
    match = re.search(pattern, text, re.M)
    return match or sys.exit(
        f"{server.name}: the generator's answer is not understood; no '{pattern}' in\n{text[-2000:]}")


def wrk(server, seconds, directory, connections):
    """HTTP/1.1 on kept connections, plain or TLS."""
    script = directory / "load.lua"
    if not script.exists():
        script.write_text(WRK_SCRIPT)
    scheme = "https" if server.accepts == "tls" else "http"
    text = pinned(
        server,
        [command("wrk"), "-t", "1", "-c", connections, "-d", f"{seconds}s", "-s", script,
         f"{scheme}://127.0.0.1:{server.port}/"], seconds)
    return json.loads(found(r"^RESULT (.*)$", text, server).group(1))


def new_connections(server, seconds, directory, connections):
    """A new TLS 1.3 connection for every request: h2load in HTTP/1.1, some connections at once, again and again.

    h2load never resumes a session, and it switches Nagle's algorithm off. (ab does not: servers that send their
    session tickets with the first reply would wait 40 ms for its request.)
    """
    requests, took, end = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        text = pinned(
            server,
            [command("h2load"), "-t", "1", "-c", connections, "-n", connections, "--h1", *fields_of(FIELDS),
             f"https://127.0.0.1:{server.port}/"], seconds)
        found(r"^TLS Protocol: (TLSv1\.3)$", text, server)
        good = int(found(r"^status codes: (\d+) 2xx", text, server).group(1))
        if good != connections:
            return {"requests": requests + good, "microseconds": 1, "errors": connections - good}
        length, unit = found(r"^finished in ([\d.]+)(us|ms|s),", text, server).groups()
        requests, took = requests + good, took + float(length) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
    return {"requests": requests, "microseconds": took, "errors": 0}


def h2load(server, seconds, directory, connections, streams, grpc=False):
    """HTTP/2 in clear text by prior knowledge; latencies from the log of every request."""
    log = directory / "h2load.log"
    log.unlink(missing_ok=True)
    fields, body = FIELDS, []
    if grpc:
        fields = FIELDS | GRPC_FIELDS
        file = directory / "grpc.body"
        file.write_bytes(GRPC_BODY)
        body = ["-d", file]
    text = pinned(
        server,
        [command("h2load"), "-t", "1", "-c", connections, "-m", streams, "-D", seconds, "--log-file", log, *body,
         *fields_of(fields), f"http://127.0.0.1:{server.port}/"], seconds)
    succeeded, failed, errored, late = map(int, found(
        r"^requests:.* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text, server).groups())
    good = int(found(r"^status codes: (\d+) 2xx", text, server).group(1))
    with open(log) as lines:
        took = sorted(int(fields[2]) for fields in map(str.split, lines) if fields[1] == "200")
    if not took:
        sys.exit(f"{server.name}: no request of h2load got 200:\n{text[-2000:]}")
    rate = float(found(r"^finished in \S+, ([\d.]+) req/s", text, server).group(1))
    return {
        "requests": good, "microseconds": succeeded / rate * 1e6 if rate else 0,
        "errors": failed + errored + late + max(0, succeeded - good),
        "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def constant_rate(server, seconds, directory, connections, rate):
    """HTTP/1.1 at a constant rate, latency counted from when each request was due; see constant_rate.c."""
    binary = directory / "constant_rate"
    if not binary.exists():
        built = subprocess.run(
            [command("cc"), "-O2", "-o", str(binary), str(SOURCE)], capture_output=True, text=True, timeout=120)
        if built.returncode:
            sys.exit(f"cc could not build {SOURCE}:\n{built.stderr}")
    request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in FIELDS.items()) + "\r\n"
    text = pinned(server, [binary, server.port, connections, int(rate), seconds], seconds, input=request)
    return json.loads(text) | {"errors": 0}


def burst(server, seconds, generate, *arguments):
    """One measurement: load for some seconds, and the CPU that the server took for it."""
    before = server.cpu()
    values = generate(server, seconds, *arguments)
    after = server.cpu()
    count = values["requests"]
    if values["errors"] or not count:
        sys.exit(f"{server.name}: {values['errors']} failed of {count} requests; the run means nothing")
    user, system = ((after[i] - before[i]) / count * 1e6 for i in (0, 1))
    return {
        **values, "count": count, "rate": count / values["microseconds"] * 1e6, "user": user, "system": system,
        "cpu": user + system, "rss": server.memory().resident / 1024}
