"""Nothing cuts what makes progress, and what streams does so in constant memory: upgrades, events, large bodies."""

import base64
import hashlib
import os
import pathlib
import socket
import threading

import pytest

import rig
from rig import wait_until

MIB = 1 << 20
GIB = 1 << 30
# What the long streams carry: `OUTRIDER_STREAM_GIB=10` for ten times as much.
STREAM = int(os.environ.get("OUTRIDER_STREAM_GIB", "1")) * GIB


class Server:
    """A server whose every connection runs `serve(connection, head)` on a thread, after the head was read."""

    def __init__(self, serve, reads_head=True):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.serve, self.reads_head, self.errors = serve, reads_head, []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        try:
            with connection:
                head = read_head(connection) if self.reads_head else b""
                self.serve(connection, head)
        except OSError as error:
            self.errors.append(error)

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def read_head(connection):
    """The head, and nothing of what follows it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return head
        head += piece
    return head


def exactly(connection, count):
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            break
        received += piece
    return received


@pytest.fixture
def through(start, ending):
    """through(serve, **listener) is (outrider, its port) in front of such a server."""

    def starter(serve, reads_head=True, **listener):
        server, port = Server(serve, reads_head), rig.free_port()
        ending.append(server)
        scheme = "tcp" if listener.get("protocol") == "tcp" else "http"
        process = start(
            {"outbound": {"up": {"listen": f"127.0.0.1:{port}", "to": f"{scheme}://127.0.0.1:{server.port}",
                                 "access_log": False, **listener}}, "threads": 1}, ["sleep", "600"]).wait_ready()
        return process, port

    return starter


class Growth:
    """By how many octets a worker's anonymous memory was at most larger than at the start. Pages of its file are not
    what it needs: they come and go as the kernel pleases."""

    def __init__(self, process):
        self.path = pathlib.Path(f"/proc/{process.worker()}/smaps_rollup")
        self.first = self.most = self.look()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def look(self):
        line = next(line for line in self.path.read_text().splitlines() if line.startswith("Anonymous:"))
        return 1024 * int(line.split()[1])

    def watch(self):
        while not self.over.wait(0.02):
            self.most = max(self.most, self.look())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def octets(self):
        return max(self.most, self.look()) - self.first


def tick(seconds):
    threading.Event().wait(seconds)


# MARK: upgrades and events

def websocket_accept(key):
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest)


@pytest.mark.parametrize("word", ["websocket", "my-own/2"])
def test_an_upgrade_lives_as_long_as_it_moves(through, word):
    def serve(connection, head):
        key = next((l.split(b": ")[1] for l in head.split(b"\r\n") if l.lower().startswith(b"sec-websocket-key")), b"")
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + word.encode()
            + b"\r\nSec-WebSocket-Accept: " + websocket_accept(key) + b"\r\n\r\nfirst")
        while piece := connection.recv(65536):
            connection.sendall(piece)

    process, port = through(serve, timeout="500ms", idle_timeout="2s")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            f"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {word}\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode() + b"early")
        head = read_head(client)
        assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert exactly(client, 10) == b"firstearly"
        # Every octet value passes, for longer than both timeouts.
        every = bytes(range(256)) * 40
        for _ in range(12):
            client.sendall(every)
            assert exactly(client, len(every)) == every
            tick(0.4)
        # Silence is cut.
        assert client.recv(1) == b""
    process.stop()


def test_events_arrive_as_they_are_sent(through):
    turn = threading.Semaphore(0)

    def serve(connection, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(12):
            turn.acquire(timeout=20)
            connection.sendall(b"data: %d\n\n" % number)

    process, port = through(serve, timeout="500ms", idle_timeout="2s")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 200 ")
        for number in range(12):
            tick(0.25)
            turn.release()
            expected = b"data: %d\n\n" % number
            assert exactly(client, len(expected)) == expected
        assert client.recv(1) == b""
    process.stop()


def test_a_long_poll_waits_when_it_may(through):
    def serve(connection, head):
        tick(2.5)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews")

    process, port = through(serve, timeout=0, idle_timeout="1s")
    assert rig.request(port, "/poll").text == "news"
    process.stop()


def test_a_slow_upload_is_not_cut(through):
    def serve(connection, head):
        body = exactly(connection, 30)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + body)

    process, port = through(serve, timeout="500ms", idle_timeout="1500ms")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n")
        for number in range(10):
            tick(0.3)
            client.sendall(b"%03d" % number)
        assert read_head(client).startswith(b"HTTP/1.1 200 ")
        assert exactly(client, 30) == b"".join(b"%03d" % n for n in range(10))
    process.stop()


def test_a_slow_download_is_not_cut(through):
    """The client takes a little now and then; what waits for it in between is no silence."""
    size = 24 * MIB

    def serve(connection, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        connection.sendall(b"d" * size)

    process, port = through(serve, timeout="2s", idle_timeout="1s")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        read_head(client)
        received = 0
        for _ in range(12):
            tick(0.4)
            received += len(exactly(client, MIB))
        while piece := client.recv(MIB):
            received += len(piece)
    assert received == size
    process.stop()


# MARK: large bodies

def pour(connection, size, block=b"o" * MIB):
    for _ in range(size // len(block)):
        connection.sendall(block)


def drain(connection, size):
    buffer, received = bytearray(MIB), 0
    while received < size:
        count = connection.recv_into(buffer, min(MIB, size - received))
        if count == 0:
            break
        received += count
    return received


@pytest.mark.parametrize("kind", ["length", "chunked", "until-close", "tcp"])
def test_gigabytes_down_in_constant_memory(through, kind):
    def serve(connection, head):
        if kind == "length":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % STREAM)
            pour(connection, STREAM)
        elif kind == "chunked":
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            block = b"100000\r\n" + b"c" * MIB + b"\r\n"
            for _ in range(STREAM // MIB):
                connection.sendall(block)
            connection.sendall(b"0\r\n\r\n")
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if kind == "until-close" else b"")
            pour(connection, STREAM)

    process, port = through(serve, reads_head=True, **({"protocol": "tcp"} if kind == "tcp" else {}))
    with Growth(process) as growth, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        if kind != "tcp":
            read_head(client)
        size = STREAM + (STREAM // MIB * 10 + 5 if kind == "chunked" else 0)
        assert drain(client, size) == size
    assert growth.octets < 24 * MIB
    process.stop()


@pytest.mark.parametrize("kind", ["length", "chunked", "tcp"])
def test_gigabytes_up_in_constant_memory(through, kind):
    got = []

    def serve(connection, head):
        got.append(drain(connection, STREAM + (STREAM // MIB * 10 + 5 if kind == "chunked" else 0)))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    process, port = through(serve, **({"protocol": "tcp"} if kind == "tcp" else {}))
    with Growth(process) as growth, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        framing = b"Transfer-Encoding: chunked" if kind == "chunked" else b"Content-Length: %d" % STREAM
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        if kind == "chunked":
            block = b"100000\r\n" + b"c" * MIB + b"\r\n"
            for _ in range(STREAM // MIB):
                client.sendall(block)
            client.sendall(b"0\r\n\r\n")
        else:
            pour(client, STREAM)
        assert read_head(client).startswith(b"HTTP/1.1 200 ")
    assert got and got[0] >= STREAM
    assert growth.octets < 24 * MIB
    process.stop()


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_a_slow_side_stops_the_fast_one(through, kind):
    """Neither side reads: what the other can hand over is what kernels hold, and the worker holds next to nothing."""
    sent = {"down": 0, "up": 0}
    stopped = threading.Event()

    def push(connection, name):
        connection.settimeout(0.5)
        block = b"s" * 65536
        quiet = 0
        while not stopped.is_set() and quiet < 4:
            try:
                sent[name] += connection.send(block)
                quiet = 0
            except TimeoutError:
                quiet += 1

    def serve(connection, head):
        if kind == "http":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
        push(connection, "down")
        stopped.wait(60)

    process, port = through(serve, reads_head=True, **({"protocol": "tcp"} if kind == "tcp" else {}))
    with Growth(process) as growth, socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % GIB)
        read_head(client) if kind == "http" else None
        push(client, "up")
        wait_until(lambda: sent["down"] > 0, "the server to send")
        last = dict(sent)
        tick(1.5)
        wait_until(lambda: sent == last or last.update(sent), "both sides to stop")
        stopped.set()
    # A kernel keeps up to a few MiB for each of the four socket buffers.
    assert 0 < sent["down"] < 40 * MIB and 0 < sent["up"] < 40 * MIB, sent
    assert growth.octets < 16 * MIB, growth.octets
    process.stop()
