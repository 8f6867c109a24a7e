"""TLS through the real binary: curl, Python's ssl and openssl as clients, nginx and Outrider itself as upstreams."""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

import rig
from certificates import Authority
from rig import wait_until


@pytest.fixture
def authority(place):
    return Authority(place / "ca")


@pytest.fixture
def shop(start, python_app):
    """Outrider in front of a plain web app. shop(tls, **listener keys) returns (process, port)."""

    def starter(tls, **listener):
        app_port, port = rig.free_port(), rig.free_port()
        process = start(
            {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
             "inbound": {"web": {"listen": f"127.0.0.1:{port}", "tls": tls, **listener}}},
            python_app("web.py", app_port)).wait_ready()
        return process, port

    return starter


def files(pair):
    return {"certificate": str(pair[0]), "key": str(pair[1])}


def curl(port, name, *arguments, path="/", scheme="https"):
    return subprocess.run(
        [rig.tool("curl"), "-sS", "--max-time", "20", "--resolve", f"{name}:{port}:127.0.0.1", *map(str, arguments),
         f"{scheme}://{name}:{port}{path}"], capture_output=True, text=True, timeout=60)


def client(authority=None, pair=None, **options):
    context = ssl.create_default_context(cafile=str(authority.file)) if authority else ssl._create_unverified_context()
    if pair:
        context.load_cert_chain(*map(str, pair))
    for key, value in options.items():
        setattr(context, key, value)
    return context


@contextlib.contextmanager
def connected(port, context, name="web.shop", session=None):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        with context.wrap_socket(raw, server_hostname=name, session=session) as secure:
            yield secure


def ask(connection, path="/", close=False):
    """One request; the status, and the body."""
    end = "Connection: close\r\n" if close else ""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: web.shop\r\n{end}\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None, data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split(b" ")[1]), body


def metric(process, start):
    for line in process.admin("/metrics").text.splitlines():
        if line.startswith(start):
            return float(line.split(" ")[-1])
    return 0.0


def test_https_in_front_of_a_plain_app(shop, authority):
    """Three lines of YAML: listen, certificate, key. The app speaks plain HTTP and learns of the scheme."""
    process, port = shop(files(authority.issue("web", "DNS:web.shop")))
    result = curl(port, "web.shop", "--cacert", authority.file, "--http1.1")
    assert result.returncode == 0, result.stderr
    fields = {name.lower(): value for name, value in json.loads(result.stdout)["headers"]}
    assert fields["x-forwarded-proto"] == "https" and fields["host"] == f"web.shop:{port}"
    for version in ("--tls-max 1.2", "--tlsv1.3"):
        assert curl(port, "web.shop", "--cacert", authority.file, *version.split()).returncode == 0
    assert curl(port, "web.shop").returncode == 60, "curl trusts nobody whom it does not know"
    assert curl(port, "web.shop", "--cacert", authority.file, "--tls-max", "1.1").returncode != 0
    big = curl(port, "web.shop", "--cacert", authority.file, "-o", process.directory / "big", path="/bytes/30000000")
    assert big.returncode == 0 and (process.directory / "big").stat().st_size == 30_000_000
    assert 0 < metric(process, 'outrider_tls_certificate_expiry_seconds{listener="web",name="default"}') <= 2 * 86400
    assert metric(process, 'outrider_tls_handshakes_total{listener="web"}') >= 4
    line = process.wait_logs(lambda found: any('"tls"' in l for l in found), "an access record with its TLS version")
    assert any('"1.3"' in l or '1.3' in l for l in line)
    process.stop()


def test_clients_show_certificates(shop, authority, place):
    """Required, with SPIFFE and DNS names; what the access record calls the peer."""
    process, port = shop({**files(authority.issue("web", "DNS:web.shop")), "client_ca": str(authority.file),
                          "match": ["spiffe://shop/ns/*", "dns:cart.shop"]})
    trust = ["--cacert", authority.file]

    def present(pair):
        return ["--cert", pair[0], "--key", pair[1]]

    good = authority.issue("cart", "URI:spiffe://shop/ns/cart")
    assert curl(port, "web.shop", *trust, *present(good), path="/by-spiffe").returncode == 0
    named = authority.issue("dns", "DNS:cart.shop")
    assert curl(port, "web.shop", *trust, *present(named), path="/by-dns").returncode == 0
    stranger = Authority(place / "other", "another root").issue("cart", "URI:spiffe://shop/ns/cart")
    refused = {
        "no_certificate": [], "untrusted": present(stranger),
        "mismatch": present(authority.issue("ads", "URI:spiffe://shop/ads")),
    }
    for reason, arguments in refused.items():
        assert curl(port, "web.shop", *trust, *arguments, path=f"/{reason}").returncode != 0
        wait_until(
            lambda: metric(process, f'outrider_tls_handshake_failures_total{{listener="web",reason="{reason}"}}') >= 1,
            f"a failure counted as {reason}")
    expired = present(authority.issue("old", "URI:spiffe://shop/ns/cart", days=-1))
    assert curl(port, "web.shop", *trust, *expired).returncode != 0
    lines = process.wait_logs(lambda found: any("/by-dns" in l for l in found), "the access records")
    assert any("/by-spiffe" in l and "spiffe://shop/ns/cart" in l for l in lines)
    assert any("/by-dns" in l and "cart.shop" in l for l in lines)
    assert not any(f"/{reason}" in l for l in lines for reason in refused)
    wait_until(lambda: "CN=ads" in process.stderr and "spiffe://shop/ns/*" in process.stderr,
               "a line that says which name did not match")
    wait_until(lambda: "expired at" in process.stderr, "a line that says that it expired")
    assert metric(process, 'outrider_tls_handshake_failures_total{listener="web",reason="expired"}') == 1
    assert "PRIVATE" not in process.stderr
    process.stop()


def test_optional_client_certificates(shop, authority):
    process, port = shop({**files(authority.issue("web", "DNS:web.shop")), "client_ca": str(authority.file),
                          "client_certificate": "optional"})
    with connected(port, client(authority)) as connection:
        assert ask(connection, "/nobody")[0] == 200
    with connected(port, client(authority, authority.issue("cart", "DNS:cart.shop"))) as connection:
        assert ask(connection, "/somebody")[0] == 200
    lines = process.wait_logs(lambda found: any("/somebody" in l for l in found), "the access records")
    assert any("/somebody" in l and "cart.shop" in l for l in lines)
    process.stop()


def test_names_choose_certificates(shop, authority):
    process, port = shop({**files(authority.issue("web", "DNS:web.shop")),
                          "sni": {"api.shop": files(authority.issue("api", "DNS:api.shop")),
                                  "*.eu.shop": files(authority.issue("eu", "DNS:*.eu.shop"))}})
    for name in ("web.shop", "api.shop", "de.eu.shop"):
        assert curl(port, name, "--cacert", authority.file).returncode == 0, name
    assert curl(port, "other.shop", "--cacert", authority.file).returncode == 60
    process.stop()


def test_permissive(shop, authority):
    process, port = shop({**files(authority.issue("web", "DNS:web.shop")), "permissive": True})
    assert rig.request(port, "/plain").status == 200
    assert curl(port, "web.shop", "--cacert", authority.file).returncode == 0
    process.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(shop, authority, version):
    process, port = shop({**files(authority.issue("web", "DNS:web.shop")), "client_ca": str(authority.file),
                          "client_certificate": "optional"})
    context = client(authority, authority.issue("cart", "DNS:cart.shop"), minimum_version=version,
                     maximum_version=version)
    with connected(port, context) as first:
        assert ask(first)[0] == 200
        session, reused = first.session, first.session_reused
    assert not reused
    with connected(port, context, session=session) as second:
        assert second.session_reused
        assert ask(second, "/resumed")[0] == 200
    lines = process.wait_logs(lambda found: any("/resumed" in l for l in found), "the access record")
    assert any("/resumed" in l and "cart.shop" in l for l in lines), "the identity outlives the handshake"
    process.stop()


def test_rotation_under_load_loses_nothing(shop, authority, place):
    """A new certificate every second for half a minute, switched as Kubernetes does it: no failed request, and new
    handshakes use it."""
    versions = [authority.issue(f"v{number}", "DNS:web.shop") for number in range(31)]
    mount = place / "mount"

    def switch(number):
        version = mount / f"..{number}"
        version.mkdir(parents=True)
        for source, name in zip(versions[number], ("tls.crt", "tls.key")):
            (version / name).write_bytes(source.read_bytes())
        (mount / "..next").symlink_to(f"..{number}")
        (mount / "..next").rename(mount / "..data")

    switch(0)
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    process, port = shop(files((mount / "tls.crt", mount / "tls.key")))
    stop, failures, done = threading.Event(), [], [0, 0]

    def load(index, reconnects):
        context = client(authority)
        while not stop.is_set():
            try:
                with connected(port, context) as connection:
                    for _ in range(1 if reconnects else 10_000):
                        assert ask(connection)[0] == 200
                        done[index] += 1
                        if stop.is_set():
                            break
            except Exception as error:  # every failure counts, whatever it is
                failures.append(repr(error))

    threads = [threading.Thread(target=load, args=pair) for pair in ((0, True), (1, False), (0, True))]
    for thread in threads:
        thread.start()

    def serves(number):
        with connected(port, client(authority)) as connection:
            return dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"] == f"v{number}"

    try:
        with connected(port, client(authority)) as old:
            for number in range(1, len(versions)):
                second = time.monotonic() + 1
                switch(number)
                wait_until(lambda: serves(number), f"certificate {number} to be served", every=0.02)
                stop.wait(second - time.monotonic())
            assert ask(old)[0] == 200, "an established connection stays"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:5]
    assert min(done) > 50
    process.stop()


def test_a_bad_rotation_keeps_the_last_good_one(shop, authority, place):
    live = (place / "live.pem", place / "live.key")

    def put(pair):
        for source, target in zip(pair, live):
            (place / "new").write_bytes(source.read_bytes())
            (place / "new").rename(target)

    put(authority.issue("good", "DNS:web.shop"))
    process, port = shop(files(live))
    put((authority.issue("expired", "DNS:web.shop", days=-1)))
    wait_until(lambda: "CN=expired" in process.stderr and "expired at" in process.stderr, "the error about its date")
    put((authority.issue("one", "DNS:web.shop")[0], authority.issue("other", "DNS:web.shop")[1]))
    wait_until(lambda: "does not belong to the certificate of CN=one" in process.stderr, "the error about the pair")
    assert str(live[0]) in process.stderr and "PRIVATE KEY" not in process.stderr
    assert curl(port, "web.shop", "--cacert", authority.file).returncode == 0
    put(authority.issue("better", "DNS:web.shop"))
    wait_until(lambda: "new handshakes use the new certificate" in process.stderr, "the recovery")
    process.stop()


def test_an_expired_certificate_at_the_start(start, authority):
    process = start(
        {"app": {"port": 1}, "inbound": {"web": {"listen": f"127.0.0.1:{rig.free_port()}",
                                                 "tls": files(authority.issue("old", "DNS:web.shop", days=-1))}}},
        ["sleep", "60"])
    assert process.wait() == 78
    assert "inbound.web.tls" in process.stderr and "CN=old" in process.stderr and "expired at" in process.stderr


# Towards upstreams.


@pytest.fixture
def secure_nginx(place, ending):
    """nginx with TLS: secure_nginx(pair, more) returns its port."""

    def starter(pair, more=""):
        port, directory = rig.free_port(), place / "nginx-tls"
        directory.mkdir()
        (directory / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {directory}/pid; error_log stderr;\n"
            "events { worker_connections 512; }\nhttp { access_log off;\n"
            + "".join(f"{kind}_temp_path {directory}/{kind};\n"
                      for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]}; {more}\n"
            + "location / { return 200 \"$ssl_server_name $ssl_client_s_dn $host\\n\"; } } }\n")
        process = rig.Process([rig.tool("nginx"), "-c", directory / "nginx.conf", "-p", directory], place, "nginx-tls")
        ending.append(process)

        def answers():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    return True
            except OSError:
                return False

        wait_until(answers, "nginx to listen")
        return port

    return starter


@pytest.fixture
def way_out(start):
    """way_out(cluster, env) returns (process, port of the outbound listener)."""

    def starter(cluster, env=None, to="up", **listener):
        port = rig.free_port()
        process = start(
            {"outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": to, "retries": 0, **listener}},
             **({"clusters": {"up": cluster}} if cluster else {})}, ["sleep", "300"], env=env).wait_ready()
        return process, port

    return starter


def test_nginx_behind_tls(secure_nginx, way_out, authority):
    upstream = secure_nginx(authority.issue("up", "DNS:localhost"))
    process, port = way_out({"endpoints": [f"localhost:{upstream}"], "tls": {"ca": str(authority.file)}})
    reply = rig.request(port, "/")
    assert (reply.status, reply.text.split()) == (200, ["localhost", "localhost"])
    process.stop()


def test_an_https_url_trusts_the_system(secure_nginx, way_out, authority):
    upstream = secure_nginx(authority.issue("up", "DNS:localhost"))
    process, port = way_out(None, env={"SSL_CERT_FILE": str(authority.file)}, to=f"https://localhost:{upstream}")
    assert rig.request(port, "/").status == 200
    process.stop()


@pytest.mark.parametrize("case", ["name", "expired", "authority", "match", "plain"])
def test_a_bad_upstream_is_named(secure_nginx, nginx, way_out, authority, place, case):
    names, days, signer, tls = "DNS:localhost", 2, authority, {"ca": str(authority.file)}
    if case == "name":
        names, wanted = "DNS:other.shop", ["tls_certificate_error", "dns:other.shop, not for localhost", "upstream"]
    elif case == "expired":
        days, wanted = -1, ["tls_certificate_error", "CN=up expired at 20", "upstream"]
    elif case == "authority":
        signer, wanted = Authority(place / "other", "another root"), [
            "tls_certificate_error", "issued by CN=another root", str(authority.file), "config"]
    elif case == "match":
        tls["match"], wanted = ["spiffe://shop/pay"], ["tls_certificate_error", "not for spiffe://shop/pay", "upstream"]
    else:
        wanted = ["tls_protocol_error", "upstream"]
    upstream = nginx() if case == "plain" else secure_nginx(signer.issue("up", names, days))
    process, port = way_out({"endpoints": [f"localhost:{upstream}"], "tls": tls})
    reply = rig.request(port, "/")
    assert reply.status == 503
    said = reply.headers["Proxy-Status"] + " " + reply.json["blame"]
    assert all(text in said for text in wanted), said
    lines = process.wait_logs(lambda found: any("UF" in l for l in found), "the access record")
    assert any('"UF"' in l or "UF" in l for l in lines)
    process.stop()


def test_nginx_asks_for_our_certificate(secure_nginx, way_out, authority):
    upstream = secure_nginx(
        authority.issue("up", "DNS:localhost"), f"ssl_client_certificate {authority.file}; ssl_verify_client on;")
    process, port = way_out(
        {"endpoints": [f"localhost:{upstream}"],
         "tls": {"ca": str(authority.file), **files(authority.issue("me", "URI:spiffe://shop/web"))}})
    reply = rig.request(port, "/")
    assert reply.status == 200 and "CN=me" in reply.text
    process.stop()


def test_tcp_listeners_speak_tls_on_both_sides(start, authority):
    """psql-like: octets in TLS in, octets in TLS out, through two listeners of one sidecar."""
    inner, outer = rig.free_port(), rig.free_port()
    pair = authority.issue("web", "DNS:web.shop,DNS:localhost")
    server = socket.create_server(("127.0.0.1", 0))

    def echo():
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data[::-1])

    thread = threading.Thread(target=echo)
    thread.start()
    process = start(
        {"outbound": {
            "plain": {"listen": f"127.0.0.1:{outer}", "protocol": "tcp", "to": "near"},
            "secure": {"listen": f"127.0.0.1:{inner}", "protocol": "tcp", "to": "far", "tls": files(pair)}},
         "clusters": {
             "near": {"endpoints": [f"localhost:{inner}"], "tls": {"ca": str(authority.file)}},
             "far": {"endpoints": [f"127.0.0.1:{server.getsockname()[1]}"]}}}, ["sleep", "300"]).wait_ready()
    with socket.create_connection(("127.0.0.1", outer), timeout=20) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"olleh"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"", "the end of one half travels through both TLS hops and back"
    thread.join()
    server.close()
    process.stop()


# From a secret.


@pytest.fixture
def pki(bao):
    """OpenBao with a root at `pki` and the role `web`."""
    bao.api("POST", "sys/mounts/pki", {"type": "pki"})
    bao.api("POST", "sys/mounts/pki/tune", {"max_lease_ttl": "87600h"})
    root = bao.api("POST", "pki/root/generate/internal", {"common_name": "lab root", "ttl": "87600h", "key_type": "ec"})
    bao.api("POST", "pki/roles/web", {
        "allow_any_name": True, "enforce_hostnames": False, "allowed_uri_sans": "spiffe://*", "key_type": "ec",
        "max_ttl": "72h"})
    return bao, root["data"]["certificate"]


def test_a_certificate_that_never_touches_a_disk(start, python_app, place, pki):
    """OpenBao issues, both hops of mTLS use it, and it is renewed while requests pass."""
    bao, root = pki
    (place / "token").write_text("root")
    (place / "root.pem").write_text(root)
    inbound, outbound, app_port = rig.free_port(), rig.free_port(), rig.free_port()
    process = start(
        {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
         "inbound": {"web": {"listen": f"127.0.0.1:{inbound}", "tls": {
             "from": "secrets.web", "client_certificate": "required", "match": "spiffe://lab/*"}}},
         "outbound": {"self": {"listen": f"127.0.0.1:{outbound}", "to": "web"}},
         "clusters": {"web": {"endpoints": [f"localhost:{inbound}"], "tls": {
             "from": "secrets.web", "ca": "secrets.web", "match": "spiffe://lab/web"}}},
         "secrets": {
             "stores": {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}},
             "values": {"web": {"pki": "pki/issue/web", "common_name": "web.lab", "alt_names": ["localhost"],
                                "uri_sans": "spiffe://lab/web", "ttl": "12s"}}}},
        python_app("web.py", app_port)).wait_ready()
    assert rig.request(outbound, "/through-both").status == 200
    lines = process.wait_logs(lambda found: any("/through-both" in l and "spiffe" in l for l in found), "the record")
    assert any("spiffe://lab/web" in l for l in lines)

    first = bao.api("LIST", "pki/certs")["data"]["keys"]
    wait_until(lambda: len(bao.api("LIST", "pki/certs")["data"]["keys"]) > len(first), "a renewal at 2/3 of 12 s")
    assert rig.request(outbound, "/after").status == 200
    assert metric(process, 'outrider_tls_certificate_expiry_seconds{listener="web",name="default"}') > 0
    for path in [place / "state", *place.rglob("*")]:
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes(), path
    process.stop()


def test_a_secret_that_is_no_certificate_is_refused_before_anything_runs(place):
    (place / "outrider.yaml").write_text(json.dumps({
        "app": {"port": 1}, "inbound": {"web": {"listen": ":2", "tls": {"from": "secrets.one", "client_ca": "secrets.nix"}}},
        "secrets": {"stores": {"env": {}}, "values": {"one": {"key": "ONE"}}}}))
    result = rig.run("validate", "--config", place / "outrider.yaml")
    assert result.returncode == 78
    assert "`one` is one value of the environment" in result.stderr + result.stdout
    assert "the secret `nix` is not declared" in result.stderr + result.stdout
