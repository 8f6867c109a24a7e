"""A constant rate of requests over kept connections, every one of which is accounted for."""

import asyncio
import collections


async def pause(seconds):
    """Until that time is over: a rate and a script of faults are made of times."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(max(0, seconds), over.set)
    await over.wait()


class Failure(Exception):
    """A request that got no whole answer."""


class Raced(Exception):
    """A connection ended before any octet of an answer: both sides may end an idle connection at any time (RFC 9112
    section 9.5), so the request may have crossed the end of the connection."""


class Connection(asyncio.Protocol):
    """One request at a time; knows when it may be used again."""

    def __init__(self):
        self.buffer, self.reply, self.is_open, self.length = b"", None, True, None

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, head):
        self.buffer, self.length = b"", None
        self.reply = asyncio.get_running_loop().create_future()
        self.transport.write(head)
        return self.reply

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or self.reply is None:
            return
        if self.length is None:
            head = self.buffer[:end].lower()
            self.length = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if b"connection: close" in head:
                self.is_open = False
        if len(self.buffer) >= self.length and not self.reply.done():
            status, body = int(self.buffer[9:12]), self.buffer[end + 4:self.length]
            if len(self.buffer) > self.length:
                self.reply.set_exception(Failure(f"more than one answer: {self.buffer!r}"))
            else:
                self.reply.set_result((status, body))
            if not self.is_open:
                self.transport.close()

    def connection_lost(self, error):
        self.is_open = False
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception((Failure if self.buffer else Raced)(f"the connection ended within a request ({error})"))


class Load:
    """`rate` requests a second to that port. `path(number)` gives the path; every request carries its number in
    `X-Count-Id`. A connection that is refused before anything was sent counts apart: nothing was accepted. So does a
    request that crossed the end of its connection; whether it did, the upstream's count tells."""

    def __init__(self, port, rate, path=lambda number: "/", method="GET", timeout=30):
        self.port, self.rate, self.path, self.method, self.timeout = port, rate, path, method, timeout
        self.statuses = collections.Counter()
        self.failures, self.refused, self.raced, self.sent, self.latencies = [], 0, 0, 0, []
        self.bodies = {}
        self.idle, self.tasks = [], set()

    async def run(self, seconds=None, until=None):
        """Begins requests for so long, or until the event is set; waits for all answers."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (seconds is None or loop.time() - began < seconds) and not (until and until.is_set()):
            due = int((loop.time() - began) * self.rate)
            while self.sent < due:
                self.begin()
            await pause(0.002)
        if self.tasks:
            await asyncio.wait(self.tasks)

    def begin(self):
        task = asyncio.create_task(self.one(self.sent))
        self.sent += 1
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def one(self, number):
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            connection = await self.take()
        except OSError:
            self.refused += 1
            return
        head = f"{self.method} {self.path(number)} HTTP/1.1\r\nHost: load\r\nX-Count-Id: {number}\r\n"
        if self.method == "POST":
            head += "Content-Length: 0\r\n"
        try:
            status, body = await asyncio.wait_for(connection.ask(f"{head}\r\n".encode()), self.timeout)
        except Raced:
            self.raced += 1
            return
        except (Failure, TimeoutError) as error:
            self.failures.append(f"request {number}: {error!r}")
            connection.transport.abort()
            return
        self.statuses[status] += 1
        self.latencies.append((began, loop.time() - began, status))
        if status >= 400 and len(self.bodies) < 50:
            self.bodies[number] = body[:300]
        if connection.is_open:
            self.idle.append(connection)

    async def take(self):
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open and not connection.transport.is_closing():
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return connection

    def __str__(self):
        return (f"{self.sent} sent, {dict(self.statuses)}, {self.refused} refused, {self.raced} raced, {len(self.failures)} failed: "
                f"{self.failures[:5]} {dict(list(self.bodies.items())[:5])}")
