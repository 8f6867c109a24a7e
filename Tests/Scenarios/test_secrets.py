"""Secrets from a real age file and a real OpenBao: environment, files, rotation, redaction."""

import json
import os
import re
import stat
import subprocess

import pytest

import rig
from rig import wait_until


def report_of(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def keeper(place, python_app, with_file=True):
    report, file = place / "report.json", place / "secret.conf"
    return report, file, python_app("keeper.py", report, *([file] if with_file else []))


def secrets(store, value, file=None, on_change=None, **more):
    out = {"stores": {"one": store}, "values": {"db": {"refresh": "1s", **value}}, **more}
    if file:
        out["files"] = [{"path": str(file), "template": "password=${secrets.db.password}\n",
                         **({"on_change": on_change} if on_change else {})}]
    return out


def age(file, identity):
    return {"age": {"file": str(file), "identity": str(identity)}}


ENV = {"SECRET": "${secrets.db.password}", "SECOND": "user=${secrets.db.user}"}


def test_age_file_to_environment_and_file(start, place, python_app, age_store):
    file, identity = age_store("db:\n  user: shop\n  password: hunter2-and-more\n")
    report, target, command = keeper(place, python_app)
    process = start(
        {"app": {"env": ENV}, "secrets": secrets(age(file, identity), {"key": "db"}, target)}, command).wait_ready()
    seen = wait_until(lambda: report_of(report), "the app's report")
    assert seen["env"] == {"SECRET": "hunter2-and-more", "SECOND": "user=shop"}
    assert seen["file"] == "password=hunter2-and-more\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    process.stop()
    assert not target.exists(), "a secret's file is removed at stop"


def test_secret_in_the_apps_output_is_redacted_everywhere(start, place, python_app, age_store, peer):
    file, identity = age_store("db:\n  user: shop\n  password: hunter2-and-more\n")
    server = peer("bulk_fault_server.py")
    report, _, command = keeper(place, python_app, with_file=False)
    process = start(
        {"app": {"env": ENV}, "secrets": secrets(age(file, identity), {"key": "db"}),
         "logs": {"sinks": {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{server.port}", "index": "s"},
                                   "batch": {"age": "100ms"}}}}}, command).wait_ready()
    lines = process.wait_logs(lambda found: any("keeper-started" in l for l in found), "the app's lines")
    assert any("my secret is" in line for line in lines)
    wait_until(lambda: any("as json" in d["raw"] for d in server.ask("/_accepted")["documents"]), "the sink's lines")
    process.stop()
    assert not any("hunter2-and-more" in line for line in rig.logs_of(process.state))
    assert "hunter2-and-more" not in json.dumps(server.ask("/_accepted"))
    assert "hunter2-and-more" not in process.stderr + process.stdout
    for path in process.state.rglob("*"):
        if path.is_file():
            assert b"hunter2-and-more" not in path.read_bytes(), path


def test_age_rotation_rewrites_the_file_and_signals_the_app(start, place, python_app, age_store):
    file, identity = age_store("db:\n  user: shop\n  password: first-value-1\n")
    report, target, command = keeper(place, python_app)
    process = start(
        {"secrets": secrets(age(file, identity), {"key": "db"}, target, {"signal": "SIGHUP"})}, command).wait_ready()
    first = wait_until(lambda: report_of(report), "the first report")
    age_store("db:\n  user: shop\n  password: second-value-2\n")
    second = wait_until(lambda: (lambda r: r if r and r["hups"] else None)(report_of(report)), "the signal")
    assert second["file"] == "password=second-value-2\n" and second["pid"] == first["pid"]
    process.stop()


def test_our_own_age_files_open_with_age_and_back(place):
    file, identity = place / "mine.age", place / "mine.txt"
    where = ("--file", file, "--identity", identity)
    assert rig.run("secrets", "init", *where).returncode == 0
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
    result = rig.run("secrets", "set", "db.password", *where, stdin="s3cr3t-from-stdin")
    assert result.returncode == 0, result.stderr
    assert "s3cr3t" not in result.stdout + result.stderr
    opened = subprocess.run(
        [rig.tool("age"), "-d", "-i", identity, file], capture_output=True, text=True, check=True).stdout
    assert "s3cr3t-from-stdin" in opened and "password" in opened
    again = rig.run("secrets", "init", *where)
    assert again.returncode != 0 and "mine" in again.stderr, "init must not overwrite what is there"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("login", ["token_file", "approle"])
def test_vault_kv_to_environment_and_file(start, place, python_app, bao, version, login):
    bao.api("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": str(version)}})
    path = "kv/data/shop/db" if version == 2 else "kv/shop/db"

    def put(password):
        data = {"user": "shop", "password": password}
        wait_until(lambda: put_once({"data": data} if version == 2 else data), "the mount to take a value")

    def put_once(body):
        reply = rig.request(bao.port, f"/v1/{path}", "POST", json.dumps(body), {"X-Vault-Token": "root"})
        return reply.status < 300

    put("vault-value-one")
    auth = login_of(bao, place, login)
    report, target, command = keeper(place, python_app)
    store = {"vault": {"address": bao.address, "auth": auth}}
    process = start(
        {"app": {"env": ENV}, "secrets": secrets(store, {"kv": "kv/shop/db"}, target, {"signal": "SIGHUP"})},
        command).wait_ready()
    first = wait_until(lambda: report_of(report), "the first report")
    assert first["env"]["SECRET"] == "vault-value-one" and first["file"] == "password=vault-value-one\n"
    put("vault-value-two")
    second = wait_until(lambda: (lambda r: r if r and r["hups"] else None)(report_of(report)), "the signal")
    assert second["file"] == "password=vault-value-two\n" and second["pid"] == first["pid"]
    # The old value stays hidden as well.
    process.stop()
    assert not any(re.search("vault-value-(one|two)", line) for line in rig.logs_of(process.state))


def login_of(bao, place, kind):
    bao.api("PUT", "sys/policies/acl/shop", {"policy": 'path "kv/*" { capabilities = ["read", "list"] }'})
    if kind == "token_file":
        token = bao.api("POST", "auth/token/create", {"policies": ["shop"], "ttl": "1h"})["auth"]["client_token"]
        (place / "token").write_text(token + "\n")
        return {"token_file": str(place / "token")}
    bao.api("POST", "sys/auth/approle", {"type": "approle"})
    bao.api("POST", "auth/approle/role/shop", {"token_policies": "shop", "token_ttl": "1h"})
    (place / "role").write_text(bao.api("GET", "auth/approle/role/shop/role-id")["data"]["role_id"])
    (place / "sid").write_text(bao.api("POST", "auth/approle/role/shop/secret-id", {})["data"]["secret_id"])
    return {"approle": {"role_id_file": str(place / "role"), "secret_id_file": str(place / "sid")}}


def test_short_lived_token_is_renewed(start, place, python_app, bao):
    bao.api("POST", "secret/data/db", {"data": {"user": "u", "password": "renewal-value"}})
    bao.api("PUT", "sys/policies/acl/all", {"policy": 'path "secret/*" { capabilities = ["read"] }'})
    token = bao.api("POST", "auth/token/create", {"policies": ["all"], "ttl": "6s", "renewable": True})["auth"]
    (place / "token").write_text(token["client_token"])
    report, _, command = keeper(place, python_app, with_file=False)
    store = {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}}
    process = start({"app": {"env": ENV}, "secrets": secrets(store, {"kv": "secret/db"})}, command).wait_ready()

    def issued():
        data = bao.api("POST", "auth/token/lookup", {"token": token["client_token"]})["data"]
        return data.get("last_renewal_time")

    first = wait_until(issued, "a first renewal")
    wait_until(lambda: (issued() or 0) > first, "a second renewal")
    process.stop()


def test_restart_on_change(start, place, python_app, age_store):
    file, identity = age_store("db:\n  user: shop\n  password: first-value-1\n")
    report, _, command = keeper(place, python_app, with_file=False)
    process = start(
        {"app": {"env": ENV},
         "secrets": secrets(age(file, identity), {"key": "db", "on_change": {"restart": True}})}, command).wait_ready()
    first = wait_until(lambda: report_of(report), "the first report")
    age_store("db:\n  user: shop\n  password: second-value-2\n")
    second = wait_until(
        lambda: (lambda r: r if r and r["pid"] != first["pid"] else None)(report_of(report)), "the restarted app")
    assert second["env"]["SECRET"] == "second-value-2"
    assert process.is_running
    process.stop()


def test_wrong_identity_is_said_clearly(start, place, python_app, age_store):
    file, _ = age_store("db:\n  user: shop\n  password: first-value-1\n")
    other = place / "other.txt"
    subprocess.run([rig.tool("age-keygen"), "-o", other], check=True, capture_output=True)
    process = start(
        {"app": {"env": ENV}, "secrets": secrets(age(file, other), {"key": "db"})}, ["touch", place / "started"])
    wait_until(lambda: "secrets.age" in process.stderr and "other.txt" in process.stderr, "a message that names both")
    assert "identity" in process.stderr
    assert "first-value-1" not in process.stderr and "AGE-SECRET-KEY" not in process.stderr
    assert process.wait() == 78, "waiting would not heal it"
    assert not (place / "started").exists()


def test_unreachable_vault_waits_says_so_and_term_ends_it(start, place):
    (place / "token").write_text("none")
    port = rig.free_port()
    store = {"vault": {"address": f"http://127.0.0.1:{port}", "auth": {"token_file": str(place / "token")}}}
    process = start({"app": {"env": ENV}, "secrets": secrets(store, {"kv": "secret/db"})}, ["sleep", "60"])
    wait_until(lambda: f"127.0.0.1:{port}" in process.stderr, "a line that says what it waits for")
    assert process.is_running and process.app() is None
    assert rig.status_of(process.socket, "/readyz") == 503
    assert process.stop() == 143


def test_vault_that_goes_away_leaves_the_last_good(start, place, python_app, bao):
    bao.api("POST", "secret/data/db", {"data": {"user": "u", "password": "good-value"}})
    (place / "token").write_text("root")
    report, target, command = keeper(place, python_app)
    store = {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}}
    process = start({"secrets": secrets(store, {"kv": "secret/db"}, target)}, command).wait_ready()
    app = process.app()
    bao.end()
    wait_until(lambda: process.admin("/status").json["secrets"][0].get("last_error"), "the error in the status")
    wait_until(lambda: "last good value" in process.stderr, "a line that says so")
    assert target.read_text() == "password=good-value\n" and process.app() == app
    assert rig.status_of(process.socket, "/readyz") == 200
    assert process.stop() == 0


def test_vault_that_comes_later_is_used(start, place, python_app, bao):
    """A secret that is not there yet holds the app back; once written, the app starts with it."""
    (place / "token").write_text("root")
    report, _, command = keeper(place, python_app, with_file=False)
    store = {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}}
    process = start({"app": {"env": ENV}, "secrets": secrets(store, {"kv": "secret/late"})}, command)
    wait_until(lambda: "secret/late" in process.stderr, "a line that names the missing secret")
    assert report_of(report) is None
    bao.api("POST", "secret/data/late", {"data": {"user": "u", "password": "late-value"}})
    assert wait_until(lambda: report_of(report), "the app to start")["env"]["SECRET"] == "late-value"
    process.stop()
