"""Every way to log in to a real OpenBao, and certificates whose key never leaves the sidecar."""

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

import rig
from rig import wait_until
from vault_lab import Lab

READ = "secret/data/* read"


@pytest.fixture(scope="module")
def lab():
    path = pathlib.Path(tempfile.mkdtemp(prefix="otl-"))
    server = Lab(path)
    server.api("POST", "secret/data/db", {"data": {"value": "behind-a-login"}})
    yield server
    server.end()
    shutil.rmtree(path, ignore_errors=True)


def run(start, address, auth, target, wait=True, values=None, **vault):
    process = start({"secrets": {
        "stores": {"vault": {"address": address, "auth": auth, **vault}},
        "values": values or {"db": {"kv": "secret/db", "refresh": "1s"}},
        "files": [{"path": str(target), "template": "${secrets.db.value}"}]}}, ["sleep", "600"])
    return process.wait_ready() if wait else process


def openssl(*arguments, **options):
    return subprocess.run([rig.tool("openssl"), *map(str, arguments)], check=True, capture_output=True, **options).stdout


def signed(key, subject="app"):
    """A signed token as Kubernetes has them (RFC 7519), RS256."""
    def text(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = {"alg": "RS256", "typ": "JWT"}
    claims = {"iss": "https://lab", "sub": subject, "aud": "sidecar", "iat": 1700000000, "exp": 4000000000}
    body = f"{text(json.dumps(head).encode())}.{text(json.dumps(claims).encode())}"
    return f"{body}.{text(openssl('dgst', '-sha256', '-sign', key, input=body.encode()))}"


@pytest.mark.parametrize("method", ["jwt", "kubernetes"])
def test_a_signed_token_read_again_at_each_login(start, lab, place, method):
    """The jwt engine stands in for the review of tokens by a cluster."""
    key = place / "signing.pem"
    openssl("genrsa", "-out", key, "2048")
    public = openssl("rsa", "-in", key, "-pubout").decode()
    mount = method if method == "kubernetes" else "signed"
    lab.api("POST", f"sys/auth/{mount}", {"type": "jwt"})
    lab.api("POST", f"auth/{mount}/config", {"jwt_validation_pubkeys": [public]})
    lab.api("POST", f"auth/{mount}/role/app", {
        "role_type": "jwt", "bound_audiences": ["sidecar"], "user_claim": "sub", "token_ttl": "1h",
        "token_policies": lab.policy(READ)})
    file, target = place / "token", place / "out"
    file.write_text("no.signed.token\n")
    auth = {method: {"role": "app", "jwt_file": str(file), **({"mount": mount} if method == "jwt" else {})}}
    process = run(start, lab.address, auth, target, wait=False)
    wait_until(lambda: "login failed: 400" in process.stderr, "a line that says that the token is not taken")
    file.write_text(signed(key) + "\n")
    process.wait_ready()
    assert target.read_text() == "behind-a-login" and file.exists()
    # A token that was revoked is noticed without a read, and the next one comes from the file as it is then.
    file.write_text(signed(key, "next"))
    assert lab.revoke_tokens(mount) == 1
    wait_until(lambda: metric(process, "outrider_secret_logins_total") == 2, "a second login")
    lab.api("POST", "secret/data/db", {"data": {"value": "behind-a-login"}})
    assert "eyJ" not in process.stderr
    process.stop()
    assert lab.revoke_tokens(mount) == 0, "the token is given back at stop"


def metric(process, name):
    text = process.admin("/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def wrapped(lab, mount, ttl="300"):
    reply = lab.api("POST", f"auth/{mount}/role/app/secret-id", {}, [f"X-Vault-Wrap-TTL: {ttl}"])
    return reply["wrap_info"]["token"]


@pytest.mark.parametrize("path", ["true", "auth/{mount}/role/app/secret-id"], ids=["any role", "one path"])
def test_a_wrapped_secret_id_is_unwrapped_once(start, lab, place, path):
    auth = lab.approle(place, READ)
    mount = auth["approle"]["mount"]
    auth["approle"]["wrapped"] = path.format(mount=mount)
    (place / "sid").write_text(wrapped(lab, mount))
    process = run(start, lab.address, auth, place / "out")
    assert (place / "out").read_text() == "behind-a-login"
    # The next login goes without the wrapping token, which is spent.
    assert lab.revoke_tokens(mount) == 1
    wait_until(lambda: metric(process, "outrider_secret_logins_total") == 2, "a second login")
    assert "SECURITY" not in process.stderr
    process.stop()


def test_a_worker_that_takes_over_logs_in_with_what_was_unwrapped(start, lab, place):
    auth = lab.approle(place, READ)
    mount = auth["approle"]["mount"]
    auth["approle"]["wrapped"] = "true"
    (place / "sid").write_text(wrapped(lab, mount))
    process = run(start, lab.address, auth, place / "out")
    for _ in range(2):
        worker = process.worker()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: process.worker() not in (None, worker), "the next worker")
        process.wait_ready()
        wait_until(lambda: metric(process, "outrider_secret_logins_total") >= 1, "its login")
        lab.api("POST", "secret/data/db", {"data": {"value": f"after-{worker}"}})
        wait_until(lambda: (place / "out").read_text() == f"after-{worker}", "the next value")
    assert "SECURITY" not in process.stderr
    lab.api("POST", "secret/data/db", {"data": {"value": "behind-a-login"}})
    process.stop()


def test_a_wrapping_token_from_elsewhere_is_not_opened(start, lab, place):
    auth = lab.approle(place, READ)
    mount = auth["approle"]["mount"]
    auth["approle"]["wrapped"] = "true"
    forged = lab.api("POST", "sys/wrapping/wrap", {"secret_id": "mine"}, ["X-Vault-Wrap-TTL: 300"])["wrap_info"]["token"]
    (place / "sid").write_text(forged)
    process = run(start, lab.address, auth, place / "out", wait=False)
    wait_until(lambda: "SECURITY" in process.stderr, "a loud line")
    assert "was made at `sys/wrapping/wrap`" in process.stderr and forged not in process.stderr
    assert metric(process, "outrider_secret_security_events_total") >= 1
    assert lab.call("POST", "sys/wrapping/lookup", {"token": forged}).returncode == 0, "nobody opened it"
    (place / "sid").write_text(wrapped(lab, mount))
    process.wait_ready()
    process.stop()


def test_a_wrapping_token_that_somebody_opened_is_a_security_event(start, lab, place):
    auth = lab.approle(place, READ)
    auth["approle"]["wrapped"] = "true"
    token = wrapped(lab, auth["approle"]["mount"])
    lab.api("POST", "sys/wrapping/unwrap", {"token": token})
    (place / "sid").write_text(token)
    process = run(start, lab.address, auth, place / "out", wait=False)
    wait_until(lambda: "SECURITY" in process.stderr, "a loud line")
    assert "somebody else has opened it" in process.stderr
    process.stop()


def test_a_namespace(start, lab, place):
    lab.api("POST", "sys/namespaces/team", {})
    inside = ["X-Vault-Namespace: team"]
    lab.api("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "1"}}, inside)
    wait_until(lambda: lab.call("POST", "secret/db", {"value": "of-the-team"}, inside).returncode == 0, "the mount")
    (place / "token").write_text("root")
    process = run(start, lab.address, {"token_file": str(place / "token")}, place / "out", namespace="team")
    assert (place / "out").read_text() == "of-the-team"
    process.stop()


def test_batch_tokens_are_replaced(start, lab, place):
    auth = lab.approle(place, READ, token_type="batch", token_ttl="10s")
    process = run(start, lab.address, auth, place / "out")
    wait_until(lambda: metric(process, "outrider_secret_logins_total") >= 2, "a second login before the end of the first")
    assert metric(process, "outrider_secret_renewals_total") == 0
    assert "refuses" not in process.stderr
    process.stop()


def test_a_key_that_is_made_here_is_signed_for(start, lab, place):
    lab.api("POST", "sys/mounts/pki", {"type": "pki"})
    lab.api("POST", "pki/root/generate/internal", {"common_name": "lab root", "ttl": "700h", "key_type": "ec"})
    lab.api("POST", "pki/roles/web", {
        "allow_any_name": True, "enforce_hostnames": False, "allowed_uri_sans": "spiffe://*", "key_type": "ec",
        "max_ttl": "72h"})
    auth = lab.approle(place, "pki/sign/* create update")
    values = {"db": {"pki": "pki/sign/web", "common_name": "web.lab", "alt_names": ["a.lab"], "ip_sans": ["127.0.0.1", "::1"],
                     "uri_sans": "spiffe://lab/web", "ttl": "6s"}}
    process = start({"secrets": {
        "stores": {"vault": {"address": lab.address, "auth": auth}}, "values": values,
        "files": [{"path": str(place / "out"),
                   "template": "${secrets.db.private_key}\n${secrets.db.certificate}\n"}]}}, ["sleep", "600"])
    process.wait_ready()
    key, whole = place / "key.pem", (place / "out").read_text()

    def matches(text):
        key.write_text(text)
        certificate = openssl("x509", "-in", key, "-noout", "-pubkey")
        return certificate == openssl("pkey", "-in", key, "-pubout")

    assert matches(whole), "the certificate is for the key that was made here"
    text = openssl("x509", "-in", key, "-noout", "-text").decode()
    for wanted in ("CN = web.lab", "DNS:a.lab", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1", "URI:spiffe://lab/web"):
        assert wanted in text, text
    wait_until(lambda: (place / "out").read_text() != whole, "the next set at two thirds of its life")
    second = (place / "out").read_text()
    assert matches(second) and second.split("-----")[2] != whole.split("-----")[2]
    assert "PRIVATE" not in process.stderr
    process.stop()


# MARK: TLS

@pytest.fixture(scope="module")
def tls_lab():
    path = pathlib.Path(tempfile.mkdtemp(prefix="otl-"))
    server = Lab(path, tls=True)
    server.api("POST", "secret/data/db", {"data": {"value": "behind-a-login"}})
    yield server
    server.end()
    shutil.rmtree(path, ignore_errors=True)


def expired(place):
    """An authority whose time is over."""
    (place / "index").write_text("")
    (place / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={place}/index\nnew_certs_dir={place}\nrand_serial=yes\ndefault_md=sha256\n"
        "policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nbasicConstraints=CA:true\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", place / "old.key",
            "-out", place / "old.csr", "-subj", "/CN=old authority")
    openssl("ca", "-batch", "-selfsign", "-config", place / "ca.cnf", "-keyfile", place / "old.key", "-in",
            place / "old.csr", "-out", place / "old.pem", "-startdate", "200101000000Z", "-enddate", "200201000000Z",
            "-notext")
    return (place / "old.pem").read_text()


def test_a_client_certificate_and_an_authority_that_is_replaced(start, tls_lab, place, certificates):
    """The authority is expired at first; a client certificate of a stranger comes next; then both are right."""
    certificates("app", "stranger")
    tls_lab.api("POST", "sys/auth/cert", {"type": "cert"})
    tls_lab.api("POST", "auth/cert/certs/app", {
        "certificate": (place / "app.pem").read_text(), "token_policies": tls_lab.policy(READ), "token_ttl": "1h"})
    authority, client, key = place / "authority.pem", place / "client.pem", place / "client.key"
    authority.write_text(expired(place))
    for name, file in (("pem", client), ("key", key)):
        file.write_text((place / f"stranger.{name}").read_text())
    process = run(
        start, tls_lab.address, {"cert": {"name": "app"}}, place / "out", wait=False,
        tls={"ca": str(authority), "certificate": str(client), "key": str(key)})
    wait_until(lambda: "login failed" in process.stderr and "certificate" in process.stderr, "the reason")
    authority.write_text(next(tls_lab.tls.glob("*ca*.pem")).read_text())
    wait_until(lambda: "login failed: 4" in process.stderr, "the stranger to be refused by the server")
    for name, file in (("pem", client), ("key", key)):
        file.write_text((place / f"app.{name}").read_text())
    process.wait_ready()
    assert (place / "out").read_text() == "behind-a-login"
    assert process.stop() in (0, 143)
