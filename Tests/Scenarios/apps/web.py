"""A web app: web.py PORT [LINES_PER_REQUEST]. Echoes the request as JSON; logs a numbered line per request."""

import hashlib
import itertools
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

count = itertools.count()
healthy = True


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def answer(self):
        if self.path == "/healthz":
            return self.reply(200 if healthy else 503, b"ok\n")
        if self.path == "/fail":
            return self.reply(500, b"the app's own failure\n")
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        os.write(1, b"line-%d-end\n" % next(count))
        if self.path.startswith("/bytes/"):
            return self.reply(200, b"x" * int(self.path.split("/")[2]))
        self.reply(200, json.dumps({
            "method": self.command, "path": self.path, "pid": os.getpid(), "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(), "headers": [[k, v] for k, v in self.headers.items()]}).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def flip(*_):
    global healthy
    healthy = not healthy


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.signal(signal.SIGUSR2, flip)
Server(("127.0.0.1", int(sys.argv[1])), Web).serve_forever()
