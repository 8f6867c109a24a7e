"""`outrider upgrade`: another binary in the sidecar's place, while the app, its connections and its log lines go on."""

import json
import os
import re
import shutil
import signal
import sys

import pytest

import rig
from rig import numbers, wait_until


def upgrade(process, *arguments):
    result = rig.run("upgrade", "--state", process.state, "--output", "json", *arguments, timeout=180)
    return result.returncode, json.loads(result.stdout)


def status(process):
    return process.admin("/status").json


def settled(process):
    """The former worker has ended, and the supervisor is the new program."""
    return len(workers(process)) == 1


def workers(process):
    return [pid for pid in rig.children(process.pid) if "worker" in rig.command_line(pid)[1:2]]


def script(place, name, text):
    path = place / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def metric(process, start):
    """The sum of every series that begins so."""
    found = re.findall(rf"^{re.escape(start)}.* (\S+)$", process.admin("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


@pytest.fixture
def web(start, python_app):
    app_port, port = rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz"}}, "inbound": {"web": {"listen": f"127.0.0.1:{port}"}}},
        python_app("web.py", app_port)).wait_ready()
    process.port = port
    return process


def test_the_worker_and_the_supervisor_are_replaced_and_the_app_stays(web):
    app, worker, pid = web.app(), web.worker(), web.pid
    assert rig.status_of(web.port) == 200
    requests = 'outrider_http_requests_total{direction="inbound"'
    assert metric(web, requests) == 1
    code, answer = upgrade(web)
    assert (code, answer["outcome"]) == (0, "succeeded"), answer
    now = status(web)
    assert now["generation"] == 2 and now["upgrades"] == {"succeeded": 1, "failed": 0, "reverted": 0}
    assert now["app"]["pid"] == app and now["app"]["ready"] and now["pid"] != worker
    assert rig.status_of(web.socket, "/readyz") == 200
    assert rig.status_of(web.port) == 200
    wait_until(lambda: "the supervisor is version" in web.stderr, "the supervisor to be replaced")
    assert web.is_running and web.app() == app and workers(web) == [now["pid"]]
    assert metric(web, 'outrider_upgrades_total{outcome="succeeded"}') == 1
    assert metric(web, requests) == 2, "what the former worker counted is not kept"
    assert "worker 2 of this run" in rig.run("status", "--state", web.state).stdout
    assert rig.status_of(web.port) == 200
    assert web.stop() == 0
    lines = rig.logs_of(web.state)
    assert sorted(numbers(lines)) == [0, 1, 2]


def test_a_worker_killed_after_an_upgrade_is_replaced_by_the_new_supervisor(web):
    assert upgrade(web)[0] == 0
    wait_until(lambda: "the supervisor is version" in web.stderr, "the supervisor to be replaced")
    app, worker = web.app(), web.worker()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: web.worker() not in (None, worker), "a new worker")
    web.wait_ready()
    assert rig.status_of(web.port) == 200 and web.app() == app
    assert status(web)["upgrades"]["reverted"] == 1


@pytest.mark.parametrize("name, text, reason", [
    ("crash", "#!/bin/sh\nexit 3\n", "exited with code 3"),
    ("hang", "#!/bin/sh\nexec sleep 600\n", "did not come up in time"),
    ("other", f"#!{sys.executable}\nimport os, struct\n"
     "os.write(3, struct.pack('<IBBI', 4, 1, 0, 99))\nos.read(3, 1)\n", "handover version 99"),
    ("closes", "#!/bin/sh\nexec 3>&-\nexec sleep 600\n", "channel ended"),
])
def test_a_binary_that_does_not_come_up_changes_nothing(web, place, name, text, reason):
    app, worker = web.app(), web.worker()
    code, answer = upgrade(web, "--binary", script(place, name, text), "--timeout", "3s" if name == "hang" else "60s")
    assert (code, answer["outcome"]) == (1, "failed")
    assert reason in answer["message"], answer
    assert web.worker() == worker and web.app() == app
    assert status(web)["upgrades"] == {"succeeded": 0, "failed": 1, "reverted": 0}
    assert rig.status_of(web.port) == 200
    wait_until(lambda: settled(web), "the failed worker to be gone")


def test_a_binary_that_fails_after_the_handing_over_is_followed_by_the_former_one(web, place):
    """It says what a new worker says until it is given what the present one knows, and ends."""
    app = web.app()
    assert rig.status_of(web.port) == 200
    liar = script(place, "liar", f"""#!{sys.executable}
import os, struct
os.write(3, struct.pack("<IBBI", 4, 1, 0, 1) + struct.pack("<IBBI", 5, 19, 0, 1) + b"9")
os.read(3, 1)
os._exit(5)
""")
    code, answer = upgrade(web, "--binary", liar)
    assert (code, answer["outcome"]) == (1, "failed") and "exited with code 5" in answer["message"], answer
    assert web.app() == app
    now = status(web)
    assert now["generation"] == 2 and now["upgrades"] == {"succeeded": 0, "failed": 1, "reverted": 0}
    assert rig.status_of(web.port) == 200
    assert web.stop() == 0
    assert sorted(numbers(rig.logs_of(web.state))) == [0, 1]


def test_a_binary_that_dies_after_it_serves_is_taken_back(web, place):
    app = web.app()
    text = f"#!/bin/sh\ncase \"$1\" in worker) export OUTRIDER_DOOMED=1;; esac\nexec {rig.binary()} \"$@\"\n"
    assert upgrade(web, "--binary", script(place, "doomed", text))[0] == 0
    worker = status(web)["pid"]

    def doomed(pid):
        return b"OUTRIDER_DOOMED=1" in open(f"/proc/{pid}/environ", "rb").read()

    assert doomed(worker)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: web.worker() not in (None, worker), "a worker of the former binary")
    web.wait_ready()
    now = status(web)
    assert not doomed(now["pid"]) and now["upgrades"] == {"succeeded": 1, "failed": 0, "reverted": 1}
    assert rig.status_of(web.port) == 200 and web.app() == app


def test_upgrade_of_nothing_and_of_a_missing_file(place, web):
    result = rig.run("upgrade", "--state", place / "none")
    assert result.returncode == 1 and "no sidecar runs" in result.stderr
    result = rig.run("upgrade", "--state", web.state, "--binary", place / "missing")
    assert result.returncode == 64 and "missing" in result.stderr
    (place / "plain").write_text("not a program")
    code, answer = upgrade(web, "--binary", str(place / "plain"))
    assert code == 1 and "plain" in answer["message"]
    assert rig.request(web.socket, "/upgrade?binary=relative", "POST").status == 400


def test_a_replaced_file_does_not_matter(web, place):
    """The program is taken from the file that was opened, whatever stands at its path later."""
    copy = place / "copy"
    shutil.copyfile(rig.binary(), copy)
    copy.chmod(0o755)
    assert upgrade(web, "--binary", str(copy))[0] == 0
    copy.unlink()
    wait_until(lambda: "the supervisor is version" in web.stderr, "the supervisor to be replaced")
    worker = web.worker()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: web.worker() not in (None, worker), "a new worker")
    web.wait_ready()
    assert rig.status_of(web.port) == 200
