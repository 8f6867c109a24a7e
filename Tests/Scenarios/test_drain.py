"""Out of service without a lost request: one listener, a direction, everything."""

import asyncio
import http.client
import signal

import pytest

import rig
from load import Load, pause
from rig import wait_until


@pytest.fixture
def two(start, peer):
    """Two inbound listeners in front of one upstream."""
    upstream = peer("paced_upstream.py")
    a, b = rig.free_port(), rig.free_port()
    process = start({"inbound": {
        name: {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream.port}"}
        for name, port in (("a", a), ("b", b))}}, ["sleep", "600"]).wait_ready()
    process.upstream = upstream
    return process, a, b


def drain(process, *arguments, timeout=None):
    return rig.run("drain", "--state", process.state, *arguments, timeout=timeout)


def listener(process, name):
    return next(l for l in process.admin("/status").json["listeners"] if l["name"] == name)


def test_one_listener_is_drained_and_taken_back(two):
    process, a, b = two
    kept = http.client.HTTPConnection("127.0.0.1", a, timeout=20)
    kept.request("GET", "/")
    assert kept.getresponse().read() and kept.sock
    assert drain(process, "inbound.a").stdout == "draining: inbound.a\n"
    kept.request("GET", "/")
    reply = kept.getresponse()
    assert reply.getheader("connection") == "close" and reply.read() == b"upstream"
    assert rig.request(a, "/").status == 200, "nobody is refused"
    other = rig.request(b, "/")
    assert other.headers.get("connection") != "close"
    assert listener(process, "a")["draining"] and not listener(process, "b")["draining"]
    assert rig.status_of(process.socket, "/readyz") == 200, "there is another inbound listener"
    assert drain(process, "inbound.b").returncode == 0
    assert "drained" in process.admin("/readyz").text and process.admin("/readyz").status == 503
    assert drain(process, "--undo").stdout == "back in service: inbound.a, inbound.b\n"
    assert rig.status_of(process.socket, "/readyz") == 200
    assert rig.request(a, "/").headers.get("connection") != "close"
    process.stop()


def test_waiting_for_the_last_connection(two):
    process, a, _ = two
    slow = http.client.HTTPConnection("127.0.0.1", a, timeout=20)
    slow.request("GET", "/slow/2")
    wait_until(lambda: listener(process, "a")["connections"] == 1, "the connection")
    early = drain(process, "inbound.a", "--wait", "100ms")
    assert early.returncode == 1 and "inbound.a (1)" in early.stderr
    assert drain(process, "inbound.a", "--wait", "40s").returncode == 0
    assert slow.getresponse().read() == b"upstream"
    process.stop()


def test_what_cannot_be_drained_is_said(two):
    process, _, _ = two
    wrong = drain(process, "inbound.nope")
    assert wrong.returncode == 1 and "inbound.a" in wrong.stderr
    assert "500ms" in drain(process, "--wait", "soon").stderr
    process.stop()


def test_a_stop_under_load_loses_nothing(two):
    """SIGTERM at 1,000 requests a second with requests of three seconds in flight: every accepted one is answered."""
    process, a, _ = two

    async def everything():
        fast, slow = Load(a, 900), Load(a, 100, path=lambda _: "/slow/3")
        stopped = asyncio.Event()
        loads = [asyncio.create_task(load.run(until=stopped)) for load in (fast, slow)]
        await pause(4)
        process.send(signal.SIGTERM)
        await asyncio.to_thread(process.wait)
        stopped.set()
        await asyncio.gather(*loads)
        return fast, slow

    fast, slow = asyncio.run(everything())
    for load in (fast, slow):
        assert not load.failures and set(load.statuses) == {200}, str(load)
        assert load.refused > 0 and load.statuses[200] + load.refused + load.raced == load.sent, str(load)
        # A client on a busy machine asks later than it connects.
        assert load.raced <= load.sent // 50, str(load)
    assert slow.statuses[200] > 200, str(slow)
    reached = process.upstream.ask("/_counts")["requests"]
    assert reached == fast.statuses[200] + slow.statuses[200], f"{reached} reached the upstream: {fast}; {slow}"
