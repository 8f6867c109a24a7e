"""A fast HTTP/1.1 upstream on one event loop, whose pace can be changed. Standard library only.

    python3 paced_upstream.py [--port 0] [--name NAME]

prints its port and ends when standard input does. Every path answers 200 with the server's name. Also:

    /slow/SECONDS    the same after that time
    POST /_pace/X    X = SECONDS before every answer, `hang` (reads, never answers) or `0`; itself answered at once
    GET /_counts     {"requests", "connections", "most_at_once", "busiest": the most connections of 100 ms, "seen": the
                     most often that one X-Count-Id was answered}
"""

import argparse
import asyncio
import collections
import json
import os
import re
import sys


async def pause(seconds):
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


class Upstream:
    def __init__(self, name):
        self.name, self.pace = name, 0.0
        self.requests, self.connections, self.open, self.most_at_once = 0, 0, 0, 0
        self.arrivals = collections.Counter()
        self.seen = collections.Counter()

    def counts(self):
        return {"requests": self.requests, "connections": self.connections, "most_at_once": self.most_at_once,
                "busiest": max(self.arrivals.values(), default=0), "seen": max(self.seen.values(), default=0)}

    async def delay(self, path):
        slow = re.match(r"/slow/([0-9.]+)", path)
        if slow:
            await pause(float(slow.group(1)))
        if self.pace == "hang":
            await asyncio.Event().wait()
        if self.pace:
            await pause(self.pace)

    async def serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        self.most_at_once = max(self.most_at_once, self.open)
        self.arrivals[int(asyncio.get_running_loop().time() * 10)] += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path = head.split(b" ", 2)[:2]
                path = path.decode()
                length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
                if length:
                    await reader.readexactly(int(length.group(1)))
                if path.startswith("/_pace/"):
                    word = path.split("/")[2]
                    self.pace = word if word == "hang" else float(word)
                    body = b"{}"
                elif path == "/_counts":
                    body = json.dumps(self.counts()).encode()
                else:
                    self.requests += 1
                    await self.delay(path)
                    number = re.search(rb"\r\nx-count-id: (\d+)", head.lower())
                    if number:
                        self.seen[number.group(1)] += 1
                    body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def main():
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--name", default="upstream")
    options = options.parse_args()
    server = await asyncio.start_server(Upstream(options.name).serve, "127.0.0.1", options.port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: os.read(0, 65536) or ended.set())
    await ended.wait()


asyncio.run(main())
