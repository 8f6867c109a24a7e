"""Files that are rotated, truncated and replaced while they are read, agents that are ended, sinks and disks that are
away: every line arrives, once.

OUTRIDER_LONG=1 writes 50,000 lines at 5,000 a second; without it there are fewer, as fast as they go."""

import collections
import os
import shutil
import signal
import subprocess
import threading

import pytest

import rig
from rig import numbers, wait_until

LONG = "OUTRIDER_LONG" in os.environ
LINES = 50_000 if LONG else 4_000


class Writer:
    """Writes numbered lines, pausing after each tenth of a second's worth; `turn` is called each `every` seconds' worth."""

    def __init__(self, log, rate=5000):
        self.log, self.rate, self.next = log, rate, 0
        self.out = log.open("a")

    def write(self, count, turn=None, every=0.5):
        pause, block, since = threading.Event(), self.rate // 10, 0.0
        for _ in range(0, count, block):
            for n in range(self.next, self.next + block):
                self.out.write(f"line-{n}-x\n")
            self.out.flush()
            self.next += block
            since += 0.1
            if turn and since >= every:
                turn(self)
                since = 0.0
            if LONG:
                pause.wait(0.1)


def config(place, glob="a.log", **more):
    return {"logs": {"sources": {"f": {"files": [f"{place}/{glob}"], "start": "beginning", **more}}}}


def tell(what, found, count):
    """Prints and returns what is missing and what came more than once."""
    counted = collections.Counter(found)
    missing, twice = count - len(set(range(count)) & set(counted)), len(found) - len(counted)
    print(f"{what}: {count} lines, missing {missing}, sent twice {twice}")
    return missing, twice


def every_line_once(process, count):
    wait_until(lambda: len(set(numbers(process.logs("--source", "f")))) >= count, f"{count} lines", every=0.3)
    found = numbers(process.logs("--source", "f"))
    assert tell("store", found, count) == (0, 0), collections.Counter(found).most_common(3)
    return found


def rename(writer):
    older = sorted(writer.log.parent.glob("a.log.*"), key=lambda p: -int(p.suffix[1:]))
    for path in older:
        path.rename(writer.log.parent / f"a.log.{int(path.suffix[1:]) + 1}")
    writer.log.rename(writer.log.parent / "a.log.1")
    writer.out.close()
    writer.out = writer.log.open("a")


def copytruncate(writer):
    shutil.copyfile(writer.log, writer.log.parent / f"a.log.{writer.next}")
    os.truncate(writer.log, 0)


@pytest.mark.parametrize("glob", ["a.log", "a.log*"])
def test_rename_rotation(start, place, glob):
    writer = Writer(place / "a.log")
    process = start(config(place, glob), ["sleep", "300"]).wait_ready()
    wait_until(lambda: writer.write(500) or numbers(process.logs("--source", "f")), "the first lines")
    writer.write(LINES, rename if glob == "a.log*" else lambda w: wait_until(
        lambda: len(set(numbers(process.logs("--source", "f")))) >= w.next or LONG, "the rotated file's lines") and rename(w))
    every_line_once(process, writer.next)
    process.stop()


def test_copytruncate(start, place):
    writer = Writer(place / "a.log")
    process = start(config(place), ["sleep", "300"]).wait_ready()
    writer.write(500)

    def turn(writer):
        # Some of what is copied was read already, the rest was not: it is read from the copy.
        wait_until(lambda: numbers(process.logs("--source", "f"))[-1:] and
                   max(numbers(process.logs("--source", "f"))) > writer.next - 3000, "a look at the file")
        copytruncate(writer)

    writer.write(LINES // 2, turn, every=1.0)
    every_line_once(process, writer.next)
    process.stop()


def test_killed_three_times(start, place):
    writer = Writer(place / "a.log")
    process = start(config(place), ["sleep", "300"]).wait_ready()

    def kill(writer):
        worker = process.worker()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: process.worker() not in (None, worker), "the next worker")

    for _ in range(3):
        writer.write(LINES // 4)
        kill(writer)
    writer.write(LINES // 4)
    count = writer.next
    wait_until(lambda: set(numbers(process.logs("--source", "f"))) == set(range(count)), f"{count} lines", every=0.3)
    process.stop()


def test_terminated_three_times(start, place):
    """Each time another agent goes on where the last one was, while lines are written."""
    writer = Writer(place / "a.log")
    process = start(config(place), ["sleep", "300"]).wait_ready()
    for turn in range(3):
        writer.write(LINES // 4)
        process.send(signal.SIGTERM)
        writer.write(LINES // 40)
        assert process.wait() in (0, 128 + signal.SIGTERM)
        process = start(config(place), ["sleep", "300"], name=f"again{turn}").wait_ready()
    writer.write(LINES // 4)
    found = every_line_once(process, writer.next)
    assert found == sorted(found), "in order"
    process.stop()


def bulk(port, **more):
    return {"es": {"elasticsearch": {"url": f"http://127.0.0.1:{port}", "index": "f"}, "from": "f",
                   "batch": {"age": "100ms"}, "retry": {"initial": "50ms", "max": "1s"}, **more}}


def arrived(server):
    return numbers(document["raw"] for document in server.ask("/_accepted")["documents"])


@pytest.mark.parametrize("seconds", [5, 40] if LONG else [1])
def test_a_sink_that_is_down(start, place, peer, seconds):
    """Nobody listens, then somebody does. Batches that were on their way stay one document each."""
    server = peer("bulk_fault_server.py")
    writer = Writer(place / "a.log")
    plan = config(place)
    plan["logs"]["sinks"] = bulk(server.port)
    process = start(plan, ["sleep", "300"]).wait_ready()
    writer.write(LINES // 10)
    wait_until(lambda: arrived(server), "the first lines")
    server.tell("/_fault", {"mode": "drop"})
    writer.write(5000 * seconds if LONG else LINES // 2)
    server.tell("/_fault", {"mode": "none"})
    writer.write(LINES // 10)
    wait_until(lambda: len(set(arrived(server))) >= writer.next, f"{writer.next} lines", every=0.3)
    assert tell(f"down for {seconds} s", arrived(server), writer.next) == (0, 0)
    every_line_once(process, writer.next)
    process.stop()


@pytest.mark.parametrize("fault", [
    {"mode": "429", "times": 5}, {"mode": "429-third", "times": 20}, {"mode": "413", "limit": 50_000},
    {"mode": "store-then-reset", "times": 5}], ids=lambda fault: fault["mode"])
def test_a_sink_that_answers_badly(start, place, peer, fault):
    server = peer("bulk_fault_server.py")
    server.tell("/_fault", fault)
    writer = Writer(place / "a.log")
    plan = config(place)
    plan["logs"]["sinks"] = bulk(server.port)
    process = start(plan, ["sleep", "300"]).wait_ready()
    writer.write(LINES)
    wait_until(lambda: len(set(arrived(server))) >= LINES, f"{LINES} lines through {fault}", every=0.3)
    assert tell(fault["mode"], arrived(server), LINES) == (0, 0)
    process.stop()


def test_a_disk_that_is_full_for_a_while(start, place):
    """The spool has a file system of 1 MiB to itself, in a mount namespace of the process's own; then it gets more."""
    spool = place / "small"
    spool.mkdir()
    root = os.geteuid() == 0
    mount = ["unshare", "--mount", *([] if root else ["--map-root-user"]), "sh", "-c",
             f'mount -t tmpfs -o size=1m tmpfs {spool} && exec "$@"', "mount"]
    writer = Writer(place / "a.log")
    plan = config(place)
    plan["logs"]["spool"] = {"path": str(spool)}
    plan["logs"]["sinks"] = bulk(rig.free_port())
    plan["shutdown"] = {"deadline": "3s"}
    process = start(plan, ["sleep", "300"], wrap=mount).wait_ready()
    writer.write(10_000)
    wait_until(lambda: "space" in process.stderr.lower(), "a line that says so")
    writer.write(25_000 if LONG else LINES)
    assert process.is_running
    enter = ["nsenter", "--target", str(process.worker()), "--mount", *([] if root else ["--user", "--preserve-credentials"])]
    subprocess.run([*enter, "mount", "-o", "remount,size=64m", str(spool)], check=True)
    writer.write(LINES // 10)
    found = every_line_once(process, writer.next)
    assert found == sorted(found), "in order"
    process.stop()


def test_rotated_twice_while_away(start, place):
    """Both files that it knew are read to their ends; the one between was never seen, and is found by the glob."""
    writer = Writer(place / "a.log")
    process = start(config(place, "a.log*"), ["sleep", "300"]).wait_ready()
    writer.write(1000)
    every_line_once(process, 1000)
    process.stop()
    for _ in range(2):
        writer.write(1000)
        rename(writer)
    writer.write(1000)
    again = start(config(place, "a.log*"), ["sleep", "300"], name="again").wait_ready()
    every_line_once(again, 4000)
    again.stop()


def test_a_thousand_files(start, place):
    logs = place / "many"
    logs.mkdir()
    process = start(config(logs, "*.log"), ["sleep", "300"]).wait_ready()
    for n in range(1000):
        (logs / f"{n}.log").write_text(f"line-{2 * n}-x\n")
    for n in range(1000):
        with (logs / f"{n}.log").open("a") as out:
            out.write(f"line-{2 * n + 1}-x\n")
    every_line_once(process, 2000)
    process.stop()


def test_a_name_whose_inode_comes_again(start, place):
    """Deleted and made anew at once, the file may get the number of the old one; what it holds tells them apart."""
    log = place / "a.log"
    process = start(config(place), ["sleep", "300"]).wait_ready()
    for n in range(5):
        log.write_text(f"line-{n}-" + "x" * n + "\n")
        wait_until(lambda: n in numbers(process.logs("--source", "f")), f"line {n}")
        log.unlink()
    every_line_once(process, 5)
    process.stop()
