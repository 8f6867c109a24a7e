"""A real OpenBao with a real PostgreSQL behind it and a proxy that fails on command before it: one for all tests of a
module, each with mounts and roles of its own."""

import glob
import itertools
import json
import os
import shutil
import subprocess

import rig
from rig import accepts, wait_until

CREATE = """CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"""


def as_postgres(*argv):
    """The command as user postgres, which the server insists on when the tests run as root."""
    return ["runuser", "-u", "postgres", "--", *map(str, argv)] if os.geteuid() == 0 else [str(a) for a in argv]


class Lab:
    def __init__(self, place, tls=False):
        self.place, self.numbers, self.ending = place, itertools.count(1), []
        self.postgres = None
        self.tls = place / "tls" if tls else None
        self.start_bao()
        self.proxy = None if tls else self.kept(
            rig.Peer(place, "vault_fault_proxy.py", arguments=[f"127.0.0.1:{self.port}"]))

    def kept(self, process):
        self.ending.append(process)
        return process

    def start_bao(self):
        self.port = rig.free_port()
        home = self.place / "home"
        home.mkdir()
        argv = [rig.tool("bao"), "server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token",
                f"-dev-listen-address=127.0.0.1:{self.port}"]
        if self.tls:
            self.tls.mkdir()
            argv += ["-dev-tls", f"-dev-tls-cert-dir={self.tls}"]
        self.bao = rig.Process(argv, self.place, "bao", env={"HOME": str(home)})
        self.address = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
        try:
            wait_until(lambda: self.call("GET", "sys/health").returncode == 0, "OpenBao to answer")
        except AssertionError as error:
            raise AssertionError(f"{error}\nbao wrote:\n{self.bao.stdout[-2000:]}{self.bao.stderr[-2000:]}") from None

    def call(self, method, path, body=None, headers=()):
        """curl, which also speaks TLS; its result."""
        argv = ["curl", "-s", "-k", "-f", "-m", "20", "-X", method, "-H", "X-Vault-Token: root"]
        for field in headers:
            argv += ["-H", field]
        if body is not None:
            argv += ["-d", json.dumps(body)]
        return subprocess.run([*argv, f"{self.address}/v1/{path}"], capture_output=True, text=True)

    def api(self, method, path, body=None, headers=()):
        result = self.call(method, path, body, headers)
        assert result.returncode == 0, f"{method} {path}: curl ended with {result.returncode}: {result.stderr}"
        return json.loads(result.stdout) if result.stdout else {}

    def through_proxy(self):
        return f"http://127.0.0.1:{self.proxy.port}"

    def behave(self, *rules):
        self.proxy.tell("/_behave", {"rules": list(rules)})

    # MARK: PostgreSQL

    def start_postgres(self):
        if self.postgres:
            return
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        assert found, "PostgreSQL is not installed: run dev/setup.sh test"
        tools, data, self.postgres = found[-1], self.place / "pg", rig.free_port()
        data.mkdir()
        if os.geteuid() == 0:
            self.place.chmod(0o755)
            shutil.chown(data, "postgres")
        subprocess.run(as_postgres(f"{tools}/initdb", "-D", data / "d", "-U", "postgres", "-A", "trust", "--no-sync"),
                       check=True, capture_output=True, cwd="/")
        # Everybody but the superuser needs the right password.
        (data / "d" / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.kept(rig.Process(
            as_postgres(f"{tools}/postgres", "-D", data / "d", "-p", self.postgres, "-k", data,
                        "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"), self.place, "postgres", cwd="/"))
        wait_until(lambda: accepts(self.postgres) and self.psql("postgres", "", "select 1").returncode == 0,
                   "PostgreSQL to answer")

    def psql(self, user, password, sql):
        return subprocess.run(
            [rig.tool("psql"), "-h", "127.0.0.1", "-p", str(self.postgres), "-U", user, "-d", "postgres", "-X", "-A",
             "-t", "-w", "-c", sql], capture_output=True, text=True, timeout=60, env={**os.environ, "PGPASSWORD": password})

    def sql(self, text):
        result = self.psql("postgres", "", text)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def database(self, ttl, max_ttl="1h"):
        """A database mount of its own with the role `app`; its name."""
        self.start_postgres()
        mount = f"db{next(self.numbers)}"
        self.api("POST", f"sys/mounts/{mount}", {"type": "database"})
        self.configure(mount, ttl, max_ttl)
        return mount

    def configure(self, mount, ttl, max_ttl="1h"):
        url = f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{self.postgres}/postgres?sslmode=disable"
        wait_until(lambda: self.call("POST", f"{mount}/config/pg", {
            "plugin_name": "postgresql-database-plugin", "connection_url": url, "username": "postgres",
            "password": "unused", "allowed_roles": "*"}).returncode == 0, "the database to be taken")
        self.role(mount, "app", ttl, max_ttl)

    def role(self, mount, name, ttl, max_ttl="1h"):
        self.api("POST", f"{mount}/roles/{name}", {
            "db_name": "pg", "creation_statements": [CREATE], "default_ttl": ttl, "max_ttl": max_ttl})

    def leases(self, mount, role="app"):
        result = self.call("LIST", f"sys/leases/lookup/{mount}/creds/{role}/")
        return json.loads(result.stdout)["data"]["keys"] if result.returncode == 0 else []

    # MARK: logins

    def policy(self, *rules):
        """A policy of its own from lines like 'secret/data/* read'; its name."""
        name = f"p{next(self.numbers)}"
        lines = []
        for rule in rules:
            path, *capabilities = rule.split()
            lines.append(f'path "{path}" {{ capabilities = {json.dumps(capabilities)} }}')
        self.api("PUT", f"sys/policies/acl/{name}", {"policy": "\n".join(lines)})
        return name

    def approle(self, place, *rules, **role):
        """An AppRole mount of its own and its credentials in files: what `auth` wants."""
        policy, mount = self.policy(*rules), f"approle{next(self.numbers)}"
        self.api("POST", f"sys/auth/{mount}", {"type": "approle"})
        self.api("POST", f"auth/{mount}/role/app", {"token_policies": policy, "token_ttl": "1h", **role})
        (place / "role").write_text(self.api("GET", f"auth/{mount}/role/app/role-id")["data"]["role_id"])
        (place / "sid").write_text(self.api("POST", f"auth/{mount}/role/app/secret-id", {})["data"]["secret_id"])
        return {"approle": {"mount": mount, "role_id_file": str(place / "role"), "secret_id_file": str(place / "sid")}}

    def revoke_tokens(self, mount):
        """Revokes the tokens that a login at the mount made; how many there were."""
        count = 0
        for accessor in self.api("LIST", "auth/token/accessors")["data"]["keys"]:
            result = self.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})
            if result.returncode == 0 and json.loads(result.stdout)["data"]["path"] == f"auth/{mount}/login":
                self.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})
                count += 1
        return count

    def end(self):
        for process in reversed(self.ending):
            process.end()
        family = rig.descendants(self.bao.pid)
        self.bao.end()
        for pid in family:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
