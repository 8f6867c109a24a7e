"""A server pinned to a core: its start, its CPU time, its memory, its end."""

import collections
import glob
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROXY_CORE, LOAD_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")
BODY = "x" * 99 + "\n"
# What a proxy is started under; steady.py puts a counting tool here.
WRAPPER = []
# A proxy that puts the wrapper around its serving process itself.
SELF_WRAPPING = {"Outrider"}

# What a proxy accepts ("http1", "tls", "http2" in clear text by prior knowledge, "tcp") and speaks to its upstream; with
# `features` it also has routes, retries, outlier detection over two endpoints, and an access record of each request.
Shape = collections.namedtuple("Shape", "accepts speaks features", defaults=[False])
# KiB of a process tree: resident, and what it shares with nobody (Private_Clean + Private_Dirty of smaps_rollup).
Memory = collections.namedtuple("Memory", "resident private")


class NotSupported(Exception):
    """A proxy cannot do what a row asks for; the text says why."""


def command(name, way_out="run dev/setup.sh bench"):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return found or sys.exit(f"'{name}' is not installed: {way_out}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, accepts):
    """What is wrong with the answer on `port`, or None when it is the upstream's."""
    scheme = "https" if accepts == "tls" else "http"
    version = "--http2-prior-knowledge" if accepts == "http2" else "--http1.1"
    asked = subprocess.run(
        [command("curl"), "-sS", "-k", version, "--noproxy", "*", "--max-time", "2", "-w", "\n%{http_code}",
         f"{scheme}://127.0.0.1:{port}/"],
        capture_output=True, timeout=10)
    if asked.returncode:
        return asked.stderr.decode(errors="replace").strip() or f"curl ended with {asked.returncode}"
    body, _, status = asked.stdout.rpartition(b"\n")
    return None if (status, body) == (b"200", BODY.encode()) else f"status {status.decode()} with {len(body)} bytes"


class Server:
    """A process pinned to a core, that answers on `port`; NotSupported when `optional` and it does not."""

    def __init__(self, name, core, port, argv, directory, accepts="http1", optional=False):
        self.name, self.port, self.accepts = name, port, accepts
        log = open(directory / "log", "wb")
        wrapper = WRAPPER if core == PROXY_CORE and name not in SELF_WRAPPING else []
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *wrapper, *map(str, argv)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory)
        log.close()
        try:
            self.await_reply(directory / "log", optional)
        except BaseException:
            self.stop()
            raise
        self.idle_memory = self.memory()

    def await_reply(self, log, optional):
        pause, problem = threading.Event(), None
        end = time.monotonic() + (5 if optional else 30)
        while time.monotonic() < end and self.process.poll() is None:
            problem = ask(self.port, self.accepts)
            if problem is None:
                return
            pause.wait(0.1)
        if self.process.poll() is not None:
            problem = f"it ended with {self.process.returncode}"
        if optional:
            raise NotSupported(f"no reply to a request by {self.accepts}: {problem}")
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
        """Memory of the tree, without the stand-in for an app."""
        resident = private = 0
        for pid in self.tree():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                    continue
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            sizes = {key: int(size) for key, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
            resident += sizes.get("Rss", 0)
            private += sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
        return Memory(resident, private)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
