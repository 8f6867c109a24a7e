"""A tiny web shop. It knows its business and nothing else: no retries, no log shipping, no secret store.

    GET  /         the shelf
    GET  /healthz  fit to serve?
    POST /buy      sells one item: asks payments, by way of Outrider's outbound listener, to charge it

Environment: APP_PORT (its own port), PAYMENTS_URL (Outrider's outbound listener), PAYMENT_KEY (a secret).
Standard library only.
"""

import itertools
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("APP_PORT", "8080"))
PAYMENTS = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:9001")
KEY = os.environ.get("PAYMENT_KEY", "")
ITEMS = {"tea": 420, "cup": 1250}
orders = itertools.count(1)


def log(level, message, **fields):
    """One JSON line on stdout: Outrider makes a record of it."""
    print(json.dumps({"level": level, "message": message, **fields}), flush=True)


def masked(secret):
    return secret[:3] + "*" * max(len(secret) - 5, 3) + secret[-2:] if len(secret) > 8 else "********"


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        # A plain text line on stderr, as many programs write them.
        print("INFO " + format % args, file=sys.stderr, flush=True)

    def do_GET(self):
        if self.path == "/healthz":
            self.reply(200, {"ok": True})
        elif self.path == "/":
            self.reply(200, {"shelf": ITEMS})
        else:
            self.reply(404, {"error": f"no page {self.path}"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/buy":
            return self.reply(404, {"error": f"no page {self.path}"})
        order = next(orders)
        try:
            self.reply(200, {"order": order, "charge": self.charge(order)})
            log("info", f"order {order} paid", order=order)
        except (urllib.error.URLError, OSError) as error:
            log("error", f"order {order} not paid: {error}", order=order)
            self.reply(502, {"order": order, "error": "payments did not answer"})

    def charge(self, order):
        """Charging is a PUT under the order's number: to send it twice charges once, so it may be retried."""
        request = urllib.request.Request(
            f"{PAYMENTS}/charges/{order}", method="PUT", data=json.dumps({"amount": ITEMS["tea"]}).encode(),
            headers={"Content-Type": "application/json", "X-Payment-Key": KEY,
                     "X-Request-Id": self.headers.get("X-Request-Id", "")})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def reply(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log("info", "shop opens", port=PORT, key_masked=masked(KEY))
    # A mistake that happens in real programs. Outrider knows the value and keeps it out of every record.
    print(f"DEBUG payment key is {KEY}", flush=True)
    ThreadingHTTPServer(("127.0.0.1", PORT), Shop).serve_forever()
