"""`outrider run` as the parent of a program: exit codes, signals, streams, restarts of the worker."""

import json
import os
import signal
import sys
import threading

import pytest

import rig
from rig import numbers, wait_until


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)])
def test_exit_code_passes_through(start, script, code):
    assert start({}, ["sh", "-c", script]).wait() == code


def test_works_without_any_configuration_file(place, ending):
    process = rig.Outrider(place, None, ["sh", "-c", "echo line-1-out; echo line-2-err >&2; exit 5"])
    ending.append(process)
    assert process.wait() == 5
    assert sorted(numbers(rig.logs_of(process.state))) == [1, 2]


def test_app_not_found_is_127_and_named(start):
    process = start({}, ["no-such-program-anywhere"])
    assert process.wait() == 127
    assert "no-such-program-anywhere" in process.stderr


def test_app_not_executable_is_126(start, place):
    (place / "plain").write_text("not a program")
    process = start({}, [str(place / "plain")])
    assert process.wait() == 126
    assert "plain" in process.stderr


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_reach_the_app(start, python_app, number):
    process = start({}, python_app("talker.py", 1, "stay"))
    process.wait_logs(lambda lines: any("talker-done" in l for l in lines), "the app to have started")
    process.send(number)
    process.wait_logs(lambda lines: any(f"signal-{int(number)}-seen" in l for l in lines), "the app's note of it")
    assert process.stop() == 0


def test_term_stops_the_app_and_keeps_its_last_line(start, python_app):
    process = start({}, python_app("talker.py", 10, "stay")).wait_ready()
    process.wait_logs(lambda lines: any("talker-done" in l for l in lines), "the app to have started")
    assert process.stop() == 0
    lines = rig.logs_of(process.state)
    assert sorted(numbers(lines)) == list(range(10))
    assert sum("signal-15-seen" in line for line in lines) == 1


def test_app_that_ignores_term_is_killed_at_the_end_of_its_grace(start):
    process = start(
        {"app": {"stop": {"grace": "1s"}}}, ["sh", "-c", "trap '' TERM; echo line-1-on; while :; do sleep 1; done"])
    process.wait_logs(lambda lines: numbers(lines) == [1], "the app to have started")
    process.send(signal.SIGTERM)
    assert process.wait(30) == 137


def test_interrupt_from_the_terminal_ends_it(start, python_app):
    process = start({}, python_app("talker.py", 1, "stay")).wait_ready()
    process.wait_logs(lambda lines: lines, "the app's first line")
    assert process.stop(signal.SIGINT) == 0


def test_orphans_are_reaped(start, place):
    script = f"(sleep 0.1 & echo $! > {place}/orphan) ; exec sleep 60"
    process = start({}, ["sh", "-c", script]).wait_ready()
    orphan = int(wait_until(lambda: (place / "orphan").exists() and (place / "orphan").read_text(), "the orphan"))
    wait_until(lambda: not os.path.exists(f"/proc/{orphan}"), "the orphan to be reaped")
    process.stop()


def test_worker_is_a_visible_child(start):
    process = start({}, ["sleep", "60"]).wait_ready()
    assert rig.command_line(process.worker())[1] == "worker"
    assert process.app() is not None and process.app() != process.worker()
    process.stop()


def test_unterminated_last_line_is_a_record(start):
    process = start({}, ["sh", "-c", "printf line-7-tail"])
    assert process.wait() == 0
    assert numbers(rig.logs_of(process.state)) == [7]


def test_restart_policy_on_failure(start, place):
    script = f"echo x >> {place}/runs; test $(wc -l < {place}/runs) -ge 3"
    process = start({"app": {"restart": "on-failure"}}, ["sh", "-c", script])
    assert process.wait(90) == 0
    assert (place / "runs").read_text() == "x\n" * 3


def test_killed_worker_loses_no_line_and_the_app_goes_on(start, python_app):
    process = start({}, python_app("talker.py", 20000, 4000, "stay")).wait_ready()
    app = process.app()
    for _ in range(3):
        worker = wait_until(process.worker, "a worker")
        seen = max(numbers(process.logs()[-50:]), default=0)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: process.worker() not in (None, worker), "a new worker")
        process.wait_ready()
        wait_until(lambda: max(numbers(process.logs()[-50:]), default=0) > seen, "new lines in the store")
    assert process.app() == app
    process.wait_logs(lambda lines: any("talker-done" in l for l in lines), "the end of the app's lines")
    found = numbers(process.logs())
    assert sorted(set(found)) == list(range(20000)), "lines are missing"
    assert process.stop() == 0


def test_killed_worker_under_load_refuses_no_connection(start, python_app):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}},
        python_app("web.py", app_port)).wait_ready()
    app, refused, answered, over = process.app(), [], [], threading.Event()

    def client():
        while not over.is_set():
            try:
                answered.append(rig.request(port, "/", timeout=30).status)
            except ConnectionRefusedError as error:
                refused.append(error)
            except (OSError, rig.http.client.HTTPException):
                pass  # a connection that the dead worker held may break; only refusal is forbidden

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        for _ in range(3):
            worker = wait_until(process.worker, "a worker")
            before = len(answered)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: process.worker() not in (None, worker), "a new worker")
            wait_until(lambda: len(answered) > before + 20, "answers after the kill")
    finally:
        over.set()
        for thread in clients:
            thread.join(40)
    assert not refused
    assert set(answered) == {200}
    assert process.app() == app and process.is_running
    process.stop()


def test_inbound_opens_only_when_the_app_is_ready(start, python_app, place):
    app_port, port = rig.free_port(), rig.free_port()
    gate = place / "gate"
    process = start(
        {"app": {"port": app_port, "ready": {"exec": ["test", "-e", str(gate)], "interval": "100ms"}},
         "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}}, python_app("web.py", app_port))
    process.wait_ready("/readyz/outbound")
    wait_until(lambda: rig.status_of(app_port) == 200, "the app itself")
    assert rig.status_of(process.socket, "/readyz") == 503
    gate.touch()
    process.wait_ready()
    assert rig.status_of(port) == 200
    process.stop()


def test_app_never_ready_says_what_it_waits_for(start):
    process = start({"app": {"port": rig.free_port(), "ready": {"tcp": True, "deadline": "2s"}}}, ["sleep", "60"])
    assert process.wait() != 0
    assert "ready" in process.stderr


def test_as_process_1_it_reaps_forwards_and_passes_the_exit_code(place, ending):
    """As a container's entry point: a process namespace of its own, where it is PID 1."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    script = "(sleep 0.2 &); sleep 1; ps -e -o stat= | grep -c '^Z'; exit 3"
    process = rig.Outrider(place, {"admin": {"listen": "127.0.0.1:0"}}, ["sh", "-c", script], wrap=namespace)
    ending.append(process)
    assert process.wait() == 3
    texts = [json.loads(line) for line in rig.logs_of(process.state)]
    assert any("0" in map(str, record.values()) for record in texts), f"a zombie was left: {texts}"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGUSR1, None)])
def test_as_process_1_signals_reach_the_app(place, ending, python_app, number, code):
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    process = rig.Outrider(
        place, {"admin": {"listen": "127.0.0.1:0"}}, python_app("talker.py", 1, "stay"), wrap=namespace)
    ending.append(process)
    process.wait_logs(lambda lines: any("talker-done" in line for line in lines), "the app to have started")
    first = rig.children(process.pid)[0]
    os.kill(first, number)
    if code is None:
        process.wait_logs(lambda lines: any(f"signal-{int(number)}-seen" in l for l in lines), "the app's note of it")
        os.kill(first, signal.SIGTERM)
    assert process.wait() == (code or 0)
