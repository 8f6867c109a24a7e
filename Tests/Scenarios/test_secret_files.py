"""Files of secrets where the world is against them: no room, no permission, and clients that log them."""

import json
import os
import subprocess

import pytest

import rig
from rig import wait_until


def content(number, size=0):
    return f"db:\n  password: the-password-{number}\n  filler: {'x' * size or 'y'}\n"


def secrets(store, target, **more):
    file, identity = store
    return {"stores": {"age": {"file": str(file), "identity": str(identity)}},
            "values": {"db": {}},
            "files": [{"path": str(target), "template": "p=${secrets.db.password}\n${secrets.db.filler}", **more}]}


@pytest.fixture
def small_disk(place):
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    path = place / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_keeps_the_last_good_file_and_heals(start, place, age_store, small_disk):
    marks, target, ballast = place / "marks", small_disk / "db.conf", small_disk / "ballast"
    change = {"exec": ["sh", "-c", f"echo ran >> {marks}"]}
    process = start({"secrets": secrets(age_store(content(1)), target, on_change=change)}, ["sleep", "600"])
    process.wait_ready()
    with pytest.raises(OSError), open(ballast, "wb") as out:
        for _ in range(64):
            out.write(b"x" * 4096)
            out.flush()
    age_store(content(2, 30_000))
    wait_until(lambda: "No space left" in process.stderr, "a line that says why")
    assert target.read_text() == "p=the-password-1\ny", "the last good file"
    assert shown(process)["state"] == "failing" and "No space left" in shown(process)["last_error"]
    assert sorted(p.name for p in small_disk.iterdir()) == ["ballast", "db.conf"], "no temporary is left"
    assert not marks.exists(), "the action waits for the file"
    ballast.unlink()
    wait_until(lambda: target.read_text().startswith("p=the-password-2\n"), "the new file")
    wait_until(marks.exists, "the action")
    assert marks.read_text() == "ran\n" and "the-password" not in process.stderr
    process.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_directory_that_became_read_only_heals(start, place, age_store, small_disk):
    target = small_disk / "db.conf"
    process = start({"secrets": secrets(age_store(content(1)), target)}, ["sleep", "600"]).wait_ready()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    age_store(content(2))
    wait_until(lambda: "Read-only file system" in process.stderr, "a line that says why")
    assert target.read_text() == "p=the-password-1\ny"
    assert shown(process)["state"] == "failing" and "Read-only" in shown(process)["last_error"]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    wait_until(lambda: target.read_text() == "p=the-password-2\ny", "the new file")
    process.stop()


def test_files_of_a_set_switch_together(start, place, age_store):
    """Whoever opens the set's directory once reads files of one generation, whatever is switched meanwhile."""
    out, marks = place / "out", place / "marks"
    out.mkdir()

    def pair(number):
        return f"web:\n  certificate: certificate-{number}\n  key: key-{number}\n"

    file, identity = age_store(pair(0))
    change = {"exec": ["sh", "-c", f"echo ran >> {marks}"]}
    files = [{"path": str(out / f"tls.{name}"), "template": f"${{secrets.web.{name}}}", "set": "web", "on_change": change}
             for name in ("certificate", "key")]
    process = start({"secrets": {"stores": {"age": {"file": str(file), "identity": str(identity)}},
                                 "values": {"web": {}}, "files": files}}, ["sleep", "600"]).wait_ready()

    def generation():
        try:
            folder = os.open(out / ".outrider-web", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            texts = []
            for name in ("certificate", "key"):
                descriptor = os.open(f"tls.{name}", os.O_RDONLY, dir_fd=folder)
                texts.append(os.read(descriptor, 100).decode().split("-"))
                os.close(descriptor)
            assert texts[0][1] == texts[1][1], texts
            return int(texts[0][1])
        except FileNotFoundError:
            return None  # the generation was replaced: open the set again
        finally:
            os.close(folder)

    assert generation() == 0 and os.readlink(out / "tls.key") == ".outrider-web/tls.key"
    for number in range(1, 4):
        age_store(pair(number))
        wait_until(lambda: generation() == number, "the next generation", every=0.001)
        assert (out / "tls.key").read_text() == f"key-{number}"
    wait_until(lambda: marks.exists() and marks.read_text() == "ran\n" * 3, "one action for each switch")
    (out / "tls.key").unlink()
    wait_until((out / "tls.key").exists, "the file to be put back")
    assert (out / "tls.key").read_text() == "key-3"
    wait_until(lambda: sum(path.name.startswith(".outrider-web.") for path in out.iterdir()) == 1, "one generation")
    process.stop()
    assert list(out.iterdir()) == [], "nothing is left at stop"


def test_a_field_that_goes_away_keeps_the_last_good_file(start, place, age_store):
    marks, target = place / "marks", place / "db.conf"
    change = {"exec": ["sh", "-c", f"echo ran >> {marks}"]}
    process = start({"secrets": secrets(age_store(content(1)), target, on_change=change)}, ["sleep", "600"])
    process.wait_ready()
    age_store("db:\n  password: the-password-2\n")
    wait_until(lambda: "has no field `filler`" in shown(process).get("last_error", ""), "the reason in the status")
    assert shown(process)["state"] == "failing" and str(target) in shown(process)["last_error"]
    assert target.read_text() == "p=the-password-1\ny" and not marks.exists()
    age_store(content(3))
    wait_until(lambda: target.read_text() == "p=the-password-3\ny", "the next good content")
    wait_until(lambda: shown(process)["state"] == "fresh", "a good state")
    assert "the-password" not in process.stderr
    process.stop()


def shown(process):
    """The secret `db` as `outrider secrets status` shows it."""
    result = rig.run("secrets", "status", "--state", process.state, "--output", "json")
    assert result.returncode in (0, 1), result.stderr
    return next(s for s in json.loads(result.stdout) if s["name"] == "db")


def test_access_records_hide_current_and_former_values(start, place, age_store, nginx, python_app):
    """A client that puts a secret into a URL does not put it into the records."""
    file, identity = age_store(content(1))
    upstream, port = nginx(), rig.free_port()
    process = start(
        {"outbound": {"web": {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream}"}},
         "secrets": {"stores": {"age": {"file": str(file), "identity": str(identity)}}, "values": {"db": {}}}},
        ["sleep", "600"]).wait_ready()
    assert rig.status_of(port, "/first?token=the-password-1") == 200
    age_store(content(2))
    wait_until(lambda: process.admin("/status").json["secrets"][0]["age_seconds"] is not None
               and 'outrider_secret_fetches_total{secret="db"} 2' in process.admin("/metrics").text, "the rotation")
    for number in (1, 2):
        assert rig.status_of(port, f"/second?token=the-password-{number}") == 200
    lines = process.wait_logs(lambda found: sum("/second" in l for l in found) == 2, "the records")
    process.stop()
    lines = rig.logs_of(process.state)
    assert any("/first" in line for line in lines)
    assert not any("the-password" in line for line in lines)
