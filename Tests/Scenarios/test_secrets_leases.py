"""Leased credentials of a real PostgreSQL behind a real OpenBao: renewal, rotation, faults. Leases are counted at the
server, and every credential is tried at the database."""

import json
import os
import pathlib
import re
import shutil
import tempfile
import time

import pytest

import rig
from rig import wait_until
from vault_lab import Lab

REVOKE = "sys/leases/revoke update"
# The long form also waits for what takes ten seconds and more: OUTRIDER_LONG=1.
LONG = bool(os.environ.get("OUTRIDER_LONG"))


@pytest.fixture(scope="module")
def lab():
    path = pathlib.Path(tempfile.mkdtemp(prefix="otl-"))
    server = Lab(path)
    yield server
    server.end()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def good_behaviour(lab):
    lab.behave()
    yield
    lab.behave()


def configuration(lab, auth, values, target=None, name="db"):
    secrets = {"stores": {"vault": {"address": lab.through_proxy(), "auth": auth}}, "values": values}
    if target:
        secrets["files"] = [
            {"path": str(target), "template": f"${{secrets.{name}.username}} ${{secrets.{name}.password}}\n"}]
    return {"secrets": secrets}


def credentials(target):
    return tuple(target.read_text().split())


def logs_in(lab, target):
    """Whether the file's credentials work; those that were replaced meanwhile do not count."""
    while True:
        pair = credentials(target)
        if lab.psql(*pair, "select 1").returncode == 0:
            return True
        if credentials(target) == pair:
            return False


def state(process, name="db"):
    """The secret as `outrider secrets status` shows it."""
    result = rig.run("secrets", "status", "--state", process.state, "--output", "json")
    assert result.returncode in (0, 1), result.stderr
    return next(s for s in json.loads(result.stdout) if s["name"] == name)


def begin(start, lab, place, ttl, max_ttl="1h", more=None, **role):
    mount = lab.database(ttl, max_ttl)
    auth = lab.approle(place, f"{mount}/creds/* read", REVOKE, "secret/data/* read", **role)
    target = place / "db.conf"
    values = {"db": {"database": f"{mount}/creds/app", "refresh": "1s"}, **(more or {})}
    process = start(configuration(lab, auth, values, target), ["sleep", "600"]).wait_ready()
    return process, mount, auth["approle"]["mount"], target


def metric(process, name):
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", process.admin("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


def test_renewed_then_replaced_before_the_maximum_and_given_back(start, lab, place):
    process, mount, _, target = begin(start, lab, place, "12s", "16s")
    first = credentials(target)
    assert len(lab.leases(mount)) == 1
    failures, most = 0, 0

    def replaced():
        nonlocal failures, most
        failures += not logs_in(lab, target)
        most = max(most, len(lab.leases(mount)))
        return credentials(target) != first

    wait_until(replaced, "new credentials before the maximum TTL")
    assert logs_in(lab, target) and failures == 0, "the database refused credentials during the rotation"
    assert most <= 2 and metric(process, "outrider_secret_lease_renewals_total") >= 1
    wait_until(lambda: len(lab.leases(mount)) == 1, "the former lease to end")
    shown = rig.run("secrets", "status", "--state", process.state)
    assert re.search(rf"^db +fresh +vault +database {mount}/creds/app ", shown.stdout, re.MULTILINE), shown.stdout
    for word in first + credentials(target):
        assert word not in shown.stdout + process.stderr + process.admin("/status").text
    process.stop()
    wait_until(lambda: not lab.leases(mount), "the lease to be given back")
    wait_until(lambda: not lab.sql("select rolname from pg_roles where rolname like 'v-%'"), "the user to be dropped")


def test_a_lease_and_a_token_that_are_revoked(start, lab, place):
    process, mount, auth, target = begin(start, lab, place, "1h")
    first = credentials(target)
    lab.api("PUT", "sys/leases/revoke", {"lease_id": f"{mount}/creds/app/{lab.leases(mount)[0]}"})
    began = time.monotonic()
    wait_until(lambda: credentials(target) != first and logs_in(lab, target), "new credentials for a revoked lease")
    print(f"recovery from a revoked lease: {time.monotonic() - began:.1f} s")
    assert len(lab.leases(mount)) == 1
    second = credentials(target)
    assert lab.revoke_tokens(auth) == 1
    began = time.monotonic()
    wait_until(lambda: credentials(target) != second and logs_in(lab, target), "new credentials for a revoked token")
    print(f"recovery from a revoked token: {time.monotonic() - began:.1f} s")
    wait_until(lambda: len(lab.leases(mount)) == 1, "one lease")
    wait_until(lambda: state(process)["state"] == "fresh", "a good state")
    process.stop()
    wait_until(lambda: not lab.leases(mount), "the lease to be given back")


def test_a_new_login_fetches_before_the_old_goes(start, lab, place):
    """The token reaches its maximum: credentials move to the next token while the old ones still work."""
    process, mount, _, target = begin(start, lab, place, "1h", token_ttl="6s", token_max_ttl="9s")
    first, failures = credentials(target), 0

    def moved():
        nonlocal failures
        failures += not logs_in(lab, target)
        return credentials(target) != first

    wait_until(moved, "credentials under the next token")
    assert logs_in(lab, target) and failures == 0
    assert len(lab.leases(mount)) <= 2
    process.stop()
    wait_until(lambda: not lab.leases(mount), "both leases to be gone")


def test_renewals_that_fail_lead_to_new_credentials(start, lab, place):
    process, mount, _, target = begin(start, lab, place, "8s")
    first = credentials(target)
    lab.behave({"path": "sys/leases/renew", "do": "status", "status": 500})
    # With a short lease the grace is reached at once, so that the failure does not stay in the status.
    wait_until(lambda: "told to fail" in process.stderr, "a line that says why")
    wait_until(lambda: credentials(target) != first and logs_in(lab, target), "new credentials before the old end")
    lab.behave()
    wait_until(lambda: len(lab.leases(mount)) == 1 and state(process)["state"] == "fresh", "one good lease")
    process.stop()
    wait_until(lambda: not lab.leases(mount), "the lease to be given back")


def test_outages_of_every_kind_keep_the_last_good(start, lab, place):
    lab.api("POST", "secret/data/plain", {"data": {"value": "kept-value"}})
    process, mount, _, target = begin(
        start, lab, place, "1h", more={"plain": {"kv": "secret/plain", "refresh": "1s"}})
    first, lease = credentials(target), lab.leases(mount)
    kinds = [{"do": "status", "status": status} for status in (500, 503, 429)] + [{"do": "reset"}] + [{"do": "hang"}] * LONG
    for kind in kinds:
        lab.behave(kind)
        wait_until(lambda: state(process, "plain")["state"] == "failing", f"the failure in the status: {kind}")
        since = time.monotonic()
        wait_until(lambda: time.monotonic() >= since + (20 if LONG else 0), "the outage to last")
        assert credentials(target) == first and process.is_running and logs_in(lab, target)
        began = time.monotonic()
        lab.behave()
        wait_until(lambda: state(process, "plain")["state"] == "fresh", f"recovery from {kind}")
        print(f"recovery from {kind}: {time.monotonic() - began:.1f} s")
    assert lab.leases(mount) == lease and credentials(target) == first, "an outage leases nothing"
    process.stop()
    wait_until(lambda: not lab.leases(mount), "the lease to be given back")


def test_an_answer_that_is_lost_leaves_no_lease_behind(start, lab, place):
    mount = lab.database("1h")
    auth = lab.approle(place, f"{mount}/creds/* read", REVOKE)
    lab.behave({"path": f"{mount}/creds/app", "do": "lose", "times": 1})
    target = place / "db.conf"
    process = start(configuration(lab, auth, {"db": {"database": f"{mount}/creds/app"}}, target), ["sleep", "600"])
    process.wait_ready()
    assert logs_in(lab, target)
    process.stop()
    wait_until(lambda: not lab.leases(mount), "every lease of the token to be gone")


def test_one_forbidden_path_among_ten(start, lab, place):
    """The nine others are untouched, and nothing is leased for them again."""
    mount = lab.database("1h")
    roles = [f"r{n}" for n in range(9)]
    for role in roles:
        lab.role(mount, role, "1h")
    auth = lab.approle(place, *[f"{mount}/creds/{role} read" for role in roles], REVOKE)
    values = {role: {"database": f"{mount}/creds/{role}"} for role in roles}
    values["no"] = {"database": f"{mount}/creds/forbidden", "required": False}
    process = start(configuration(lab, auth, values, place / "db.conf", "r0"), ["sleep", "600"]).wait_ready()
    wait_until(lambda: lab.proxy.ask("/_counts").get(f"GET /v1/{mount}/creds/forbidden", 0) >= 3, "three refusals")
    counts = lab.proxy.ask("/_counts")
    assert [counts[f"GET /v1/{mount}/creds/{role}"] for role in roles] == [1] * 9
    assert [len(lab.leases(mount, role)) for role in roles] == [1] * 9
    refused = state(process, "no")
    assert refused["state"] == "missing" and "403" in refused["last_error"] and "polic" in refused["last_error"]
    assert state(process, "r0")["state"] == "fresh"
    process.stop()
    wait_until(lambda: not any(lab.leases(mount, role) for role in roles), "every lease to be given back")


def test_a_failing_change_action_leases_nothing(start, lab, place):
    """The action is tried again and again, and the credentials that it follows are those of one fetch."""
    mount = lab.database("1h")
    auth = lab.approle(place, f"{mount}/creds/* read", REVOKE)
    target, marks, allowed = place / "db.conf", place / "marks", place / "allowed"
    action = {"exec": ["sh", "-c", f"echo ran >> {marks}; test -e {allowed}"]}
    config = configuration(lab, auth, {"db": {"database": f"{mount}/creds/app", "refresh": "1s", "on_change": action}}, target)
    process = start(config, ["sleep", "600"]).wait_ready()
    first = credentials(target)
    lab.api("PUT", "sys/leases/revoke", {"lease_id": f"{mount}/creds/app/{lab.leases(mount)[0]}"})
    wait_until(lambda: credentials(target) != first, "new credentials")
    second = credentials(target)
    wait_until(lambda: marks.exists() and marks.read_text().count("ran") >= 3, "three tries")
    assert "change action" in state(process)["last_error"] and state(process)["state"] == "failing"
    assert lab.proxy.ask("/_counts")[f"GET /v1/{mount}/creds/app"] == 2 and len(lab.leases(mount)) == 1
    allowed.touch()
    wait_until(lambda: state(process)["state"] == "fresh", "the action to work")
    assert credentials(target) == second and logs_in(lab, target)
    process.stop()
    wait_until(lambda: not lab.leases(mount), "the lease to be given back")


def test_a_mount_that_is_removed_and_comes_back(start, lab, place):
    process, mount, _, target = begin(start, lab, place, "1h")
    first = credentials(target)
    lab.api("DELETE", f"sys/mounts/{mount}")
    wait_until(lambda: f"{mount}/creds/app" in (state(process).get("last_error") or ""), "the failure in the status")
    assert credentials(target) == first, "the last good stays"
    lab.api("POST", f"sys/mounts/{mount}", {"type": "database"})
    lab.configure(mount, "1h")
    wait_until(lambda: credentials(target) != first and logs_in(lab, target), "new credentials")
    assert len(lab.leases(mount)) == 1
    process.stop()


def test_a_reload_keeps_leases_and_gives_back_what_is_no_longer_wanted(start, lab, place):
    mount = lab.database("1h")
    lab.role(mount, "other", "1h")
    auth = lab.approle(place, f"{mount}/creds/* read", REVOKE)
    target = place / "db.conf"
    app = {"db": {"database": f"{mount}/creds/app"}}
    process = start(
        configuration(lab, auth, {**app, "more": {"database": f"{mount}/creds/other"}}, target), ["sleep", "600"])
    process.wait_ready()
    first, lease = credentials(target), lab.leases(mount)
    assert len(lab.leases(mount, "other")) == 1
    process.write_config({"admin": json.loads(process.config_path.read_text())["admin"],
                          **configuration(lab, auth, app, target)})
    result = rig.run("reload", "--state", process.state)
    assert result.returncode == 0, result.stderr
    if LONG:
        wait_until(lambda: not lab.leases(mount, "other"), "the lease that is no longer wanted to go")
    assert lab.leases(mount) == lease and credentials(target) == first
    process.stop()
    wait_until(lambda: not lab.leases(mount) and not lab.leases(mount, "other"), "the leases to be given back")


def test_run_once_leaves_what_it_delivered_in_use(lab, place):
    """An init container: its leases are the app's; without any, the login is given back."""
    mount = lab.database("1h")
    auth = lab.approle(place, f"{mount}/creds/* read", REVOKE, "secret/data/* read")
    login, target, config = auth["approle"]["mount"], place / "db.conf", place / "outrider.yaml"

    def once(values, template):
        secrets = {"stores": {"vault": {"address": lab.address, "auth": auth}}, "values": values,
                   "files": [{"path": str(target), "template": template}]}
        config.write_text(json.dumps({"secrets": secrets}))
        result = rig.run("run", "--once", "--config", config)
        assert result.returncode == 0, result.stderr

    lab.api("POST", "secret/data/plain", {"data": {"value": "a-plain-value"}})
    once({"plain": {"kv": "secret/plain"}}, "${secrets.plain.value}")
    assert target.read_text() == "a-plain-value" and lab.revoke_tokens(login) == 0
    once({"db": {"database": f"{mount}/creds/app"}}, "${secrets.db.username} ${secrets.db.password}")
    assert len(lab.leases(mount)) == 1 and logs_in(lab, target)
    # What fails is given back.
    config.write_text(config.read_text().replace("password", "no_such_field"))
    result = rig.run("run", "--once", "--config", config)
    assert result.returncode == 78 and "no_such_field" in result.stderr
    wait_until(lambda: len(lab.leases(mount)) == 1, "the lease of the run that failed to be given back")
    assert lab.revoke_tokens(login) == 1


def test_a_static_role_is_followed_right_after_each_rotation(start, lab, place):
    mount = lab.database("1h")
    user = f"static_{mount}"
    lab.sql(f"create role {user} with login password 'first'")
    lab.api("POST", f"{mount}/static-roles/svc", {
        "db_name": "pg", "username": user, "rotation_period": "5s",
        "rotation_statements": ["ALTER USER \"{{name}}\" WITH PASSWORD '{{password}}'"]})
    auth = lab.approle(place, f"{mount}/static-creds/* read")
    target = place / "db.conf"
    process = start(
        configuration(lab, auth, {"db": {"database_static": f"{mount}/static-creds/svc"}}, target),
        ["sleep", "600"]).wait_ready()
    for _ in range(2 if LONG else 1):
        before = credentials(target)
        assert before[0] == user
        wait_until(lambda: credentials(target) != before, "the next password")
        wait_until(lambda: logs_in(lab, target), "the new password to work")
    shown = state(process)
    assert shown["source"] == f"database_static {mount}/static-creds/svc" and shown["version"].startswith("20")
    assert 0 <= shown["ttl_seconds"] <= 5
    process.stop()


def test_an_upgrade_leases_and_logs_in_nothing_anew(start, lab, place):
    process, mount, _, target = begin(start, lab, place, "12s")
    first, leases = credentials(target), lab.leases(mount)
    logins = metric(process, "outrider_secret_logins_total")
    for number in (1, 2):
        result = rig.run("upgrade", "--state", process.state, timeout=120)
        assert result.returncode == 0, result.stderr
        wait_until(lambda: process.stderr.count("the supervisor is version") == number, "the upgrade's end")
    assert credentials(target) == first and lab.leases(mount) == leases
    renewals = metric(process, "outrider_secret_lease_renewals_total")
    wait_until(lambda: metric(process, "outrider_secret_lease_renewals_total") > renewals, "a renewal of the same lease")
    assert lab.leases(mount) == leases and metric(process, "outrider_secret_logins_total") == logins
    assert state(process)["state"] == "fresh"
    process.stop()
    wait_until(lambda: not lab.leases(mount), "the lease to be given back")
