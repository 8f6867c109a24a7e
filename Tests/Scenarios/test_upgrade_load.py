"""Upgrades under load: no failed request, no line lost or twice, the same app, no new lease.

The long form makes 20 upgrades under 1,000 requests and 5,000 lines a second: OUTRIDER_LONG=1 (with a release binary: a
debug build is not made for that).
"""

import asyncio
import collections
import os
import re
import resource
import ssl
import sys
import time

import rig
from certificates import Authority
from load import Load, pause
from rig import wait_until

LONG = bool(os.environ.get("OUTRIDER_LONG"))
UPGRADES, RATE, LINES = (20, 900, 5000) if LONG else (3, 60, 1000)


class Others:
    """What is beside the constant rate, each request on a connection of its own: new connections, TLS ones, requests
    of three seconds, and WebSockets that echo for two."""

    def __init__(self, port, tls_port, authority):
        self.port, self.tls_port = port, tls_port
        self.context = ssl.create_default_context(cafile=str(authority.file))
        self.done, self.failures = collections.Counter(), []

    async def run(self, until):
        kinds = [self.fresh, self.secure, self.slow, self.slow, self.socket, self.socket, self.kept]
        await asyncio.gather(*[self.again(kind, until) for kind in kinds])

    async def again(self, kind, until):
        while not until.is_set():
            try:
                await asyncio.wait_for(kind(), 60)
                self.done[kind.__name__] += 1
            except (OSError, EOFError, AssertionError, TimeoutError) as error:
                self.failures.append(f"{kind.__name__}: {error!r}")

    async def ask(self, path, port, **tls):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
        try:
            await self.exchange(reader, writer, path)
        finally:
            writer.close()

    async def exchange(self, reader, writer, path):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: web.shop\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        assert await reader.readexactly(length) == b"ok"
        return head

    async def fresh(self):
        await self.ask("/fresh", self.port)
        await pause(0.01)

    async def secure(self):
        await self.ask("/secure", self.tls_port, ssl=self.context, server_hostname="web.shop")
        await pause(0.02)

    async def slow(self):
        await self.ask("/slow", self.port)

    async def kept(self):
        """A connection over TLS that is kept until the answer says that it ends."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.tls_port, ssl=self.context, server_hostname="web.shop")
        try:
            for _ in range(200):
                if b"connection: close" in (await self.exchange(reader, writer, "/kept")).lower():
                    break
                await pause(0.02)
        finally:
            writer.close()

    async def socket(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET /ws HTTP/1.1\r\nHost: web.shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                         b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            for number in range(20):
                writer.write(b"message-%04d" % number)
                assert await reader.readexactly(12) == b"message-%04d" % number
                await pause(0.1)
        finally:
            writer.close()


async def upgrades(process, ended):
    """One after the other: each when the former worker has ended, and the supervisor is the new program."""
    try:
        for number in range(1, UPGRADES + 1):
            command = await asyncio.create_subprocess_exec(
                rig.binary(), "upgrade", "--state", str(process.state), "--timeout", "60s",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
            text, _ = await command.communicate()
            assert command.returncode == 0, f"upgrade {number}: {text}\n{process.stderr[-3000:]}"
            for _ in range(600):
                if process.stderr.count("the supervisor is version") == number:
                    break
                await pause(0.1)
            assert process.stderr.count("the supervisor is version") == number, process.stderr[-3000:]
    finally:
        ended.set()


async def everything(process, load, others):
    ended = asyncio.Event()
    tasks = [upgrades(process, ended), load.run(until=ended), others.run(ended)]
    await asyncio.gather(*tasks)


def test_upgrades_under_load_are_noticed_by_nobody(start, place):
    # Requests of a moment in which nothing is answered each want a connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 16384), most))
    authority = Authority(place / "ca")
    certificate, key = authority.issue("web", "DNS:web.shop")
    app_port, port, tls_port = rig.free_port(), rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/"}},
         "inbound": {
             "web": {"listen": f"127.0.0.1:{port}"},
             "tls": {"listen": f"127.0.0.1:{tls_port}",
                     "tls": {"certificate": str(certificate), "key": str(key)}}},
         "logs": {"sinks": {"lines": {"file": {"path": str(place / "lines")}, "from": "app"}}}},
        [sys.executable, "-u", str(rig.APPS / "busy.py"), str(app_port), str(LINES)]).wait_ready()
    app, pid = process.app(), process.pid
    load, others = Load(port, RATE), Others(port, tls_port, authority)
    began = time.monotonic()
    asyncio.run(everything(process, load, others))
    seconds = time.monotonic() - began
    assert process.app() == app and process.pid == pid and process.is_running
    report = f"{load}; {others.done} {others.failures[:5]}\n{process.stderr[-2000:]}"
    assert not load.failures and not load.refused and not load.raced and not others.failures, report
    assert set(load.statuses) == {200} and load.statuses[200] == load.sent, report
    assert all(others.done[kind] for kind in ("fresh", "secure", "slow", "kept", "socket")), report
    status = process.admin("/status").json
    assert status["generation"] == UPGRADES + 1 and status["upgrades"]["succeeded"] == UPGRADES
    counted = sum(map(float, re.findall(
        r'^outrider_http_requests_total\{direction="inbound",[^}]*\} (\S+)$', process.admin("/metrics").text, re.M)))
    assert counted >= load.sent + sum(others.done.values()) - others.done["socket"], "counts are not kept"
    assert process.stop() == 0
    text = (place / "lines").read_text()
    wrote = int(re.search(r"busy-wrote-(\d+)-lines", text)[1])
    found = rig.numbers(text.splitlines())
    print(f"{UPGRADES} upgrades in {seconds:.0f} s: {load.sent + sum(others.done.values())} requests ({dict(others.done)} beside "
          f"the rate), {wrote} lines; the slowest of the rate took {max(l for _, l, _ in load.latencies):.2f} s")
    assert len(found) == wrote and sorted(found) == list(range(wrote)), (
        f"{wrote} lines were written, {len(found)} arrived, {len(set(found))} of them different")
