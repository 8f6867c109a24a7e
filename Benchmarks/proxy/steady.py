"""What a proxied request costs in things that can be counted: user instructions, allocations and system calls.

    python3 Benchmarks/proxy/steady.py [--only outrider,haproxy,nginx] [--seconds 3] [--check]

Times differ between machines and hours; these counts hardly do, so thresholds stand on them. Instructions are counted
by callgrind between two marks, with the proxy warmed before; system calls by `strace -c` on the running proxy. The
load is that of compare.py: 64 kept-alive connections, seven request fields, a reply of 100 bytes.
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

import load
import server as servers
from peers import STARTERS, nginx
from server import Shape, command

SHAPE = Shape("http1", "http1")
# What Outrider has to stay under, a request.
LIMITS = {"instructions": 40_000, "allocations": 0.5, "calls": 4.5}


def loaded(proxy, seconds, directory):
    """The number of requests that a burst completed."""
    return load.burst(proxy, seconds, load.wrk, directory, 64)["count"]


def call(*arguments):
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def counted(name, upstream, directory, seconds):
    """User instructions and allocations a request, over the whole process tree.

    The difference of a long and a short burst: what opening the 64 connections takes is in both.
    """
    pattern = directory / "callgrind.%p"
    servers.WRAPPER = [
        command("valgrind"), "--tool=callgrind", "--trace-children=yes", "--quiet",
        "--compress-strings=no", f"--callgrind-out-file={pattern}"]
    try:
        server = STARTERS[name](SHAPE, upstream.port, directory / f"{name}-instructions")
    finally:
        servers.WRAPPER = []
    try:
        loaded(server, seconds, directory)
        traced = [pid for pid in server.tree() if callgrind_runs(pid)]
        marks = []
        for length in (1, seconds + 2):
            for path in directory.glob("callgrind.*"):
                path.unlink()
            for pid in traced:
                call("callgrind_control", "-z", pid)
            count = loaded(server, length, directory)
            for pid in traced:
                call("callgrind_control", "-d", pid)
            texts = [path.read_text() for pid in traced for path in directory.glob(f"callgrind.{pid}.*")]
            marks.append((count, sum(map(total, texts)), sum(map(allocations, texts))))
        (short, *low), (long, *high) = marks
        return [(b - a) / (long - short) for a, b in zip(low, high)]
    finally:
        server.stop()


def callgrind_runs(pid):
    try:
        return b"--tool=callgrind" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def total(text):
    """Instructions of a dump that callgrind wrote when asked."""
    return sum(int(n) for n in re.findall(r"^(?:totals|summary): (\d+)", text, re.M)[:1])


def allocations(text):
    """Calls of the C library's allocating functions from outside of it."""
    names = r"malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|memalign"
    found = re.findall(rf"^cob=[^\n]*libc[^\n]*\n(?:cf[il]=[^\n]*\n)?cfn=(?:{names})\ncalls=(\d+)", text, re.M)
    return sum(map(int, found))


def watch(stream, attached):
    """Reads what strace says to its end; sets `attached` when it has taken hold."""
    for line in stream:
        if "attached" in line:
            attached.set()


def calls(name, upstream, directory, seconds):
    """System calls a request, over the whole process tree."""
    server = STARTERS[name](SHAPE, upstream.port, directory / f"{name}-calls")
    try:
        loaded(server, 1, directory)
        output = directory / f"{name}.strace"
        targets = [word for pid in server.tree() for word in ("-p", str(pid))]
        tracer = subprocess.Popen(
            [command("strace"), "-f", "-c", "-o", str(output), *targets],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        attached = threading.Event()
        threading.Thread(target=watch, args=(tracer.stderr, attached), daemon=True).start()
        if not attached.wait(10):
            tracer.kill()
            sys.exit("strace could not attach: run as root, or set kernel.yama.ptrace_scope to 0")
        count = loaded(server, seconds, directory)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        made = re.search(r"^100\.00\s+\S+\s+\S*\s+(\d+)(?:\s+\d+)?\s+total$", output.read_text(), re.M)
        return int(made.group(1)) / count
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="outrider,haproxy,nginx")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit 1 when Outrider is over a limit")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server is ended
    missed = 0
    print("| Proxy | user instructions/request | allocations/request | system calls/request |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="outrider-steady-") as path:
        directory = pathlib.Path(path)
        upstream = nginx.start_upstream(directory / "upstream")
        try:
            for name in options.only.split(","):
                instructions, allocated = counted(name, upstream, directory, options.seconds)
                found = {
                    "instructions": instructions, "allocations": allocated,
                    "calls": calls(name, upstream, directory, options.seconds)}
                print(f"| {name} | {found['instructions']:,.0f} | {max(0, found['allocations']):.2f} "
                      f"| {found['calls']:.2f} |", flush=True)
                for key, limit in LIMITS.items():
                    if name == "outrider" and options.check and found[key] > limit:
                        missed += 1
                        print(f"MISSED: {found[key]:.1f} {key} a request, limit {limit}", file=sys.stderr)
        finally:
            upstream.stop()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
