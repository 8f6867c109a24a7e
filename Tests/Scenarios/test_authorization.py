"""Who may do what, through the real binary: tokens made by PyJWT, certificates, a service that is asked, limits, faults."""

import contextlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

import rig
from certificates import Authority
from rig import wait_until

ISSUER = "https://login.shop"


class Keys:
    """A private key of each kind, and their public halves as a key set."""

    def __init__(self, name):
        self.name = name
        self.private = {
            "RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1()),
            "ES384": ec.generate_private_key(ec.SECP384R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}

    def of(self, algorithm):
        return self.private["RS256" if algorithm[:2] in ("RS", "PS") else algorithm]

    def token(self, algorithm="ES256", lifetime=600, headers=None, **claims):
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "shop", "iat": now, "exp": now + lifetime, "sub": "ann", **claims}
        kid = f"{self.name}-{'RS256' if algorithm[:2] in ('RS', 'PS') else algorithm}"
        return jwt.encode(claims, self.of(algorithm), algorithm=algorithm, headers={"kid": kid, **(headers or {})})

    @property
    def set(self):
        kinds = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "ES384": ECAlgorithm, "EdDSA": OKPAlgorithm}
        return {"keys": [
            {**json.loads(kinds[name].to_jwk(key.public_key())), "kid": f"{self.name}-{name}", "use": "sig"}
            for name, key in self.private.items()]}


def publish(path, *keys):
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"keys": [key for one in keys for key in one.set["keys"]]}))
    fresh.replace(path)


@contextlib.contextmanager
def serving(answer, pair=None):
    """answer(method, path, headers) gives (status, headers, body); `pair` is a certificate with its key."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self):
            status, headers, body = answer(self.command, self.path, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = handle_one

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        connections = []

        def process_request(self, connection, address):
            self.connections.append(connection)
            super().process_request(connection, address)

        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, pair))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in server.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def shop(start, python_app):
    """Outrider in front of a web app. shop(**listener keys) returns (process, port)."""

    def starter(**listener):
        app_port, port = rig.free_port(), rig.free_port()
        process = start(
            {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
             "inbound": {"web": {"listen": f"127.0.0.1:{port}", **listener}}},
            python_app("web.py", app_port)).wait_ready()
        return process, port

    return starter


def bearer(token, **more):
    return {"Authorization": f"Bearer {token}", **more}


def metric(process, start):
    return sum(float(line.split(" ")[-1]) for line in process.admin("/metrics").text.splitlines() if line.startswith(start))


def test_tokens_of_every_kind(shop, place):
    """Real tokens; what is refused says why; neither logs nor answers hold a token; a rotation of keys is followed."""
    keys, others = Keys("one"), Keys("two")
    publish(place / "keys.json", keys)
    process, port = shop(
        authorize={
            "jwt": {"issuer": ISSUER, "audiences": ["shop"], "jwks": {"file": str(place / "keys.json")},
                    "claims_to_headers": {"sub": "X-User", "realm.roles": "X-Roles"}}},
        routes=[{"match": {"path": "/admin/*"}, "to": "app",
                 "authorize": {"rbac": {"allow": [{"jwt": {"realm.roles": ["admin"]}}]}}}])
    for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"):
        reply = rig.request(port, "/", headers=bearer(keys.token(algorithm), **{"X-User": "root", "X_Roles": "admin"}))
        assert reply.status == 200, (algorithm, reply.text)
        fields = {name.lower(): value for name, value in reply.json["headers"]}
        assert fields["x-user"] == "ann" and "authorization" not in fields
        assert "x_roles" not in fields and "x-roles" not in fields
    good = keys.token(realm={"roles": ["user"]})
    refused = {
        "carries no token": None, "has expired": keys.token(lifetime=-120), "not valid yet": keys.token(nbf=int(time.time()) + 600),
        "another issuer": keys.token(iss="https://evil"), "signature is not valid": others.token(headers={"kid": "one-ES256"}),
        "no key of the key set": others.token(),
        "algorithm is not allowed": jwt.encode({"iss": ISSUER}, "s" * 32, algorithm="HS256", headers={"kid": "one-ES256"}),
        "no signed JWT": good[:-10] + "=" * 10, "longer than 8 KiB": "a" * 9000,
    }
    for reason, token in refused.items():
        reply = rig.request(port, "/refused", headers=bearer(token) if token else {})
        assert reply.status == 401 and reason in reply.text, (reason, reply.status, reply.text)
        assert reply.json["blame"] == "client" and "Bearer" in reply.headers["WWW-Authenticate"]
        assert token is None or token not in reply.text
    unsigned = jwt.encode({"iss": ISSUER}, None, algorithm="none")
    assert rig.request(port, "/refused", headers=bearer(unsigned)).status == 401
    assert rig.request(port, "/", headers=bearer(keys.token(aud="cart"))).status == 403
    # Claims decide about routes, however the path is spelt.
    admin = keys.token(realm={"roles": ["user", "admin"]})
    for path in ("/admin/x", "/%61dmin/x", "//admin/x", "/a/../admin/x", "/admin%2fx", "/..;/admin/x"):
        assert rig.request(port, path, headers=bearer(good)).status == 403, path
    assert rig.request(port, "/admin/x", headers=bearer(admin)).json["path"] == "/admin/x"
    # Keys are exchanged.
    publish(place / "keys.json", keys, others)
    wait_until(lambda: rig.status_of(port, headers=bearer(others.token())) == 200, "the new keys to be taken")
    publish(place / "keys.json", others)
    wait_until(lambda: rig.status_of(port, headers=bearer(good)) == 401, "the old keys to be gone")
    (place / "keys.json").write_text("{")
    wait_until(lambda: "the last good key set stays in use" in process.stderr, "a line about the broken file")
    assert rig.status_of(port, headers=bearer(others.token())) == 200
    assert metric(process, 'outrider_authorization_total{direction="inbound",listener="web",filter="jwt",result="denied"}') >= 11
    lines = process.wait_logs(lambda found: sum("/refused" in line for line in found) >= 10, "the access records")
    assert all('"UAEX"' in line or "UAEX" in line for line in lines if "/refused" in line)
    everything = "\n".join(lines) + process.stderr
    assert not any(token and token in everything for token in [good, admin, *refused.values()])
    process.stop()


def test_keys_from_a_url(shop, place):
    """Of an authority of our own. Fetched at the start, at once for a key that is new, and kept when their server is gone."""
    keys, later = Keys("one"), Keys("two")
    published, fetched = [keys], []

    def answer(method, path, headers):
        fetched.append(path)
        body = json.dumps({"keys": [key for one in published for key in one.set["keys"]]}).encode()
        return 200, {"Content-Type": "application/json"}, body

    authority = Authority(place / "ca")
    with serving(answer, authority.issue("login", "DNS:localhost")) as server:
        process, port = shop(authorize={"jwt": {"issuer": ISSUER, "jwks": {
            "url": f"https://localhost:{server}/keys", "refresh": "1h", "ca": str(authority.file)}}})
        assert rig.request(port, headers=bearer(keys.token("RS256"))).status == 200
        assert fetched == ["/keys"]
        published.append(later)
        # The first token with a new key waits for it: no request is lost.
        assert rig.request(port, headers=bearer(later.token())).status == 200
        assert rig.request(port, headers=bearer(Keys("three").token())).status == 401
        assert len(fetched) == 2
    assert rig.request(port, headers=bearer(later.token())).status == 200
    process.stop()


def test_no_keys_no_entry(shop):
    process, port = shop(authorize={
        "jwt": {"issuer": ISSUER, "jwks": {"url": f"http://127.0.0.1:{rig.free_port()}/keys"}}})
    reply = rig.request(port, headers=bearer(Keys("one").token()))
    assert reply.status == 503 and reply.json["reason"] == "keys_unavailable" and reply.json["blame"] == "config"
    wait_until(lambda: "cannot load the key set" in process.stderr, "a line that says so")
    process.stop()


def test_certificates_and_rules(shop, place):
    """SPIFFE ids by pattern; without a certificate nobody; PUT for some alone."""
    authority = Authority(place / "ca")
    certificate, key = authority.issue("web", "DNS:web.shop")
    process, port = shop(
        tls={"certificate": str(certificate), "key": str(key), "client_ca": str(authority.file),
             "client_certificate": "optional"},
        authorize={"rbac": {
            "allow": [{"principals": ["spiffe://shop/ns/*/sa/cart"]}, {"sources": ["127.0.0.0/8"], "paths": ["/public/*"]}],
            "deny": [{"methods": ["PUT"], "headers": {"X-Dangerous": "*"}}]}})

    def ask(path, name=None, names=None, *more):
        pair = []
        if name:
            certificate, key = authority.issue(name, names)
            pair = ["--cert", certificate, "--key", key]
        result = subprocess.run(
            [rig.tool("curl"), "-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--max-time", "20", "--path-as-is",
             "--cacert", authority.file, "--resolve", f"web.shop:{port}:127.0.0.1", *map(str, pair), *more,
             f"https://web.shop:{port}{path}"], capture_output=True, text=True, timeout=60)
        return result.stdout

    for protocol, shown in (("--http1.1", "1.1"), ("--http2", "2")):
        assert ask("/x", "cart", "URI:spiffe://shop/ns/eu/sa/cart", protocol) == f"200 {shown}"
        assert ask("/x", "ads", "URI:spiffe://shop/ns/eu/sa/ads", protocol) == f"403 {shown}"
        assert ask("/x", None, None, protocol) == f"403 {shown}"
        assert ask("/public/x", None, None, protocol) == f"200 {shown}"
        assert ask("/public/../x", None, None, protocol) == f"403 {shown}"
        assert ask("/public/..%2fx", None, None, protocol) == f"403 {shown}"
        put = (protocol, "-X", "PUT", "-H", "X-Dangerous: 1")
        assert ask("/x", "cart", "URI:spiffe://shop/ns/eu/sa/cart", *put) == f"403 {shown}"
    process.stop()


def test_streams_by_certificate(start, place):
    """A TCP listener judges the certificate when the handshake is over; what is denied never reaches the upstream."""
    authority = Authority(place / "ca")
    certificate, key = authority.issue("db", "DNS:db.shop")
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        port, reached = rig.free_port(), []

        def greet():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = upstream.accept()
                    reached.append(1)
                    connection.sendall(b"hello")
                    connection.close()

        threading.Thread(target=greet, daemon=True).start()
        process = start(
            {"outbound": {"db": {
                "listen": f"127.0.0.1:{port}", "to": f"tcp://127.0.0.1:{upstream.getsockname()[1]}",
                "tls": {"certificate": str(certificate), "key": str(key), "client_ca": str(authority.file)},
                "authorize": {"rbac": {"allow": [{"principals": ["spiffe://shop/app"]}]}}}}},
            ["sleep", "300"]).wait_ready()

        def connect(name, names):
            context = ssl.create_default_context(cafile=str(authority.file))
            context.load_cert_chain(*map(str, authority.issue(name, names)))
            with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
                with context.wrap_socket(raw, server_hostname="db.shop", suppress_ragged_eofs=True) as secure:
                    try:
                        return secure.recv(5)
                    except OSError:
                        return b""

        assert connect("app", "URI:spiffe://shop/app") == b"hello"
        assert connect("ads", "URI:spiffe://shop/ads") == b"" and len(reached) == 1
        denied = 'outrider_authorization_total{direction="outbound",listener="db",filter="rbac",result="denied"}'
        assert metric(process, denied) == 1
        process.stop()


def test_a_service_is_asked(shop, place):
    """Its fields reach the app in place of the client's; its refusal reaches the client; its silence is closed."""
    silent = threading.Event()

    def answer(method, path, headers):
        if path.startswith("/check/silent"):
            silent.wait(20)
        if path.startswith("/check/login"):
            return 302, {"Location": "https://login.shop/", "Set-Cookie": "state=1"}, b"log in"
        if headers.get("Cookie") != "session=ann":
            return 403, {"X-Reason": "no session"}, b"who are you?"
        return 200, {"X-User": "ann", "X-Path": path}, b""

    authority = Authority(place / "ca")
    with serving(answer, authority.issue("auth", "DNS:localhost")) as server:
        process, port = shop(authorize={"external": {
            "url": f"https://localhost:{server}", "ca": str(authority.file), "path_prefix": "/check", "timeout": "2s", "headers": ["Cookie"],
            "allowed_headers": ["X-User", "X-Path"]}})
        body = os.urandom(200_000)
        reply = rig.request(port, "/cart?a=1", "POST", body, {"Cookie": "session=ann", "X-User": "root", "x_user": "root"})
        fields = {name.lower(): value for name, value in reply.json["headers"]}
        assert reply.json["length"] == len(body) and fields["x-user"] == "ann" and fields["x-path"] == "/check/cart?a=1"
        assert "x_user" not in fields
        odd = rig.request(port, "/a%2fb/..%20/x?q=%41&r=a+b", headers={"Cookie": "session=ann"})
        assert dict(odd.json["headers"])["X-Path"] == "/check/a%2fb/..%20/x?q=%41&r=a+b", "asked about what goes on"
        denied = rig.request(port, "/cart")
        assert (denied.status, denied.text, denied.headers["X-Reason"]) == (403, "who are you?", "no session")
        login = rig.request(port, "/login")
        assert login.status == 302 and login.headers["Set-Cookie"] == "state=1"
        slow = rig.request(port, "/silent", headers={"Cookie": "session=ann"})
        assert slow.status == 403 and slow.json["reason"] == "authorization_failed" and slow.json["blame"] == "upstream"
        silent.set()
    closed = rig.request(port, "/cart", headers={"Cookie": "session=ann"})
    assert closed.status == 403 and closed.json["reason"] == "authorization_failed"
    process.stop()


def test_limits_and_faults(start, python_app):
    """429 with Retry-After; buckets outlive a reload that does not change them; failures on purpose are counted."""
    app_port, port = rig.free_port(), rig.free_port()

    def configuration(**listener):
        return {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
                "admin": {"listen": f"127.0.0.1:{admin}"},
                "inbound": {"web": {"listen": f"127.0.0.1:{port}", **listener}}}

    admin = rig.free_port()
    rate = {"rate": [{"requests": 5, "per": "1h"}, {"requests": 2, "per": "1h", "by": {"header": "X-Key"}}]}
    process = start(configuration(limits=rate), python_app("web.py", app_port)).wait_ready()

    def change(**listener):
        process.write_config(configuration(**listener))
        result = rig.run("reload", "--state", process.state)
        assert result.returncode == 0, result.stderr

    statuses = [rig.request(port, headers={"X-Key": key}).status for key in "aaabbb"]
    assert statuses == [200, 200, 429, 200, 200, 429]
    limited = rig.request(port, headers={"X-Key": "a"})
    assert limited.json["reason"] == "rate_limited" and int(limited.headers["Retry-After"]) > 1700
    change(limits=rate, timeout="9s")
    assert [rig.request(port, headers={"X-Key": key}).status for key in "cd"] == [200, 429]
    change(fault={"abort": {"status": 503, "fraction": "100%"}}, routes=[{"match": {"path": "/fine"}, "to": "app"}])
    aborted = rig.request(port, "/fine")
    assert aborted.status == 503 and aborted.json["reason"] == "fault_injected" and aborted.json["blame"] == "sidecar"
    change(fault={"delay": {"duration": "300ms", "fraction": 1}})
    before = time.monotonic()
    assert rig.request(port).status == 200 and time.monotonic() - before >= 0.3
    assert metric(process, "outrider_rate_limited_total") == 4
    assert metric(process, "outrider_faults_injected_total") == 2
    process.stop()


def test_the_example_is_valid():
    """Examples/authorization holds what this version takes."""
    result = rig.run("validate", "--config", str(rig.ROOT / "Examples" / "authorization" / "outrider.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
