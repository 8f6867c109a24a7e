"""Out of descriptors, memory, disk and processes: it says so, keeps what it has, and recovers."""

import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import uuid

import pytest

import rig
from rig import numbers, wait_until


def shop(start, python_app, wrap=(), **more):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"tcp": True}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}, **more},
        python_app("steady.py", app_port, 100), wrap=wrap).wait_ready()
    process.port, process.app_port = port, app_port
    return process


def all_lines(process):
    """Stops it; every line that the app wrote must be there."""
    assert process.stop() == 0
    lines = rig.logs_of(process.state)
    wrote = int(re.search(r"writer-wrote-(\d+)-", "\n".join(lines))[1])
    assert set(numbers(lines)) == set(range(wrote))


@contextlib.contextmanager
def control_group(controller):
    """A group of that controller, version 2 or 1; None where this user may make none."""
    for root, word in (("/sys/fs/cgroup", 2), (f"/sys/fs/cgroup/{controller}", 1)):
        root = pathlib.Path(root)
        if word == 2 and controller not in (
                (root / "cgroup.subtree_control").read_text() if (root / "cgroup.subtree_control").exists() else ""):
            continue
        group = root / f"outrider-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        group_limit = {("memory", 2): "memory.max", ("memory", 1): "memory.limit_in_bytes"}.get((controller, word), "pids.max")
        try:
            yield group, group / group_limit
        finally:
            wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
            group.rmdir()
        return
    yield None, None


def inside(group):
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]


def test_out_of_descriptors(start, python_app):
    process = shop(start, python_app, wrap=["prlimit", "--nofile=128:128"])
    worker = process.worker()
    kept = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)
    kept.request("GET", "/")
    assert kept.getresponse().read() == b"ok"
    crowd = []
    try:
        for _ in range(300):
            crowd.append(socket.create_connection(("127.0.0.1", process.port), timeout=5))
        wait_until(lambda: "cannot accept connections: too many open files" in process.stderr, "the line that says so")
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"ok", "a connection that stands must go on"
    finally:
        for connection in crowd:
            connection.close()
    wait_until(lambda: rig.status_of(process.port, timeout=5) == 200, "service to come back")
    assert process.worker() == worker
    all_lines(process)


def test_load_is_shed_while_memory_is_short(start, python_app):
    """By the limit of the process' data: it is moved below what is in use, and back."""
    plenty = 16 << 30
    process = shop(start, python_app, wrap=["prlimit", f"--data={plenty}"])
    worker = process.worker()

    def limit(share):
        status = pathlib.Path(f"/proc/{worker}/status").read_text()
        used = 1024 * int(re.search(r"VmData:\s+(\d+)", status)[1])
        soft = plenty if share is None else int(used / share)
        subprocess.run(["prlimit", "--pid", str(worker), f"--data={soft}:{plenty}"], check=True)

    assert rig.request(process.port).body == b"ok"
    limit(0.93)
    answer = wait_until(
        lambda: (lambda reply: reply if reply.status == 503 else None)(rig.request(process.port)), "503")
    assert "overload" in answer.text and answer.headers["Connection"] == "close"
    assert "error=proxy_internal_error" in answer.headers["Proxy-Status"]
    assert "new inbound requests get 503" in process.stderr
    assert 'outrider_overload_refused_total{direction="inbound"}' in process.admin("/metrics").text
    limit(None)
    wait_until(lambda: rig.status_of(process.port) == 200, "service to come back")
    assert "new requests are served again" in process.stderr
    assert process.worker() == worker
    all_lines(process)


def test_slow_readers_do_not_fill_the_memory(start, python_app):
    process = shop(start, python_app, wrap=["prlimit", f"--data={16 << 30}"])
    worker, readers, size = process.worker(), [], 4 << 20
    for _ in range(5):
        rig.request(process.port, f"/bytes/{size}")
    before = rig.private_memory(worker)
    try:
        for _ in range(60):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(20)
            reader.connect(("127.0.0.1", process.port))
            reader.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
            assert reader.recv(12) == b"HTTP/1.1 200"
            readers.append(reader)
        assert rig.request(process.port).body == b"ok"
        grown = rig.private_memory(worker) - before
        # 256 KiB wait for each, and what was being read when that was full.
        assert grown < 60 * (1 << 20), f"{grown >> 20} MiB for 60 readers of {size >> 20} MiB"
    finally:
        for reader in readers:
            reader.close()
    assert process.worker() == worker
    all_lines(process)


def test_under_a_limit_of_the_control_group(start, python_app):
    """The app takes the memory that the pod has; the sidecar turns requests away before the kernel ends somebody."""
    with control_group("memory") as (group, limit):
        if group is None:
            pytest.skip("this user may make no control group for memory; the limit of the process is tested above")
        size = 400 << 20
        limit.write_text(str(size))
        process = shop(start, python_app, wrap=inside(group))
        worker, app = process.worker(), process.app()
        assert rig.request(process.port).body == b"ok"

        def share():
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines() if len(line.split()) == 2)
            usage = group / ("memory.current" if (group / "memory.current").exists() else "memory.usage_in_bytes")
            return (int(usage.read_text()) - int(stat["inactive_file"]) - int(stat["active_file"])) / size

        megabytes = int((0.935 - share()) * size) >> 20
        assert rig.request(process.app_port, f"/hold/{megabytes}", timeout=60).status == 200
        wait_until(lambda: rig.status_of(process.port) == 503, f"503; in use {share():.2f}")
        assert rig.request(process.app_port, "/hold/0", timeout=60).status == 200
        wait_until(lambda: rig.status_of(process.port) == 200, f"service; in use {share():.2f}")
        assert (process.worker(), process.app()) == (worker, app), "somebody was ended"
        all_lines(process)


def test_out_of_processes(start, python_app):
    with control_group("pids") as (group, limit):
        if group is None:
            pytest.skip("this user may make no control group for processes")
        process = shop(start, python_app, wrap=inside(group))
        app, worker = process.app(), process.worker()
        limit.write_text("1")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "cannot start the worker" in process.stderr, "the line that says so")
        with socket.create_connection(("127.0.0.1", process.port), timeout=40) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            limit.write_text("max")
            assert waiting.recv(12) == b"HTTP/1.1 200", "who waited must be served"
        process.wait_ready()
        assert process.app() == app
        all_lines(process)


def test_out_of_disk(start, python_app, place):
    state = place / "state"
    state.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", state], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this user may mount no small disk")
    try:
        process = shop(start, python_app, logs={"spool": {"limit": "64MiB"}, "sinks": {"store": {"store": {"keep": "64MiB"}}}})
        worker = process.worker()
        process.wait_logs(lambda lines: len(numbers(lines)) > 20, "the first lines")
        filler = state / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        wait_until(lambda: "o space left" in process.stderr, "the line that says so")
        assert rig.status_of(process.port) == 200, "traffic must not wait for the disk"
        seen = max(numbers(process.logs()), default=0)
        filler.unlink()
        process.wait_logs(lambda lines: max(numbers(lines), default=0) > seen + 50, "new lines")
        assert process.worker() == worker
        all_lines(process)
        process.process.wait()
    finally:
        subprocess.run(["umount", "-l", state], check=True)
