"""The forward proxy, asked by curl and by Python's urllib, which find it in their environment."""

import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading

import pytest

import rig
from rig import wait_until

# What the app does: three requests by urllib, which reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
CLIENT = """
import json, os, signal, sys, urllib.request, urllib.error
urls, out = json.loads(sys.argv[1]), sys.argv[2]
answers = []
for url in urls:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            answers.append([reply.status, reply.read().decode()])
    except urllib.error.HTTPError as error:
        answers.append([error.code, error.read().decode()])
    except OSError as error:
        answers.append([0, str(error)])
names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
json.dump({"answers": answers, "env": {n: os.environ.get(n) for n in names}}, open(out + ".new", "w"))
os.replace(out + ".new", out)
signal.pause()
"""

# Names that only this run of outrider knows, in a mount namespace of its own.
HOSTS = "127.0.0.1 localhost\n127.0.0.66 two.test\n127.0.0.1 two.test\n127.0.0.1 shop.test\n"


@pytest.fixture
def with_hosts(place):
    """Runs a command with a hosts file of the test's own."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a mount namespace for a hosts file of the test's own needs root and unshare")
    (place / "hosts").write_text(HOSTS)
    return ["unshare", "-m", "sh", "-c", f'mount --bind {place}/hosts /etc/hosts && exec "$@"', "_"]


@pytest.fixture
def site():
    """A plain web server of this process on every loopback address but 127.0.0.66; its port and what it saw."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        seen = []

        def do_GET(self):
            self.seen.append((self.path, self.headers["Host"]))
            body = f"{self.path} for {self.headers['Host']}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], Handler.seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def secure_site(place):
    """An HTTPS server with a certificate of its own for localhost; (port, CA file)."""
    certificate, key = place / "site.pem", place / "site.key"
    subprocess.run(
        [rig.tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,DNS:shop.test,IP:127.0.0.1"], check=True, capture_output=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret " + self.path.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], certificate
    server.shutdown()
    server.server_close()


def curl(proxy, *arguments):
    return subprocess.run(
        [rig.tool("curl"), "-s", "-S", "--noproxy", "", "--proxy", f"http://127.0.0.1:{proxy}", "-m", "20", "-w",
         "\n%{http_code} %{http_connect}", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_the_app_finds_the_proxy_by_itself(start, place, site, secure_site, with_hosts):
    (plain, seen), (secure, authority) = site, secure_site
    proxy, admin = rig.free_port(), rig.free_port()
    urls = [f"http://shop.test:{plain}/a", f"https://shop.test:{secure}/b", f"http://two.test:{plain}/c",
            f"http://shop.test:{admin}/metrics", "http://no-such-name.invalid/"]
    (place / "client.py").write_text(CLIENT)
    out = place / "out.json"
    process = start(
        {"admin": {"listen": f"127.0.0.1:{admin}"},
         "app": {"proxy_env": True, "env": {"SSL_CERT_FILE": str(authority)}},
         "outbound": {"egress": {"listen": f"127.0.0.1:{proxy}", "forward_proxy": True}}},
        [sys.executable, str(place / "client.py"), json.dumps(urls), str(out)], wrap=with_hosts)
    wait_until(out.exists, "the app to have asked")
    result = json.loads(out.read_text())
    address = f"http://127.0.0.1:{proxy}"
    assert result["env"] == {
        "HTTP_PROXY": address, "http_proxy": address, "HTTPS_PROXY": address, "https_proxy": address,
        "NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}
    a, b, c, forbidden, unknown = result["answers"]
    assert a == [200, f"/a for shop.test:{plain}"] and b == [200, "secret /b"]
    # The first address of two.test refuses; the second answers.
    assert c == [200, f"/c for two.test:{plain}"], c
    assert forbidden[0] == 403 and "destination_denied" in forbidden[1]
    assert unknown[0] == 503 and "dns_failure" in unknown[1] and "no-such-name.invalid" in unknown[1]
    records = wait_until(
        lambda: (lambda lines: lines if len(lines) >= 5 else None)(process.logs("--source", "access")), "the records")
    assert any("CONNECT" in line and f"shop.test:{secure}" in line for line in records)
    process.stop()


def test_curl_through_the_proxy(start, site, secure_site):
    (plain, _), (secure, authority) = site, secure_site
    proxy = rig.free_port()
    process = start(
        {"outbound": {"egress": {"listen": f"127.0.0.1:{proxy}", "forward_proxy": {"ports": [plain, secure]}}}},
        ["sleep", "300"]).wait_ready()
    several = curl(proxy, *(f"http://localhost:{plain}/{n}" for n in range(5)))
    assert several.returncode == 0 and several.stdout.count(f"for localhost:{plain}") == 5, several
    tunnel = curl(proxy, "--cacert", authority, f"https://localhost:{secure}/x")
    assert tunnel.stdout == "secret /x\n200 200", tunnel
    forced = curl(proxy, "-p", f"http://127.0.0.1:{plain}/tunnelled")
    assert forced.stdout.startswith("/tunnelled for") and forced.stdout.endswith("200 200"), forced
    refused = curl(proxy, "--cacert", authority, f"https://localhost:{rig.free_port()}/")
    assert refused.returncode != 0 and refused.stdout.endswith("000 403"), refused
    reply = curl(proxy, "-i", f"http://localhost:{proxy}/loop")
    assert "Proxy-Status: outrider; error=http_request_denied" in reply.stdout
    process.stop()
