"""Files of secrets where the world is against them: no room, no permission, and clients that log them."""

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
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    wait_until(lambda: target.read_text() == "p=the-password-2\ny", "the new file")
    process.stop()


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
