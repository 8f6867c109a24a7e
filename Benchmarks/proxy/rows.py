"""The rows of the benchmark: what each starts, which load it makes, and which table shows it."""

import contextlib
import statistics
import sys

import idle
import load
import report
from peers import NAMES, STARTERS, nghttpd, nginx
from server import NotSupported, Shape

IDLE_CONNECTIONS = 1000
# Outrider without the features of a row.
BARE = "Outrider bare"


class Outcome:
    """What a row found: {load: {proxy: [measurement of each rotation]}}, and {proxy: why it has none}."""

    def __init__(self, loads):
        self.results = {name: {} for name in loads}
        self.absent = {}

    def add(self, load_name, proxy, measurement):
        self.results[load_name].setdefault(proxy, []).append(measurement)


class Setup:
    """What all rows of a run share: the proxies asked for, rotations, seconds a burst, a directory, the certificate."""

    def __init__(self, proxies, rotations, seconds, directory, certificate):
        self.proxies, self.rotations, self.seconds = proxies, rotations, seconds
        self.directory, self.certificate = directory, certificate


def say(text):
    print(text, file=sys.stderr, flush=True)


def start_upstream(shape, directory):
    return (nghttpd if shape.speaks == "http2" else nginx).start_upstream(directory)


@contextlib.contextmanager
def running(setup, key, shape, outcome):
    """The upstream and the proxies of a row, which end with it."""
    servers, directory = [], setup.directory / key
    upstream = start_upstream(shape, directory / "upstream")
    try:
        for name in setup.proxies:
            try:
                servers.append(STARTERS[name](shape, upstream.port, directory / name, setup.certificate))
            except NotSupported as reason:
                outcome.absent[NAMES[name]] = str(reason)
                say(f"{key}: {NAMES[name]} is left out: {reason}")
        yield servers
    finally:
        for server in servers:
            server.stop()
        upstream.stop()


class Requests:
    """Bursts of a closed load, in turns; `loads` maps a name to a generator and its arguments."""

    def __init__(self, title, shape, loads, columns=report.REQUESTS):
        self.title, self.shape, self.loads, self.columns = title, shape, loads, columns

    def started(self, setup, key, outcome):
        return running(setup, key, self.shape, outcome)

    def measure(self, setup, key):
        outcome = Outcome(self.loads)
        with self.started(setup, key, outcome) as servers:
            first = next(iter(self.loads.values()))
            for server in servers:
                load.burst(server, 1, first[0], setup.directory, *first[1:])  # warms caches and pools; not counted
            for rotation in range(setup.rotations):
                for name, (generate, *arguments) in self.loads.items():
                    for server in servers:
                        say(f"{key}, rotation {rotation + 1}/{setup.rotations}: {server.name}, {name}")
                        found = load.burst(server, setup.seconds, generate, setup.directory, *arguments)
                        outcome.add(name, server.name, found | {"rss 0": server.idle_memory.resident / 1024})
        return outcome


class Features(Requests):
    """The same load with all features on, and beside it Outrider without them."""

    @contextlib.contextmanager
    def started(self, setup, key, outcome):
        with running(setup, key, self.shape, outcome) as servers:
            bare = None
            if "outrider" in setup.proxies:
                upstream = start_upstream(self.shape, setup.directory / f"{key}-bare" / "upstream")
                bare = STARTERS["outrider"](
                    Shape("http1", "http1"), upstream.port, setup.directory / f"{key}-bare" / "outrider",
                    setup.certificate)
                bare.name = BARE
            try:
                yield servers + ([bare] if bare else [])
            finally:
                if bare:
                    bare.stop()
                    upstream.stop()


class Memory:
    """Idle connections, on a fresh process each time."""

    columns = report.MEMORY

    def __init__(self, title, shape):
        self.title, self.shape = title, shape

    def measure(self, setup, key):
        name = f"{IDLE_CONNECTIONS:,} idle"
        outcome = Outcome([name])
        for rotation in range(min(setup.rotations, 3)):
            part = f"{key}-{rotation}"
            with running(setup, part, self.shape, outcome) as servers:
                for server in servers:
                    say(f"{key}, rotation {rotation + 1}: {server.name}")
                    outcome.add(name, server.name, idle.measure(server, IDLE_CONNECTIONS))
        return outcome


class HalfLoad:
    """A constant rate, half of what HAProxy can do at most; less for a proxy that could not keep up with that."""

    columns = report.HALF_LOAD
    connections = 64

    def __init__(self, title, shape):
        self.title, self.shape = title, shape

    def measure(self, setup, key):
        name = f"{self.connections} kept, constant rate"
        outcome = Outcome([name])
        with running(setup, key, self.shape, outcome) as servers:
            most = self.maxima(servers, setup, key)
            half = most.get("HAProxy", next(iter(most.values()), 0)) / 2
            for rotation in range(setup.rotations):
                for server in servers:
                    own = most[server.name] / 2
                    # Outrider is never let off: its p99 is compared at the same rate.
                    rate = half if server.name == "Outrider" or own > 0.75 * half else own
                    say(f"{key}, rotation {rotation + 1}/{setup.rotations}: {server.name}, {rate:,.0f} requests/s")
                    outcome.add(name, server.name, load.burst(
                        server, setup.seconds, load.constant_rate, setup.directory, self.connections, rate))
        return outcome

    def maxima(self, servers, setup, key):
        """{proxy: requests/s of a closed load}."""
        rates = {}
        for rotation in range(1 + min(setup.rotations, 3)):
            for server in servers:
                say(f"{key}, maximum: {server.name}")
                found = load.burst(server, setup.seconds, load.wrk, setup.directory, self.connections)
                if rotation:  # the first warms
                    rates.setdefault(server.name, []).append(found["rate"])
        return {name: statistics.median(values) for name, values in rates.items()}


KEPT = {"64 kept": (load.wrk, 64), "1 kept": (load.wrk, 1)}
ROWS = {
    "plain": Requests("HTTP/1.1 → HTTP/1.1", Shape("http1", "http1"), KEPT),
    "features": Features(
        "HTTP/1.1 → HTTP/1.1 with routes, retries, access records and outlier detection", Shape("http1", "http1", True),
        {"64 kept": (load.wrk, 64)}),
    "tls": Requests("TLS 1.3 → plain HTTP/1.1", Shape("tls", "http1"), KEPT),
    "tcp": Requests("TCP pass-through (the same HTTP/1.1 bytes, not looked at)", Shape("tcp", "tcp"), KEPT),
    "handshakes": Requests(
        "New TLS 1.3 connections, one request each, no resumption", Shape("tls", "http1"),
        {"64 at a time": (load.new_connections, 64)}, report.HANDSHAKES),
    "h2": Requests(
        "HTTP/2 → HTTP/1.1", Shape("http2", "http1"), {"8 connections × 8 streams": (load.h2load, 8, 8)}),
    "h2h2": Requests(
        "HTTP/2 → HTTP/2, like gRPC (POST of one message, trailers)", Shape("http2", "http2"),
        {"8 connections × 8 streams": (load.h2load, 8, 8, True)}),
    "half": HalfLoad("HTTP/1.1 at half load", Shape("http1", "http1")),
    "memory": Memory("Memory of idle plain connections", Shape("http1", "http1")),
    "memory-tls": Memory("Memory of idle TLS connections", Shape("tls", "http1")),
}
