"""Peers that mean harm: slow, endless, many. The sidecar answers others meanwhile, within memory that is stated here."""

import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

import rig
from rig import wait_until

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Each connection runs `serve(connection, head)` on a thread, again and again until it returns something true."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port, self.serve = self.listener.getsockname()[1], serve
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        with connection:
            try:
                while head := read_head(connection):
                    if self.serve(connection, head):
                        return
            except OSError:
                return

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def read_head(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return b""
        head += piece
    return head


@pytest.fixture
def through(start, ending):
    """through(serve, **listener) is (outrider, its port) in front of such a server."""

    def starter(serve=lambda connection, head: connection.sendall(OK), **listener):
        server, port = Server(serve), rig.free_port()
        ending.append(server)
        process = start(
            {"outbound": {"up": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{server.port}",
                                 "access_log": False, **listener}}, "threads": 1}, ["sleep", "600"]).wait_ready()
        return process, port

    return starter


def answers(port):
    return rig.status_of(port) == 200


def open_files_for(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise AssertionError(f"this scenario needs {count} open files and the hard limit is {hard}: raise it")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


# MARK: many

# Opens COUNT connections, sends each TEXT, prints a line, and waits for the end of its input. After each 250 it asks
# for a page: a listener accepts in order, so the answer says that the connections before it have left its queue. One
# that overflows would leave connections that only their client believes in.
HOLDER = """
import resource, socket, sys
port, count, text = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 64), hard))
held = []
for number in range(count):
    if number % 250 == 249:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
            asking.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
            while asking.recv(65536):
                pass
    held.append(socket.create_connection(("127.0.0.1", port), timeout=30))
    if text:
        held[-1].sendall(text)
print(len(held), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("text, bound", [
    # An idle connection, and one that has begun a head and does not go on: octets of private memory for each.
    ("", 8 << 10), ("GET / HTTP/1.1\\r\\nHost: a\\r\\nX: ", 16 << 10)], ids=["idle", "half-a-head"])
def test_ten_thousand_connections_cost_little_and_stop_nobody(through, text, bound):
    count, holders = 10_000, 4
    open_files_for(12_000)
    process, port = through(head_timeout="60s")
    assert answers(port)
    before = rig.private_memory(process.worker())
    held = [subprocess.Popen([sys.executable, "-c", HOLDER, str(port), str(count // holders), text],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(holders)]
    try:
        for holder in held:
            assert holder.stdout.readline() == f"{count // holders}\n"
        wait_until(lambda: connections(process) >= count, "every connection to be accepted")
        assert answers(port), "others are served"
        grown = rig.private_memory(process.worker()) - before
        print(f"{grown / count:.0f} octets a connection")
        assert grown < count * bound, f"{grown / count:.0f} octets a connection"
    finally:
        for holder in held:
            holder.communicate()
    wait_until(lambda: connections(process) < 10, "the connections to be gone")
    assert answers(port)


def connections(process):
    text = process.admin("/metrics").text
    return sum(int(float(line.split()[-1])) for line in text.splitlines()
               if line.startswith("outrider_downstream_connections_active{") and 'listener="up"' in line)


# MARK: slow and endless clients

def test_slow_heads_are_cut_and_slow_bodies_end_in_504(through):
    def serve(connection, head):
        if head.startswith(b"POST"):
            while connection.recv(65536):
                pass
            return True
        connection.sendall(OK)

    process, port = through(serve, head_timeout="500ms", idle_timeout="500ms")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        begun, received = time.monotonic(), b""
        slow.settimeout(0.1)
        # An octet now and then does not buy time.
        while not received and time.monotonic() < begun + 20:
            try:
                slow.sendall(b"X")
                received = slow.recv(65536)
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408 ")
    reply = rig.raw_exchange(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    assert reply.startswith(b"HTTP/1.1 504 ")
    assert answers(port)


@pytest.mark.parametrize("begin, piece", [
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 1024), (b"GET /", b"a" * 1024),
    (b"GET / HTTP/1.1\r\nHost: a\r\n", b"A: b\r\n" * 200)], ids=["value", "target", "fields"])
def test_endless_heads_get_431(through, begin, piece):
    process, port = through()
    assert answers(port)
    before = rig.private_memory(process.worker())
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(begin)
        try:
            for _ in range(16 * MIB // len(piece)):
                client.sendall(piece)
        except OSError:
            pass
        assert client.recv(65536).startswith(b"HTTP/1.1 431 ")
        assert rig.private_memory(process.worker()) - before < 2 * MIB
    assert answers(port)


@pytest.mark.parametrize("piece", [b"\r\n" * 4096, b"\n\r" * 4096], ids=["whole", "halves"])
def test_empty_lines_before_a_request_are_not_kept(through, piece):
    process, port = through()
    assert answers(port)
    before = rig.private_memory(process.worker())
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"\r" if piece.startswith(b"\n") else b"")
        for _ in range(16 * MIB // len(piece)):
            client.sendall(piece)
        # Half of what was sent; what the sockets and one turn of the loop hold is less.
        assert rig.private_memory(process.worker()) - before < 8 * MIB
    assert answers(port)


# MARK: endless upstreams

def endless(piece):
    def serve(connection, head):
        if b"GET /endless" not in head:
            connection.sendall(OK)
            return False
        connection.sendall(b"HTTP/1.1 " if piece != INTERIM else b"")
        while True:
            connection.sendall(piece)
    return serve


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize("piece", [INTERIM, b"200 OK\r\n" + b"A: b\r\n" * 100, b"a" * 1024],
                         ids=["informational", "fields", "line"])
def test_endless_heads_of_an_upstream_are_502(through, piece):
    process, port = through(endless(piece), timeout="20s")
    assert answers(port)
    before = rig.private_memory(process.worker())
    received = rig.raw_exchange(port, b"GET /endless HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    final = received.replace(INTERIM, b"")
    assert received.count(b"HTTP/1.1 103 ") <= 100 and final.startswith(b"HTTP/1.1 502 ")
    assert b"error=http_protocol_error" in final
    assert rig.private_memory(process.worker()) - before < 2 * MIB
    assert answers(port)
