"""What is left of secrets in the memory of the worker, as root sees it in /proc/PID/mem."""

import json
import os
import time
import uuid

import pytest

import rig
from rig import wait_until

HOLD = 5.0


def places(pid, piece):
    """How often the octets stand in the readable memory of a process."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_, = line.split()
            if not rights.startswith("r") or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(edge, 16) for edge in span.split("-"))
            rest = b""
            for at in range(start, end, 1 << 22):
                try:
                    memory.seek(at)
                    block = rest + memory.read(min(1 << 22, end - at))
                except OSError:
                    break
                found += block.count(piece)
                rest = block[-len(piece) + 1:]
    return found


def middle(value):
    """A piece of the value that no allocator writes over when it takes freed memory back."""
    return value[20:44].encode()


def fresh(number):
    return f"value-{number}-{uuid.uuid4().hex}{uuid.uuid4().hex}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into an undumpable process")
def test_no_old_value_five_seconds_after_a_rotation_and_the_current_one_twice_at_most(start, place, bao):
    """Files, a template with blocks, shared memory, the socket and the log redactor know the secret."""
    values = [fresh(number) for number in range(4)]

    def put(value):
        bao.api("POST", "secret/data/shop/db", {"data": {"user": "shop", "password": value}})

    put(values[0])
    (place / "token").write_text("root")
    plain, blocks, socket = place / "plain", place / "blocks", place / "s.sock"
    process = start({"secrets": {
        "stores": {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}},
        "values": {"db": {"kv": "secret/shop/db", "refresh": "1s"}},
        "files": [
            {"path": str(plain), "template": "p=${secrets.db.password}\nurl=${secrets.db.password|urlencode}"},
            {"path": str(blocks), "template":
                '{{ with secret "db" }}{{ .Data.password | toJSON }} {{ .Data.password | indent 2 | trimSpace }} '
                '{{ range .Data.password | split "-" }}<{{ . }}>{{ end }}{{ .Data | toJSON }}{{ end }}'}],
        "shared_memory": {"values": ["db"]}, "socket": {"path": str(socket)}}}, ["sleep", "600"]).wait_ready()
    worker = process.worker()

    def is_delivered(value):
        return f"p={value}\n" in plain.read_text() and value in blocks.read_text()

    for value in values[1:]:
        put(value)
        wait_until(lambda: is_delivered(value), "the rotation")
        reply = rig.request(socket, "/v1/secrets/db")
        assert reply.json["data"]["password"] == value
    rotated = time.monotonic()
    wait_until(lambda: time.monotonic() > rotated + HOLD, "the time that a value may take to go")
    counts = [places(worker, middle(value)) for value in values]
    print(f"places of the former values and of the current one: {counts}")
    assert counts[:-1] == [0, 0, 0], "an old value is still in memory"
    assert 1 <= counts[-1] <= 2, "the current value stands in more than two places"
    assert process.worker() == worker
    process.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into an undumpable process")
def test_former_values_are_redacted_although_they_are_in_memory_no_more(start, place, bao, python_app):
    values = [fresh(number) for number in range(2)]
    bao.api("POST", "secret/data/db", {"data": {"password": values[0]}})
    (place / "token").write_text("root")
    out, lines = place / "out", place / "lines"
    app = f"while read -r line; do echo \"app says $line\"; done < {lines}; sleep 600"
    os.mkfifo(lines)
    process = start({"secrets": {
        "stores": {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}},
        "values": {"db": {"kv": "secret/db", "refresh": "1s"}},
        "files": [{"path": str(out), "template": "${secrets.db.password}"}]}}, ["sh", "-c", app]).wait_ready()
    bao.api("POST", "secret/data/db", {"data": {"password": values[1]}})
    wait_until(lambda: out.read_text() == values[1], "the rotation")
    wait_until(lambda: places(process.worker(), middle(values[0])) == 0, "the old value to be gone")
    lines.write_text("".join(f"{value} end\n" for value in values))
    found = process.wait_logs(lambda logs: sum("app says" in line for line in logs) == 2, "the app's lines")
    said = [line for line in found if "app says" in line]
    assert all("***" in line and "end" in line for line in said), said
    process.stop()
    text = json.dumps(rig.logs_of(process.state))
    assert not any(value in text for value in values)
