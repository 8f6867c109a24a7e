"""Files that are rotated, truncated and replaced while they are read: every line arrives, once.

OUTRIDER_LONG=1 writes 50,000 lines at 5,000 a second; without it there are fewer, as fast as they go."""

import collections
import os
import shutil
import signal
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


def every_line_once(process, count):
    wait_until(lambda: len(set(numbers(process.logs("--source", "f")))) >= count, f"{count} lines", every=0.3)
    counted = collections.Counter(numbers(process.logs("--source", "f")))
    assert set(counted) == set(range(count)) and max(counted.values()) == 1, counted.most_common(3)


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
