"""An HTTP upstream that can be told how to misbehave, and that counts what reached it. Standard library only.

    python3 flaky_upstream.py [--port 0] [--name NAME]

prints its port and ends when standard input does. Any path answers 200 with a JSON description of the request
(method, path, headers, SHA-256 and length of the body, number of the request on its connection). Also:

    /bytes/N            N bytes
    /chunks/N           N chunks of 1,000 bytes each, with the chunked coding
    /status/N           status N
    /healthz            200, or what `health_status` says; not counted, and nothing else is done to it
    POST /_behave       {"fail_each": N, "fail_status": 503, "reset_each_second": bool, "reset_next": N,
                         "delay": SECONDS, "idle_close": SECONDS, "close_after_reply": bool, "retry_after": SECONDS,
                         "health_status": N, "fail_headers": {NAME: VALUE}, "reset_at": N, "refuse": SECONDS,
                         "trickle": SECONDS}
                        replaces the whole behaviour; {} is good behaviour
    GET  /_counts       {"requests", "connections", "by_id": {ID: {METHOD: TIMES}}}, ID from the field X-Count-Id
    DELETE /_counts     begins to count anew

fail_each           every Nth request, counted over all connections, answers fail_status; it counts as arrived
reset_each_second   every second request of a connection is read, counted, and answered with a reset
reset_next          so many of the next requests are read, counted, and answered with a reset
delay               wait before each reply
idle_close          a kept-alive connection without a request for so long is closed
close_after_reply   the connection is closed after each reply without having announced it
fail_headers        fields of failed replies
reset_at            each reply is cut by a reset after so many of its octets
refuse              for so long no connection is accepted: the kernel refuses them; then this is over
trickle             replies go out octet by octet with that time between two
"""

import argparse
import collections
import fcntl
import hashlib
import json
import os
import socket
import threading

from control import Handler, serve


class Behaviour:
    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.wishes = {}
        self.forget()

    def forget(self):
        with self.lock:
            self.requests, self.connections = 0, 0
            self.by_id = collections.defaultdict(collections.Counter)

    def set(self, wishes):
        with self.lock:
            self.wishes = dict(wishes)
            self.requests_since = 0
            released, self.changed = self.changed, threading.Event()
        released.set()
        if wishes.get("refuse"):
            self.refuse(wishes["refuse"])

    def refuse(self, seconds):
        """Something silent takes the listening socket's place, and after that time another socket of its port does."""
        place = self.server.socket.fileno()
        silent = os.pipe()
        # At once, although a poll may still hold the socket.
        self.server.socket.shutdown(socket.SHUT_RDWR)
        os.dup2(silent[0], place)

        def listen():
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(self.server.server_address)
                listener.listen(512)
                os.dup2(listener.fileno(), place)
            for end in silent:
                os.close(end)

        threading.Timer(seconds, listen).start()

    requests_since = 0

    def arrived(self, identifier, method):
        """Counts a request. Returns (its number since the behaviour was set, the behaviour)."""
        with self.lock:
            self.requests += 1
            self.requests_since += 1
            if identifier:
                self.by_id[identifier][method] += 1
            return self.requests_since, self.wishes

    def connected(self):
        with self.lock:
            self.connections += 1

    def report(self):
        with self.lock:
            return {
                "requests": self.requests, "connections": self.connections,
                "by_id": {name: dict(counts) for name, counts in self.by_id.items()}}


class Cut(Exception):
    """The reply has come to where it is to be cut."""


class Shaped:
    """A connection's output, cut after `limit` octets or slowed down."""

    def __init__(self, handler, stream, limit, pause, changed):
        self.handler, self.stream, self.pause, self.changed = handler, stream, pause, changed
        self.left = limit

    def write(self, data):
        if self.left is not None:
            data, cut = data[:self.left], len(data) >= self.left
            self.left -= len(data)
        if self.pause:
            for octet in data:
                self.stream.write(bytes([octet]))
                self.stream.flush()
                self.changed.wait(self.pause)
        else:
            self.stream.write(data)
        if self.left == 0 and cut:
            self.stream.flush()
            # What was sent must arrive: a reset drops what the peer has not read.
            self.handler.acknowledged()
            raise Cut
        return len(data)

    def flush(self):
        self.stream.flush()

    @property
    def closed(self):
        return self.stream.closed

    def close(self):
        self.stream.close()


class FlakyHandler(Handler):
    server_version = "flaky-upstream"

    def setup(self):
        super().setup()
        self.on_connection = 0
        self.is_counted = False

    def acknowledged(self):
        """Waits until the peer's kernel has all that was sent (SIOCOUTQ), five seconds at most."""
        left = bytearray(4)
        for _ in range(500):
            fcntl.ioctl(self.connection, 0x5411, left)
            if not any(left):
                break
            threading.Event().wait(0.01)

    def control(self):
        """Answers the control paths; False for a request of the experiment."""
        state = self.server.state
        if self.path == "/_counts" and self.command == "GET":
            self.reply(200, state.report())
        elif self.path == "/_counts" and self.command == "DELETE":
            state.forget()
            self.reply(200, {})
        elif self.path == "/_behave" and self.command == "POST":
            state.set(json.loads(self.read_body() or b"{}"))
            self.reply(200, {})
        else:
            return False
        return True

    def answer(self):
        if self.control():
            return
        state = self.server.state
        body = self.read_body()
        if self.path == "/healthz":
            return self.reply(state.wishes.get("health_status", 200), {"upstream": state.name})
        self.on_connection += 1
        if not self.is_counted:
            self.is_counted = True
            state.connected()
        number, wishes = state.arrived(self.headers.get("X-Count-Id"), self.command)
        self.connection.settimeout(wishes.get("idle_close") or None)
        if wishes.get("delay"):
            state.changed.wait(wishes["delay"])
        if number <= wishes.get("reset_next", 0):
            return self.reset()
        if wishes.get("reset_each_second") and self.on_connection % 2 == 0:
            return self.reset()
        if wishes.get("fail_each") and number % wishes["fail_each"] == 0:
            headers = [("Retry-After", str(wishes["retry_after"]))] if "retry_after" in wishes else []
            headers += list(wishes.get("fail_headers", {}).items())
            return self.reply(wishes.get("fail_status", 503), {"upstream": state.name, "failed": number}, headers)
        if "reset_at" in wishes or "trickle" in wishes:
            self.wfile = Shaped(self, self.wfile, wishes.get("reset_at"), wishes.get("trickle"), state.changed)
        try:
            self.good_reply(body, number)
        except Cut:
            return self.reset()
        if isinstance(self.wfile, Shaped):
            self.wfile = self.wfile.stream
        if wishes.get("close_after_reply"):
            self.drop()

    def good_reply(self, body, number):
        kind, _, argument = self.path.lstrip("/").split("?")[0].partition("/")
        if kind == "bytes" and argument.isdigit():
            return self.reply(200, b"x" * int(argument), [("Content-Type", "application/octet-stream")])
        if kind == "status" and argument.isdigit():
            return self.reply(int(argument), {"upstream": self.server.state.name})
        if kind == "chunks" and argument.isdigit():
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for position in range(int(argument)):
                self.wfile.write(b"3e8\r\n" + bytes([97 + position % 26]) * 1000 + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return self.wfile.flush()
        self.reply(200, {
            "upstream": self.server.state.name, "number": number, "on_connection": self.on_connection,
            "method": self.command, "path": self.path, "headers": [[k, v] for k, v in self.headers.items()],
            "length": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--name", default="flaky")
    chosen = arguments.parse_args()
    serve(FlakyHandler, Behaviour(chosen.name), chosen.port)
