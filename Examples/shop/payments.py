"""The payments service beside the shop: it fails now and then, by plan.

    PUT /charges/ID   200 with the charge; every third call answers 503
    GET /stats        {"calls", "failed", "charges"}

    python3 payments.py [PORT]     (0, the default, takes a free one; the port is printed)
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
calls, failed, charges = 0, 0, {}


class Payments(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_PUT(self):
        global calls, failed
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with lock:
            calls += 1
            is_bad = calls % 3 == 0
            if is_bad:
                failed += 1
            else:
                charges[self.path] = json.loads(body or b"{}")
        if is_bad:
            return self.reply(503, {"error": "payments is having a moment"})
        if not self.headers.get("X-Payment-Key"):
            return self.reply(401, {"error": "no payment key"})
        self.reply(200, {"charged": self.path.rsplit("/", 1)[-1]})

    def do_GET(self):
        self.reply(200, {"calls": calls, "failed": failed, "charges": len(charges)})

    def reply(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Payments)
    print(server.server_address[1], flush=True)
    server.serve_forever()
