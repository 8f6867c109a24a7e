"""`outrider wait`: the app's container waits for its sidecar and then becomes the app."""

import signal

import rig
from rig import wait_until


def waiting(place, ending, *arguments, name="wait"):
    process = rig.Process([rig.binary(), "wait", *map(str, arguments)], place, name, cwd=place)
    ending.append(process)
    return process


def test_it_becomes_the_command_when_the_sidecar_is_ready(start, place, ending, nginx):
    state, gate = place / "state", place / "gate"
    process = waiting(
        place, ending, "--state", state, "--timeout", "0s", "--", "sh", "-c",
        'echo "pid $$"; exit 7')
    wait_until(lambda: f"waiting for the sidecar's socket {state}/outrider.sock" in process.stderr,
               "the line that says what it waits for", deadline=60)
    start({"secrets": {"stores": {"file": {"file": {"directory": str(gate)}}}, "values": {"db": {"key": "db"}}}})
    assert process.is_running
    gate.mkdir()
    (gate / "db").write_text("sesame")
    assert process.wait() == 7
    assert process.stdout.split()[:2] == ["pid", str(process.pid)], "the command has the process id of the wait"


def test_it_gives_up_with_75_and_says_why(place, ending):
    port = rig.free_port()
    process = waiting(place, ending, "--address", f"127.0.0.1:{port}", "--timeout", "300ms", "--", "true")
    assert process.wait() == 75
    assert f"not ready after 300ms: the sidecar at 127.0.0.1:{port}, which does not answer" in process.stderr


def test_parts_and_addresses(start, place, ending):
    admin = rig.free_port()
    process = start({"app": {"port": rig.free_port(), "ready": {"tcp": True}},
                     "admin": {"listen": f"127.0.0.1:{admin}"}}, ["tail", "-f", "/dev/null"])
    process.wait_ready("/readyz/outbound")
    address = f"127.0.0.1:{admin}"
    for part in ("live", "outbound", "sidecar"):
        assert waiting(place, ending, "--address", address, "--for", part).wait() == 0
    assert waiting(place, ending, "--address", f"unix:{process.socket}", "--for", "sidecar").wait() == 0
    # The configuration names both; it is in the working directory.
    assert waiting(place, ending, "--config", process.config_path, "--state", process.state).wait() == 0
    late = waiting(place, ending, "--address", address, "--for", "all", "--timeout", "300ms")
    assert late.wait() == 75
    assert "does not accept connections" in late.stderr, "the reason is the sidecar's"


def test_exit_codes(start, place, ending):
    process = start({}, ["tail", "-f", "/dev/null"]).wait_ready()
    assert waiting(place, ending, "--state", process.state, "--", "/no/such/program").wait() == 127
    assert waiting(place, ending, "--state", process.state, "--", "/etc/passwd").wait() == 126
    assert waiting(place, ending, "--state", process.state, "--timeout", "soon").wait() == 64
    assert waiting(place, ending, "--state", process.state, "--address", "nowhere").wait() == 64
    stopped = waiting(place, ending, "--state", place / "none", "--timeout", "0s")
    wait_until(lambda: "waiting for" in stopped.stderr, "it to wait")
    assert stopped.stop(signal.SIGTERM) == 143
