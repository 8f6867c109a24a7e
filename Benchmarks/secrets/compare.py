"""Secrets: Outrider beside `bao agent` of the same package, in turns, at one OpenBao development server.

    make bench-secrets                      the release binary, 7 rounds
    OUTRIDER=PATH ROUNDS=3 .venv/bin/python Benchmarks/secrets/compare.py

Rows: from start to the first file; from start to the app in exec mode with a secret in its environment; from a revoked
token to the next login (TTL 30 s); resident memory of the whole process tree while idle; logins at a real PostgreSQL that
fail while leased credentials are replaced (TTL 8 s, maximum 12 s). Medians are printed, each with its reach and a verdict.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "Scenarios"))
os.environ.setdefault("OUTRIDER", str(ROOT / "dist" / "outrider"))

import rig  # noqa: E402
from rig import wait_until  # noqa: E402
from vault_lab import Lab  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "7"))


class Subject:
    """One agent, started anew for each measurement in a directory of its own."""

    def __init__(self, lab, place, auth):
        self.lab, self.place, self.auth = lab, place, auth["approle"]
        self.out = place / "out"

    def start(self, exec_mode=False, database=None):
        self.out.unlink(missing_ok=True)
        argv, files = self.plan(exec_mode, database)
        for name, text in files.items():
            (self.place / name).write_text(text)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            list(map(str, argv)), cwd=self.place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(self.place / "log").open("w"), env={**os.environ, "HOME": str(self.place)})
        wait_until(self.out.exists, f"{self.name} to write {self.out}: {(self.place / 'log').read_text()[-2000:]}",
                   every=0.002)
        return time.monotonic() - self.began

    def memory(self):
        """VmRSS of the tree but for the app, MB."""
        total = 0
        for pid in [self.process.pid, *rig.descendants(self.process.pid)]:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            total += int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        return total / 1024

    def end(self):
        family = rig.descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in family:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


class Outrider(Subject):
    name = "outrider"

    def plan(self, exec_mode, database):
        config = {
            "admin": {"listen": False}, "state": str(self.place / "state"),
            "secrets": {"stores": {"vault": {"address": self.lab.address, "auth": {"approle": self.auth}}},
                        "values": {"db": {"kv": "secret/db"}}}}
        argv = [rig.binary(), "run", "--config", self.place / "outrider.yaml"]
        if exec_mode:
            config["app"] = {"env": {"VALUE": "${secrets.db.value}"}}
            argv += ["--", "/bin/sh", "-c", f'echo "$VALUE" > {self.out}; exec tail -f /dev/null']
        elif database:
            config["secrets"]["values"] = {"db": {"database": f"{database}/creds/app"}}
            config["secrets"]["files"] = [
                {"path": str(self.out), "template": "${secrets.db.username} ${secrets.db.password}"}]
        else:
            config["secrets"]["files"] = [{"path": str(self.out), "template": "${secrets.db.value}"}]
        return argv, {"outrider.yaml": json.dumps(config)}


class Agent(Subject):
    name = "bao agent"

    def plan(self, exec_mode, database):
        config = f'''
            vault {{ address = "{self.lab.address}" }}
            auto_auth {{
              method "approle" {{
                mount_path = "auth/{self.auth["mount"]}"
                config = {{ role_id_file_path = "{self.auth["role_id_file"]}"
                  secret_id_file_path = "{self.auth["secret_id_file"]}"
                  remove_secret_id_file_after_reading = false }} }} }}'''
        contents = '{{ with secret "secret/data/db" }}{{ .Data.data.value }}{{ end }}'
        if database:
            contents = f'{{{{ with secret "{database}/creds/app" }}}}{{{{ .Data.username }}}} {{{{ .Data.password }}}}{{{{ end }}}}'
        if exec_mode:
            script = f"echo $VALUE > {self.out}; exec tail -f /dev/null"
            config += f'''
            env_template "VALUE" {{ contents = {json.dumps(contents)}
              error_on_missing_key = true }}
            exec {{ command = {json.dumps(["/bin/sh", "-c", script])} }}'''
        else:
            config += f'''
            template {{ contents = {json.dumps(contents)}
              destination = "{self.out}" }}'''
        return [rig.tool("bao"), "agent", "-config", self.place / "agent.hcl"], {"agent.hcl": config}


def tokens(lab, mount):
    """Accessors of the tokens that logins at the mount made."""
    found = set()
    for accessor in lab.api("LIST", "auth/token/accessors")["data"]["keys"]:
        result = lab.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})
        if result.returncode == 0 and json.loads(result.stdout)["data"]["path"] == f"auth/{mount}/login":
            found.add(accessor)
    return found


def recovery(subject):
    subject.start()
    mount = subject.auth["mount"]
    old = wait_until(lambda: tokens(subject.lab, mount), "a token")
    for accessor in old:
        subject.lab.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    began = time.monotonic()
    wait_until(lambda: tokens(subject.lab, mount) - old, "another token", deadline=60)
    taken = time.monotonic() - began
    subject.end()
    return taken


def started(subject, exec_mode):
    taken = subject.start(exec_mode)
    subject.end()
    return taken * 1000


def memory(subject):
    subject.start()
    # The figure of an agent that has settled: when two looks in a row agree within one per cent.
    last = [0.0]

    def settled():
        now = subject.memory()
        same = abs(now - last[0]) < 0.01 * now
        last[0] = now
        return same

    wait_until(settled, "settled memory", every=0.5)
    subject.end()
    return last[0]


def failed_logins(subject):
    """Logins that fail although the file still holds the same credentials afterwards, until they were replaced twice."""
    lab = subject.lab
    mount = lab.database("8s", "12s")
    subject.start(database=mount)
    seen, failures = [], 0

    def replaced():
        nonlocal failures
        pair = subject.out.read_text().split()
        if pair not in seen:
            seen.append(pair)
        if lab.psql(*pair, "select 1").returncode != 0 and subject.out.read_text().split() == pair:
            failures += 1
        return len(seen) == 3

    wait_until(replaced, "two replacements", deadline=90, every=0.02)
    subject.end()
    return failures


def main():
    place = pathlib.Path(tempfile.mkdtemp(prefix="otb-"))
    lab = Lab(place)
    try:
        lab.api("POST", "secret/data/db", {"data": {"value": "benchmark-value"}})
        subjects = []
        for kind in (Outrider, Agent):
            home = place / kind.__name__
            home.mkdir()
            auth = lab.approle(home, "secret/data/* read", "+/creds/app read", "sys/leases/revoke update", token_ttl="30s")
            subjects.append(kind(lab, home, auth))
        few = min(3, ROUNDS)
        # What is measured, in how many rounds, and the reach: of the ratio, or of our own figure.
        rows = [
            ("start to the first file, ms", lambda s: started(s, False), ROUNDS, "ratio", 0.5),
            ("start to the app in exec mode, ms", lambda s: started(s, True), ROUNDS, "figure", 300),
            ("revoked token to the next login, s", recovery, few, "figure", 5),
            ("resident memory, MB", memory, few, "ratio", 0.4),
            ("logins failing while replaced", failed_logins, 1, "figure", 0),
        ]
        print(f"{'medians, in turns':38}{'outrider':>10}{'bao agent':>11}{'ratio':>7}{'rounds':>8}{'reach':>10}  verdict")
        missed = 0
        for title, measure, rounds, kind, reach in rows:
            figures = {subject.name: [] for subject in subjects}
            for _ in range(rounds):
                for subject in subjects:
                    figures[subject.name].append(measure(subject))
            ours, theirs = (statistics.median(figures[subject.name]) for subject in subjects)
            ratio = ours / theirs if theirs else float("nan")
            is_met = (ratio if kind == "ratio" else ours) <= reach
            missed += not is_met
            shown = f"<= {reach}" + (" x" if kind == "ratio" else "")
            print(f"{title:38}{ours:10.1f}{theirs:11.1f}{ratio:7.2f}{rounds:8}{shown:>10}  {'met' if is_met else 'MISSED'}",
                  flush=True)
        print(f"{len(rows) - missed} of {len(rows)} met")
    finally:
        lab.end()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
