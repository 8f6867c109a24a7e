"""`outrider secrets edit`, `rotate-key` and `outrider run --once`."""

import json
import pathlib
import re
import stat
import subprocess

import pytest

import rig


@pytest.fixture
def store(place):
    where = ("--file", place / "mine.age", "--identity", place / "mine.txt")
    assert rig.run("secrets", "init", *where).returncode == 0
    assert rig.run("secrets", "set", "db.password", *where, stdin="before").returncode == 0
    return where


def real_age(place):
    return subprocess.run([rig.tool("age"), "-d", "-i", place / "mine.txt", place / "mine.age"], capture_output=True,
                          text=True)


def editor(place, body):
    """A shell script as the editor: $1 is the file."""
    script = place / "editor.sh"
    script.write_text(f"#!/bin/sh\nset -e\n{body}\n")
    script.chmod(0o755)
    return {"EDITOR": str(script), "VISUAL": ""}


def test_edit_saves_what_the_editor_leaves(place, store):
    seen = place / "seen"
    body = (f'stat -f -c %T "$1" > {seen}; stat -c %a "$1" >> {seen}; echo "$1" >> {seen}; cp "$1" "$1~"\n'
            'printf "db:\\n  password: after\\n" > "$1"')
    result = rig.run("secrets", "edit", *store, env=editor(place, body))
    assert result.returncode == 0, result.stderr
    kind, mode, path = seen.read_text().split()
    assert kind in ("tmpfs", "ramfs") and mode == "600"
    assert not pathlib.Path(path).parent.exists(), "nothing stays, backups neither"
    assert "after" in real_age(place).stdout
    assert "after" not in result.stdout + result.stderr


@pytest.mark.parametrize("body, message", [
    ('printf "db: [1]\\n" > "$1"', "line 1"),
    ("exit 3", "ended with 3"),
])
def test_edit_refuses_and_the_store_stays(place, store, body, message):
    before = (place / "mine.age").read_bytes()
    result = rig.run("secrets", "edit", *store, env=editor(place, body))
    assert result.returncode != 0 and message in result.stderr and "unchanged" in result.stderr
    assert (place / "mine.age").read_bytes() == before
    assert sorted(p.name for p in place.iterdir()) == ["editor.sh", "mine.age", "mine.txt"]


def test_an_edit_without_a_change_writes_nothing(place, store):
    before = (place / "mine.age").read_bytes()
    result = rig.run("secrets", "edit", *store, env=editor(place, "true"))
    assert result.returncode == 0 and "unchanged" in result.stdout
    assert (place / "mine.age").read_bytes() == before


def test_edit_does_not_undo_what_somebody_else_did(place, store):
    words = " ".join(str(word) for word in store)
    body = f'printf theirs | {rig.binary()} secrets set db.password {words}\nprintf "db:\\n  password: mine\\n" > "$1"'
    result = rig.run("secrets", "edit", *store, env=editor(place, body))
    assert result.returncode != 0 and "somebody else" in result.stderr
    assert "theirs" in real_age(place).stdout


def test_rotate_key_keeps_the_content_and_the_other_recipients(place, store):
    other = place / "other.txt"
    subprocess.run([rig.tool("age-keygen"), "-o", other], check=True, capture_output=True)
    public = subprocess.run([rig.tool("age-keygen"), "-y", other], check=True, capture_output=True, text=True).stdout
    old = (place / "old.txt")
    old.write_bytes((place / "mine.txt").read_bytes())
    with open(place / "mine.txt", "a") as identity:
        identity.write(f"# recipient: {public.strip()}\n")
    result = rig.run("secrets", "rotate-key", *store)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("public key: age1") and "AGE-SECRET-KEY" not in result.stdout + result.stderr
    assert stat.S_IMODE((place / "mine.txt").stat().st_mode) == 0o600
    assert "before" in real_age(place).stdout
    for identity, opens in ((other, True), (old, False)):
        opened = subprocess.run([rig.tool("age"), "-d", "-i", identity, place / "mine.age"], capture_output=True)
        assert (opened.returncode == 0) == opens, identity
    assert rig.run("secrets", "get", "db.password", *store).stdout == "before\n"


def once(place, config, *more):
    path = place / "outrider.yaml"
    path.write_text(json.dumps(config))
    return rig.run("run", "--once", "--config", path, *more)


def config(file, identity, target, field="password"):
    return {"app": {"command": ["touch", str(target) + ".started"]},
            "secrets": {"stores": {"age": {"file": str(file), "identity": str(identity)}},
                        "files": [{"path": str(target), "template": "p=${secrets.db." + field + "}\n", "mode": "0640"}]}}


def test_run_once_renders_and_exits(place, age_store):
    file, identity = age_store("db:\n  password: hunter2-and-more\n")
    target = place / "db.conf"
    result = once(place, config(file, identity, target))
    assert result.returncode == 0, result.stderr
    assert target.read_text() == "p=hunter2-and-more\n" and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert not pathlib.Path(str(target) + ".started").exists(), "the app is not started"
    assert "hunter2" not in result.stdout + result.stderr


def test_run_once_tells_what_waiting_heals_from_what_not(place, age_store):
    file, identity = age_store("db:\n  password: hunter2-and-more\n")
    wrong = once(place, config(file, identity, place / "x.conf", field="pass"))
    assert wrong.returncode == 78 and "no field `pass`" in wrong.stderr and not (place / "x.conf").exists()
    (place / "token").write_text("none")
    late = once(
        place,
        {"secrets": {"stores": {"vault": {"address": f"http://127.0.0.1:{rig.free_port()}",
                                          "auth": {"token_file": str(place / "token")}}},
                     "values": {"db": {"kv": "secret/db"}},
                     "files": [{"path": str(place / "y.conf"), "value": "${secrets.db.password}"}]}},
        "--timeout", "1s")
    assert late.returncode == 1 and "did not come within 1s" in late.stderr, late.stderr
    assert once(place, {"secrets": {"files": 1}}).returncode == 78


def test_every_test_that_the_guide_names_is_there():
    guide = (rig.ROOT / "docs" / "secrets.md").read_text()
    guide = guide[guide.index("## Beside Vault Agent"):guide.index("## How secrets do")]
    named = [name for line in guide.splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line.split(" | ")[-1])]
    sources = "\n".join(path.read_text() for folder in ("Scenarios", "SecretsTests", "SecretAgentTests")
                        for path in (rig.ROOT / "Tests" / folder).iterdir() if path.suffix in (".py", ".swift"))
    assert len(named) > 20
    assert [name for name in named if not re.search(rf"(def|func) {name}\(", sources)] == []
