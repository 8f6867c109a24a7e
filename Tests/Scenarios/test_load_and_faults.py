"""A constant load while upstreams crash, hang, slow down, restart and move, by a fixed script; and all of them away."""

import asyncio
import json

import pytest

import rig
from load import Load, pause

MIB = 1 << 20


class Fleet:
    """Five upstreams by name, which a file tells outrider of."""

    def __init__(self, peer, place):
        self.peer, self.file = peer, place / "endpoints.yaml"
        self.members, self.ports, self.ended = {}, {}, 0
        for name in "abcde":
            self.begin(name)
        self.tell()

    def begin(self, name, port=0):
        self.ended += 1
        server = self.peer("paced_upstream.py", f"{name}-{self.ended}", "--name", name, "--port", port)
        self.members[name], self.ports[name] = server, server.port

    def crash(self, name):
        self.members[name].process.kill()
        self.members[name].wait()

    def again(self, name):
        self.begin(name, self.ports[name])

    def move(self, name):
        old = self.members[name]
        self.begin(name)
        self.tell()
        return old

    def tell(self):
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps([f"127.0.0.1:{port}" for port in self.ports.values()]))
        fresh.rename(self.file)

    def pace(self, name, word):
        assert rig.request(self.ports[name], f"/_pace/{word}", "POST").status == 200

    def counts(self):
        return {name: server.ask("/_counts") for name, server in self.members.items()}


@pytest.fixture
def fleet(peer, place):
    return Fleet(peer, place)


@pytest.fixture
def proxy(start, fleet):
    port = rig.free_port()
    process = start({
        "outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "fleet", "access_log": {"sample": 0.01},
                             "retries": {"attempts": 3, "on": ["reset", "gateway-error"], "per_try_timeout": "1s"}}},
        "clusters": {"fleet": {"file": str(fleet.file), "outliers": {"ejection": "2s"},
                               "health": {"http": "/", "interval": "1s", "timeout": "500ms"}}}},
        ["sleep", "600"]).wait_ready()
    process.port = port
    return process


async def follow(script):
    """Runs each step at its second; they may block, since they are of another thread."""
    began = asyncio.get_running_loop().time()
    for second, step, *arguments in script:
        await pause(began + second - asyncio.get_running_loop().time())
        await asyncio.to_thread(step, *arguments)


def test_a_minute_of_faults(proxy, fleet):
    old = []
    script = [
        (4, fleet.crash, "a"), (10, fleet.again, "a"),
        (14, fleet.pace, "b", "hang"), (22, fleet.pace, "b", "0"),
        (25, fleet.pace, "c", "0.3"), (32, fleet.pace, "c", "0"),
        (35, lambda: old.append(fleet.move("d"))), (37, lambda: old[0].end()),
        (40, fleet.crash, "e"), (40.2, fleet.again, "e"),
        (45, fleet.crash, "a"), (45, fleet.pace, "b", "hang"), (52, fleet.again, "a"), (53, fleet.pace, "b", "0"),
    ]
    memory = []
    worker = proxy.worker()

    async def everything():
        load = Load(proxy.port, 1000)
        steps = asyncio.create_task(follow(script))
        running = asyncio.create_task(load.run(60))
        for second in (3, 58):
            await pause(second - sum(m[0] for m in memory))
            memory.append((second, rig.private_memory(worker)))
        await running
        await steps
        return load

    load = asyncio.run(everything())
    wrong = load.sent - load.statuses[200]
    assert wrong <= load.sent / 10_000, str(load)
    assert load.sent > 50_000, str(load)
    growth = memory[1][1] - memory[0][1]
    assert growth < 16 * MIB, f"{growth / MIB:.1f} MiB more than at the start"
    assert all(count["requests"] > 500 for count in fleet.counts().values()), "everybody is back at work"
    proxy.stop()


def test_all_away_and_back(proxy, fleet):
    rate = 300
    back = []

    def all_back():
        for name in "abcde":
            fleet.again(name)
        back.append(asyncio.run_coroutine_threadsafe(now(), loop[0]).result())

    async def now():
        return asyncio.get_running_loop().time()

    loop = []

    async def everything():
        loop.append(asyncio.get_running_loop())
        load = Load(proxy.port, rate)
        script = [(3, lambda: [fleet.crash(name) for name in "abcde"]), (23, all_back)]
        await asyncio.gather(load.run(30), follow(script))
        return load

    load = asyncio.run(everything())
    assert not load.failures and not load.refused and not load.raced, str(load)
    assert set(load.statuses) <= {200, 502, 503, 504}, str(load)
    late = [status for began, _, status in load.latencies if began > back[0] + 2]
    assert len(late) > rate and set(late) == {200}, f"{late.count(503)} of {len(late)} failed two seconds after the return"
    for name, count in fleet.counts().items():
        # Nobody gets more connections at once than requests come in that time.
        assert count["busiest"] <= rate / 10 * 2, f"{name}: {count}"
    proxy.stop()
