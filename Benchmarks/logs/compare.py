"""Outrider's log pipeline beside rsyslog, the OpenTelemetry Collector and, where a path is given, Fluent Bit.

    make bench-logs                                             every row, 1 GB, three rotations
    make bench-logs BENCH='--megabytes 50 --rotations 1'        a look
    .venv/bin/python Benchmarks/logs/compare.py --rows bulk,full --fluent-bit /opt/fluent-bit/bin/fluent-bit

The agent is pinned to core 0; the receiver and the writer to core 1. MB/s per core is the size of the log divided by the
CPU time of the agent's process tree from its start until the last line has arrived. Agents take turns.
"""

import argparse
import http.client
import json
import mmap
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import generate
from subjects import ROOT, Collector, FluentBit, Outrider, Rsyslog, Running

ROWS = {
    "bulk": "tail to bulk or HTTP", "full": "multiline, JSON and all secrets, to bulk or HTTP",
    "patterns": "the same, and redaction by five patterns", "store": "tail to bulk, and into the local store",
    "idle": "idle", "rate": "10,000 lines a second"}
# What --check holds Outrider to. The counted one does not depend on the machine; those of speed do.
LIMITS = {"allocations": 0.05, "bulk": 250, "full": 150, "added": 24, "rate": 2.0}


class Receiver:
    def __init__(self):
        self.process = subprocess.Popen(
            ["taskset", "-c", "1", sys.executable, pathlib.Path(__file__).parent / "receiver.py", generate.END],
            stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def counts(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/count")
        counts = json.loads(connection.getresponse().read())
        connection.close()
        return counts

    def stop(self):
        self.process.kill()
        self.process.wait()


def pause(seconds):
    threading.Event().wait(seconds)


def until(condition, running, what, deadline=600):
    end = time.monotonic() + deadline
    while not condition():
        if running.process.poll() is not None or time.monotonic() > end:
            sys.exit(f"{what}\n{running.output.read_text(errors='replace')[-3000:]}")
        pause(0.05)


def drained(subject, row, log, place, environment=None):
    """(CPU seconds, peak MB, records) of one agent that sends the whole log."""
    receiver = Receiver()
    running = Running(subject, row, log.path, receiver.port, place, environment=environment)
    try:
        until(lambda: receiver.counts()["ended"], running, f"{subject.name} did not send the whole log")
        cpu, peak, counts = running.cpu(), running.memory("VmHWM"), receiver.counts()
        if subject.name == "Outrider" and row in ("bulk", "store") and counts["records"] != log.lines:
            sys.exit(f"Outrider sent {counts['records']} records for {log.lines} lines")
        return cpu, peak, counts["records"]
    finally:
        running.stop()
        receiver.stop()
        shutil.rmtree(place, ignore_errors=True)


def idle(subject, place):
    receiver = Receiver()
    log = place.parent / "idle.log"
    log.write_bytes(b"")
    running = Running(subject, "bulk", log, receiver.port, place)
    try:
        pause(3)
        return running.memory()
    finally:
        running.stop()
        receiver.stop()
        shutil.rmtree(place, ignore_errors=True)


def rated(subject, place, lines, seconds, rate=10_000):
    """Percent of a core at a constant rate of lines."""
    receiver = Receiver()
    log = place.parent / "rate.log"
    with open(log, "wb", buffering=0) as out:
        running = Running(subject, "bulk", log, receiver.port, place)
        try:
            pause(2)
            source, started, began, cpu = iter(lines), time.monotonic(), None, 0
            for turn in range((seconds + 2) * 20):
                out.write(b"".join(next(source) for _ in range(rate // 20)))
                if turn == 40:
                    began, cpu = time.monotonic(), running.cpu()
                pause(max(0, started + (turn + 1) / 20 - time.monotonic()))
            share = 100 * (running.cpu() - cpu) / (time.monotonic() - began)
            out.write(generate.END.encode() + b"\n")
            until(lambda: receiver.counts()["ended"], running, f"{subject.name} did not send every line", 60)
            return share
        finally:
            running.stop()
            receiver.stop()
            shutil.rmtree(place, ignore_errors=True)


def allocations(subject, row, log, place):
    """Calls of malloc and its like, a record, between a short and a long log: what starting takes is in both."""
    library, counter = place.parent / "allocations.so", place.parent / "allocations"
    source = pathlib.Path(__file__).parent / "allocations.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    marks = []
    for number, share in enumerate((log.short, log)):
        counter.write_bytes(struct.pack("q", 0))
        _, _, records = drained(
            subject, row, share, place.parent / f"{place.name}-{number}",
            {"LD_PRELOAD": str(library), "ALLOCATIONS": str(counter)})
        with open(counter, "r+b") as file, mmap.mmap(file.fileno(), 8) as view:
            marks.append((struct.unpack("q", view[:8])[0], records))
    (few, first), (many, last) = marks
    if many == 0:
        sys.exit("no allocations were counted: the library was not loaded")
    return (many - few) / (last - first)


class Log:
    def __init__(self, path, megabytes, seed, short=None):
        self.path, self.short = path, short
        self.lines, self.size = generate.write(path, megabytes, seed)


def measure(options, subjects, place):
    log = Log(place / "bench.log", options.megabytes, options.seed)
    rows = options.rows.split(",")
    speeds, peaks, shares, resident = {}, {}, {}, {}
    number = 0
    for turn in range(options.rotations):
        for row in rows:
            for subject in subjects:
                if row not in subject.rows:
                    continue
                number += 1
                key, spot = (row, subject.name), place / f"run{number}"
                print(f"rotation {turn + 1}: {row}: {subject.name}", file=sys.stderr, flush=True)
                if row == "idle":
                    resident.setdefault(key, []).append(idle(subject, spot))
                elif row == "rate":
                    lines = generate.block(options.seed, 4_000_000).splitlines(keepends=True)
                    lines *= 10_000 * (options.seconds + 3) // len(lines) + 1
                    shares.setdefault(key, []).append(rated(subject, spot, lines, options.seconds))
                else:
                    cpu, peak, _ = drained(subject, row, log, spot)
                    speeds.setdefault(key, []).append(log.size / 1e6 / cpu)
                    peaks.setdefault(key, []).append(peak)
    counted = {}
    if options.allocations:
        size = min(options.megabytes, 120)
        small = Log(place / "small.log", size, options.seed, Log(place / "short.log", size / 4, options.seed))
        for row in [row for row in rows if row in ("bulk", "full", "patterns", "store")]:
            print(f"allocations: {row}", file=sys.stderr, flush=True)
            counted[row] = allocations(subjects[0], row, small, place / f"counted-{row}")
    return speeds, peaks, shares, resident, counted


def table(rows, subjects, speeds, peaks, shares, resident, counted):
    median = statistics.median
    lines = ["| Row | " + " | ".join(s.name for s in subjects) + " |", "| --- |" + " --- |" * len(subjects)]
    for row in rows:
        cells = []
        for subject in subjects:
            key = (row, subject.name)
            if key in speeds:
                cells.append(f"{median(speeds[key]):.0f} MB/s ({max(peaks[key]):.0f} MB)")
            elif key in shares:
                cells.append(f"{median(shares[key]):.1f} %")
            elif key in resident:
                cells.append(f"{median(resident[key]):.0f} MB")
            else:
                cells.append("–")
        lines.append(f"| {ROWS[row]} | " + " | ".join(cells) + " |")
    lines += ["", "MB/s of CPU time on one core (peak resident memory)."]
    lines += [f"Outrider's allocations a record, {ROWS[row]}: {value:.4f}" for row, value in counted.items()]
    return "\n".join(lines)


def missed(speeds, peaks, shares, resident, counted):
    """What Outrider does not reach."""
    median, name = statistics.median, "Outrider"
    problems = []
    for row, value in counted.items():
        if row in ("bulk", "full") and value > LIMITS["allocations"]:
            problems.append(f"{row}: {value:.3f} allocations a record, more than {LIMITS['allocations']}")
    for row in ("bulk", "full"):
        if (row, name) in speeds and median(speeds[row, name]) < LIMITS[row]:
            problems.append(f"{row}: {median(speeds[row, name]):.0f} MB/s, less than {LIMITS[row]}")
        if (row, name) in peaks and ("idle", name) in resident:
            added = max(peaks[row, name]) - median(resident["idle", name])
            if added > LIMITS["added"]:
                problems.append(f"{row}: {added:.0f} MB above idle, more than {LIMITS['added']}")
    if ("rate", name) in shares and median(shares["rate", name]) > LIMITS["rate"]:
        problems.append(f"rate: {median(shares['rate', name]):.1f} % of a core, more than {LIMITS['rate']}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--megabytes", type=float, default=1000, help="of the log")
    parser.add_argument("--rotations", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of the row `rate`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="agents, by the first letters of their names")
    parser.add_argument("--fluent-bit", help="path of its binary")
    parser.add_argument("--no-allocations", dest="allocations", action="store_false")
    parser.add_argument("--check", action="store_true", help="ends with 1 when a limit is missed")
    options = parser.parse_args()
    if unknown := set(options.rows.split(",")) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    subjects = [Outrider(os.environ.get("OUTRIDER", str(ROOT / "dist/outrider"))), Rsyslog(), Collector()]
    if options.fluent_bit:
        subjects.append(FluentBit(options.fluent_bit))
    wanted = [word.lower() for word in options.only.split(",") if word]
    subjects = [s for s in subjects if s.name == "Outrider" or not wanted or s.name.lower().startswith(tuple(wanted))]
    with tempfile.TemporaryDirectory(prefix="bench-logs-") as directory:
        results = measure(options, subjects, pathlib.Path(directory))
    print(table(options.rows.split(","), subjects, *results))
    problems = missed(*results)
    for problem in problems:
        print(f"missed: {problem}")
    if options.check and problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
