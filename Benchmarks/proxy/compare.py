"""Outrider beside Envoy, HAProxy and nginx, in one interleaved run; prints Markdown tables with ratios.

    python3 Benchmarks/proxy/compare.py [--rows plain,tls] [--rotations 5] [--seconds 2] [--only NAMES] [--check]

How it measures: each proxy has one worker thread and is pinned to core 0; the load generator and the upstream are
pinned to core 1. Within a row, bursts are short and take turns (A B C D, A B C D, …), since machines drift. A cell is
the median over the rotations; a ratio is the median of the ratios within each rotation. CPU per request is user and
system time of the proxy's process tree (/proc/PID/stat) over a burst, divided by the requests that the burst completed.
Access log off, metrics on. Benchmarks/README.md says what each row is and how to read it.

With --check the exit code is 1 when a limit at the end of this file is missed. The tables go to standard output, so
that they may be kept; progress goes to standard error.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile

import certificate
import idle
import report
from peers import NAMES, STARTERS
from rows import BARE, ROWS, Setup


def chosen(parser, option, text, known):
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(known):
        parser.error(f"{option}: unknown {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names or parser.error(f"{option} is empty; there are {', '.join(known)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each burst")
    parser.add_argument("--only", default=",".join(STARTERS), help="the proxies of the run")
    parser.add_argument("--check", action="store_true", help="exit 1 when Outrider misses a limit")
    options = parser.parse_args()
    rows = chosen(parser, "--rows", options.rows, ROWS)
    proxies = chosen(parser, "--only", options.only, STARTERS)
    if not 1 <= options.rotations <= 100 or not 1 <= options.seconds <= 30:
        parser.error("--rotations must be from 1 to 100, --seconds from 1 to 30")
    if options.check and "outrider" not in proxies:
        parser.error("--check needs outrider in --only")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server is ended
    if (os.cpu_count() or 1) < 2:
        sys.exit("this needs two cores: one for the proxy, one for the load and the upstream")
    idle.allow_files(8192 + 1024)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as path:
        directory = pathlib.Path(path)
        setup = Setup(proxies, options.rotations, options.seconds, directory, certificate.make(directory))
        for key in rows:
            row = ROWS[key]
            outcome = row.measure(setup, key)
            print(f"## {row.title} (`{key}`)\n\n{report.table(row.columns, outcome.results)}\n")
            for name, reason in outcome.absent.items():
                print(f"{name}: not supported ({reason})\n")
            sys.stdout.flush()
            if options.check:
                missed += check(key, outcome, [NAMES[name] for name in proxies] + [BARE])
    return 1 if missed else 0


def check(key, outcome, proxies):
    """How many limits of a row are missed; one whose peer was left out with --only is skipped, and that is said."""
    missed = 0
    for limit in (limit for limit in LIMITS if limit.row == key):
        rows = outcome.results[limit.load]
        label = f"{key}, {limit.load}: {limit.measure}"
        if absent := [peer for peer in limit.peers if peer not in proxies]:
            print(f"skipped: {label} needs {' and '.join(absent)} in --only", file=sys.stderr)
            continue
        if not limit.peers:
            value = report.middle(rows["Outrider"], limit.measure) if "Outrider" in rows else None
        else:
            value = report.ratio(rows, "Outrider", limit.peers, limit.measure)
        beside = f" × the better of {' and '.join(limit.peers)}" if len(limit.peers) > 1 else "".join(
            f" × {peer}" for peer in limit.peers)
        if value is None:
            missed += 1
            print(f"MISSED: {label}: no value, limit {limit.most}{beside}", file=sys.stderr)
            continue
        word = "ok" if value <= limit.most else "MISSED"
        missed += word != "ok"
        print(f"{word}: {label} is {value:.2f}{beside}, limit {limit.most}", file=sys.stderr)
    return missed


class Limit:
    """The largest value of a measure, or of its ratio to the best of `peers` when there are any."""

    def __init__(self, row, load, measure, most, *peers):
        self.row, self.load, self.measure, self.most, self.peers = row, load, measure, most, peers


# What Outrider has to reach. "each" is KiB of private memory a connection.
STREAMS = "8 connections × 8 streams"
LIMITS = [
    Limit("plain", "64 kept", "cpu", 0.95, "HAProxy"),
    Limit("plain", "64 kept", "cpu", 0.25, "Envoy"),
    Limit("plain", "1 kept", "p50", 0.95, "HAProxy"),
    Limit("features", "64 kept", "cpu", 1.25, BARE),
    Limit("features", "64 kept", "cpu", 0.35, "Envoy"),
    Limit("tls", "64 kept", "cpu", 0.85, "HAProxy", "nginx"),
    Limit("tls", "64 kept", "cpu", 0.30, "Envoy"),
    Limit("tcp", "64 kept", "cpu", 1.00, "HAProxy"),
    Limit("handshakes", "64 at a time", "cpu", 0.85, "HAProxy"),
    Limit("h2", STREAMS, "cpu", 0.40, "Envoy"),
    Limit("h2", STREAMS, "cpu", 1.00, "HAProxy"),
    Limit("h2h2", STREAMS, "cpu", 0.40, "Envoy"),
    Limit("h2h2", STREAMS, "cpu", 1.00, "HAProxy"),
    Limit("half", "64 kept, constant rate", "p99", 1.00, "HAProxy"),
    Limit("memory", "1,000 idle", "each", 8),
    Limit("memory-tls", "1,000 idle", "each", 24),
]

if __name__ == "__main__":
    sys.exit(main())
