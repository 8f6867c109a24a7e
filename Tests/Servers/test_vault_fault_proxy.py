"""The fault proxy itself, before a plain server of the standard library."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.server.seen.append(self.path)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def behave(proxy, *rules):
    assert proxy.call("POST", "/_behave", {"rules": list(rules)})[0] == 200


def test_forwards_and_counts(proxy, upstream):
    assert proxy.call("GET", "/v1/a") == (200, b"ok")
    assert upstream.seen == ["/v1/a"]
    assert proxy.call("DELETE", "/_counts")[1] == {"GET /v1/a": 1}
    assert proxy.call("GET", "/_counts")[1] == {}


def test_rules_by_path_method_and_times(proxy, upstream):
    behave(proxy, {"path": "^/v1/sys", "method": "PUT", "do": "status", "status": 503},
           {"path": "/once$", "times": 1, "do": "status", "status": 429})
    assert proxy.call("PUT", "/v1/sys/leases/renew", b"{}")[0] == 503
    assert proxy.call("GET", "/v1/sys/health") == (200, b"ok")
    assert [proxy.call("GET", "/once")[0] for _ in range(2)] == [429, 200]
    assert upstream.seen == ["/v1/sys/health", "/once"]


def test_resets_and_loses_answers(proxy, upstream):
    for what, seen in (("reset", []), ("lose", ["/x"])):
        behave(proxy, {"do": what})
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            proxy.call("GET", "/x")
        assert upstream.seen == seen


def test_hangs_until_the_rules_change(proxy, upstream):
    behave(proxy, {"path": "/x", "do": "hang"})
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("GET", "/x")
    behave(proxy)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        connection.getresponse()
    assert upstream.seen == [] and proxy.call("GET", "/x") == (200, b"ok")
