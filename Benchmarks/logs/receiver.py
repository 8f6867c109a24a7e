"""Takes what agents send: `_bulk` and OTLP/HTTP logs. It answers at once, keeps nothing and counts.

    python3 Benchmarks/logs/receiver.py MARKER      prints its port; GET /count tells what came

Every item of a bulk request is answered with 201. `ended` is true once MARKER stood in a request.
"""

import json
import socket
import sys
import threading

ROOM = 1 << 20


class Tally:
    def __init__(self, marker):
        self.marker, self.lock = marker, threading.Lock()
        self.counts = {"requests": 0, "records": 0, "bytes": 0, "ended": False}
        self.answers = {}

    def take(self, path, body):
        records = body.count(b"\n") // 2 if b"_bulk" in path else 0
        ended = self.marker in body
        with self.lock:
            self.counts["requests"] += 1
            self.counts["records"] += records
            self.counts["bytes"] += len(body)
            self.counts["ended"] |= ended
            if records not in self.answers and len(self.answers) < 64:
                self.answers[records] = bulk_answer(records)
            return self.answers.get(records) or bulk_answer(records)


def bulk_answer(records):
    return b'{"took":1,"errors":false,"items":[' + b",".join([b'{"create":{"status":201}}'] * records) + b"]}"


class Connection:
    def __init__(self, sock, tally):
        self.sock, self.tally = sock, tally
        self.room = bytearray(ROOM)
        self.rest = b""

    def run(self):
        try:
            while self.request():
                pass
        except OSError:
            pass
        finally:
            self.sock.close()

    def more(self):
        n = self.sock.recv_into(self.room)
        self.rest += memoryview(self.room)[:n]
        return n > 0

    def request(self):
        while b"\r\n\r\n" not in self.rest:
            if not self.more():
                return False
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        method, path, _ = lines[0].split(b" ", 2)
        fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines[1:])}
        if fields.get(b"expect", b"").lower() == b"100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.chunked() if fields.get(b"transfer-encoding") == b"chunked" else self.whole(int(fields.get(b"content-length", 0)))
        if body is None:
            return False
        if path == b"/count":
            answer, kind = json.dumps(self.tally.counts).encode(), b"application/json"
        elif b"/v1/logs" in path:
            self.tally.take(path, body)
            answer, kind = b"", b"application/x-protobuf"
        elif b"_bulk" in path:
            answer, kind = self.tally.take(path, body), b"application/json"
        else:
            answer, kind = b'{"version":{"number":"8.0.0"},"tagline":"You Know, for Search"}', b"application/json"
        if method == b"HEAD":
            answer = b""
        self.sock.sendall(
            b"HTTP/1.1 200 OK\r\nx-elastic-product: Elasticsearch\r\ncontent-type: " + kind
            + b"\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
        return True

    def whole(self, length):
        body = bytearray(length)
        view = memoryview(body)
        at = min(length, len(self.rest))
        view[:at] = self.rest[:at]
        self.rest = self.rest[at:]
        while at < length:
            n = self.sock.recv_into(view[at:at + ROOM])
            if n == 0:
                return None
            at += n
        return body

    def chunked(self):
        body = bytearray()
        while True:
            while b"\r\n" not in self.rest:
                if not self.more():
                    return None
            size, _, self.rest = self.rest.partition(b"\r\n")
            piece = self.whole(int(size.split(b";")[0], 16) + 2)
            if piece is None:
                return None
            if len(piece) == 2:
                return body
            body += piece[:-2]


def main():
    tally = Tally(sys.argv[1].encode())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(sock, tally).run, daemon=True).start()


if __name__ == "__main__":
    main()
