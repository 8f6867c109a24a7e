"""A run that was started on a terminal: the shell that gets it, Ctrl-C twice, and signals."""

import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest

import rig
from rig import numbers, wait_until


class Terminal:
    """A program on a terminal of its own, and what it wrote there."""

    def __init__(self, argv, cwd):
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [str(a) for a in argv], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, start_new_session=True,
            env={**os.environ, "PS1": "$ ", "TERM": "dumb", "HISTFILE": "/dev/null"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave = slave
        self.text = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self, pause=0.1):
        while select.select([self.master], [], [], pause)[0]:
            try:
                self.text += os.read(self.master, 65536).decode("utf-8", "replace")
            except OSError:
                break
        return self.text

    def expect(self, pattern):
        try:
            wait_until(lambda: re.search(pattern, self.read()), pattern, every=0.01)
        except AssertionError as error:
            raise AssertionError(f"{error}; the terminal shows:\n{self.text}") from None

    def wait(self):
        def ended():
            self.read(0.05)
            return self.process.poll() is not None

        wait_until(ended, f"the end; the terminal shows:\n{self.text}", every=0.01)
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def end(self):
        if self.process.poll() is None:
            family = rig.descendants(self.process.pid)
            for pid in [self.process.pid, *family]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(place, ending):
    (place / "outrider.yaml").write_text(f'admin: {{ listen: "127.0.0.1:{rig.free_port()}" }}\n')

    def starter(*arguments):
        started = Terminal([rig.binary(), "run", "--state", place / "state", *arguments], place)
        ending.append(started)
        return started

    return starter


def test_a_shell_has_the_terminal(terminal):
    shell = terminal("--", "bash", "--norc", "--noprofile")
    shell.expect(r"\$ ")
    shell.type("echo he''llo-$((20+3)); [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo on-a-''terminal\n")
    shell.expect("hello-23")
    shell.expect("on-a-terminal")
    # Job control: Ctrl-C ends what runs in the shell, and neither the shell nor the sidecar.
    shell.type("sleep 1000\n")
    wait_until(lambda: any(rig.command_line(p)[:1] == ["sleep"] for p in rig.descendants(shell.process.pid)), "sleep")
    shell.type("\x03")
    shell.type("echo ali''ve-$?\n")
    shell.expect("alive-130")
    shell.type("stty -echo; exit 7\n")
    assert shell.wait() == 7
    assert termios.tcgetattr(shell.slave)[3] == shell.before[3], "the terminal is not as it was"
    assert "no job control" not in shell.text


def test_ctrl_c_twice_forces(terminal):
    run = terminal("--", "sh", "-c", "trap '' TERM INT; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: any("up" in line for line in rig.logs_of(run.process.args[3])), "the app", every=0.2)
    run.type("\x03")
    run.expect("stopping: SIGINT")
    run.type("\x03")
    run.expect("forced: SIGKILL")
    assert run.wait() == 137


def test_an_app_that_reads_gets_the_terminal_when_it_asks(terminal, place):
    run = terminal("--", sys.executable, "-uc", "print('line-%d-read' % int(input()))")
    run.expect("the app .* uses the terminal")
    run.type("41\n")
    assert run.wait() == 0
    assert numbers(rig.logs_of(place / "state")) == [41]


def test_ctrl_z_stops_both_and_fg_continues_them(place, ending, terminal):
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], place)
    ending.append(shell)
    shell.expect(r"\$ ")
    shell.type(f"{rig.binary()} run --state state --terminal yes -- {sys.executable} -uc 'print(\"got\", input())'\n")
    shell.expect("the app has the terminal")
    outrider = int(wait_until(lambda: rig.children(shell.process.pid), "outrider")[0])
    wait_until(lambda: len(rig.children(outrider)) == 2, "worker and app")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.type("fg\n")
    wait_until(lambda: pathlib.Path(f"/proc/{outrider}/stat").read_text().split()[2] != "T", "fg")
    shell.type("word\n")
    shell.expect("got word")
    shell.type("exit 3\n")
    assert shell.wait() == 3


def test_a_change_of_the_window_reaches_the_app(terminal, place):
    script = "trap 'echo line-28-seen' WINCH; echo up; while :; do sleep 0.05; done"
    run = terminal("--", "sh", "-c", script)
    wait_until(lambda: any("up" in line for line in rig.logs_of(place / "state")), "the app", every=0.2)
    fcntl.ioctl(run.master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    wait_until(lambda: 28 in numbers(rig.logs_of(place / "state")), "the app's note of it", every=0.2)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 143
