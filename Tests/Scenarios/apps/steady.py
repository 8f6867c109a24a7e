"""A web app beside a writer of lines: steady.py PORT LINES_PER_SECOND.

The web part answers "ok", `/bytes/N` N octets, `/hold/N` "ok" while N MiB more are in use (`/hold/0` lets go). The writer is a
process of its own that a SIGPIPE ends: numbered lines, even ones to stdout, odd ones to stderr, and `writer-wrote-N-lines`
after TERM. When it ends by itself the app ends with 99.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def write(rate):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    ended, number = threading.Event(), 0
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(1 / rate):
        os.write(1 + number % 2, b"line-%d-end\n" % number)
        number += 1
    os.write(1, b"writer-wrote-%d-lines\n" % number)
    os._exit(0)


writer = os.fork()
if writer == 0:
    write(float(sys.argv[2]))

held = []


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = self.path.split("/")
        if parts[1] == "hold":
            held.clear()
            held.append(bytearray(b"\1") * (int(parts[2]) << 20))
        body = b"x" * int(parts[2]) if parts[1] == "bytes" else b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        pass


def watch():
    _, status = os.waitpid(writer, 0)
    os._exit(0 if status == 0 else 99)


signal.signal(signal.SIGTERM, lambda *_: None)
threading.Thread(target=watch).start()
Server(("127.0.0.1", int(sys.argv[1])), Web).serve_forever()
