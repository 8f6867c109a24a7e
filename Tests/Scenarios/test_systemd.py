"""systemd: the units that are shipped, and what the sidecar says to a service manager."""

import array
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

import rig
from rig import wait_until

UNITS = rig.ROOT / "deploy" / "systemd"


@pytest.fixture
def unit_directory(place):
    """The shipped units as they would be installed for an app `shop`, with the tested binary."""
    directory = place / "units"
    directory.mkdir()
    for path in [*UNITS.glob("*.service"), *UNITS.glob("*.socket")]:
        (directory / path.name).write_text(path.read_text().replace("/usr/bin/outrider", rig.binary()))
    (directory / "shop.service").write_text("[Service]\nExecStart=/bin/true\n")
    shutil.copytree(UNITS / "app.service.d", directory / "shop.service.d")
    return directory


def analyze(directory, *arguments):
    return subprocess.run(
        [rig.tool("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=rig.DEADLINE,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:", "SYSTEMD_COLORS": "0"})


INSTANCES = ["outrider@shop.service", "outrider@shop.socket", "outrider-sidecar@shop.service", "shop.service"]


def test_systemd_has_nothing_to_say_about_the_units(unit_directory):
    result = analyze(unit_directory, "verify", *INSTANCES)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    # The check itself checks: a key that does not exist is spoken of.
    unit = unit_directory / "outrider@.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchdogSeconds"))
    assert "WatchdogSeconds" in analyze(unit_directory, "verify", *INSTANCES).stderr


@pytest.mark.parametrize("name", ["outrider@.service", "outrider-sidecar@.service"])
def test_the_sandbox_is_tight(unit_directory, name):
    unit = unit_directory / name.replace("@", "@shop")
    shutil.copy(unit_directory / name, unit)
    result = analyze(unit_directory, "security", "--offline=true", "--no-pager", "--threshold=25", unit)
    assert result.returncode == 0, result.stdout[-2000:]
    assert re.search(r"Overall exposure level.*: [12]\.\d", result.stdout)


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, place):
        self.path = place / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.messages, self.descriptors = [], {}

    def read(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 16))
            except BlockingIOError:
                return self.messages
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            numbers = array.array("i")
            for _, kind, content in ancillary:
                assert kind == socket.SCM_RIGHTS
                numbers.frombytes(content[:len(content) - len(content) % numbers.itemsize])
            if "FDSTORE" in fields:
                assert len(numbers) == 1
                self.descriptors[fields["FDNAME"]] = numbers[0]
            self.messages.append(fields)

    def has(self, **wanted):
        return any(all(message.get(key) == value for key, value in wanted.items()) for message in self.read())

    def close(self):
        self.socket.close()
        for descriptor in self.descriptors.values():
            os.close(descriptor)


@pytest.fixture
def manager(place):
    manager = Manager(place)
    yield manager
    manager.close()


def test_it_tells_ready_alive_and_stopping(start, manager, place):
    gate = place / "gate"
    process = start(
        {"app": {"port": rig.free_port(), "ready": {"exec": ["test", "-e", str(gate)], "interval": "100ms"}}},
        ["sh", "-c", 'echo "notify=$NOTIFY_SOCKET watchdog=$WATCHDOG_USEC"; exec tail -f /dev/null'],
        env={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"})
    wait_until(lambda: manager.has(STATUS="app-starting"), "the state to be told")
    wait_until(lambda: sum("WATCHDOG" in m for m in manager.read()) >= 3, "signs of life while it starts")
    assert not manager.has(READY="1")
    gate.touch()
    wait_until(lambda: manager.has(READY="1", STATUS="ready"), "READY=1")
    # The app must not speak in the sidecar's name.
    process.wait_logs(lambda lines: any("notify= watchdog=" in line for line in lines), "the app's environment")
    process.stop()
    assert manager.has(STOPPING="1")
    assert not manager.has(FDSTORE="1"), "nothing is stored where the unit has no store"


def activated(place, ending, port, config, name="outrider", env=None):
    process = rig.Outrider(
        place, config, env=env, name=name, wrap=[rig.tool("systemd-socket-activate"), "-l", f"127.0.0.1:{port}"])
    ending.append(process)
    return process


def test_a_socket_of_systemd_is_taken_by_the_listener_of_its_address(place, ending, nginx):
    port, upstream = rig.free_port(), nginx()
    config = {"admin": {"listen": False},
              "inbound": {"web": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream}"}}}
    process = activated(place, ending, port, config)
    # The tool execs the sidecar on the first connection, which waits in the socket's queue and is served.
    assert wait_until(lambda: rig.status_of(port, timeout=30), "an answer on the first connection") == 200
    process.wait_ready()
    assert rig.status_of(port) == 200
    # The listener goes, the unit's socket stays and serves again when the listener comes back.
    process.write_config({**config, "inbound": {}})
    assert rig.run("reload", "--state", process.state).returncode == 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as waiting:
        process.write_config(config)
        assert rig.run("reload", "--state", process.state).returncode == 0
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert waiting.recv(12) == b"HTTP/1.1 200"
    assert process.stop() == 0


def test_a_socket_that_no_listener_uses_is_spoken_of(place, ending):
    port = rig.free_port()
    process = activated(place, ending, port, {"admin": {"listen": False}})
    wait_until(lambda: rig.accepts(port) and os.path.exists(process.socket), "the sidecar to be started")
    process.wait_ready()
    wait_until(lambda: f"systemd listens on 127.0.0.1:{port}" in process.stderr, "the line about it")


def test_stored_sockets_outlive_the_supervisor(start, manager, place, nginx, ending):
    """What systemd does with FileDescriptorStoreMax: it keeps what it is given and hands it to the next start."""
    port, upstream = rig.free_port(), nginx()
    config = {"inbound": {"web": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream}"}}}
    environment = {"NOTIFY_SOCKET": str(manager.path), "FDSTORE": "16"}
    first = start(config, env=environment).wait_ready()
    assert rig.status_of(port) == 200
    name = wait_until(lambda: next((n for n in manager.read() and manager.descriptors if str(port) in n), None),
                      "the listener to be stored")
    family = rig.descendants(first.pid)
    first.process.kill()
    first.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in family), "the worker to end")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as waiting:
        stored = [(n, d) for n, d in manager.descriptors.items()]
        # The next start: descriptors 3, 4, … with their names, and the number of the process that may take them.
        moves = "; ".join(f"os.dup2({d}, {100 + i})" for i, (_, d) in enumerate(stored))
        places = "; ".join(f"os.dup2({100 + i}, {3 + i})" for i in range(len(stored)))
        launcher = (
            f"import os, sys; {moves}; {places}; "
            f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(stored)}', "
            f"LISTEN_FDNAMES='{':'.join(n for n, _ in stored)}'); os.execv(sys.argv[1], sys.argv[1:])")
        second = rig.Outrider(
            place, {**config, "admin": {"listen": False}}, env=environment, name="second",
            wrap=[sys.executable, "-c", launcher], pass_fds=list(manager.descriptors.values()))
        ending.append(second)
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        waiting.settimeout(rig.DEADLINE)
        assert waiting.recv(12) == b"HTTP/1.1 200", "the connection that came in between is served"
    second.wait_ready()
    # The first start's admin port has no listener any more: it does not stay open for nobody.
    wait_until(lambda: any("FDSTOREREMOVE" in m for m in manager.read()), "what is not used to be given back")
    assert not manager.has(FDSTOREREMOVE="1", FDNAME=name)
    second.stop()
