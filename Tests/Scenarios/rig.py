"""What every scenario stands on: the real binary, its peers, and waiting for things that happen.

Nothing sleeps: `wait_until` asks again until a deadline. Every process is ended by its own id.
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVERS = ROOT / "Tests" / "Servers"
APPS = pathlib.Path(__file__).parent / "apps"
# Generous: machines that run many things at once are slow, and a deadline only matters when something is broken.
DEADLINE = float(os.environ.get("OUTRIDER_TEST_DEADLINE", "45"))


def binary():
    path = pathlib.Path(os.environ.get("OUTRIDER") or ROOT / "dist" / "outrider").resolve()
    if not os.access(path, os.X_OK):
        raise AssertionError(f"there is no outrider binary at {path}: run 'make build', or set OUTRIDER to one")
    return str(path)


def tool(name):
    """A peer's command: from .venv, or from the system."""
    local = ROOT / ".venv" / "bin" / name
    found = str(local) if local.exists() else shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise AssertionError(f"'{name}' is not installed: run dev/setup.sh test")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(predicate, what, deadline=None, every=0.05):
    """Asks `predicate` until it answers with something true, which is returned; fails at the deadline."""
    pause = threading.Event()
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline or DEADLINE:.0f} s in vain for {what}; last answer: {answer!r}")
        pause.wait(every)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("outrider", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def request(target, path="/", method="GET", body=None, headers=None, timeout=20):
    """A request on a connection of its own. `target` is a port of the loopback address, or a Unix socket's path."""
    if isinstance(target, int):
        connection = http.client.HTTPConnection("127.0.0.1", target, timeout=timeout)
    else:
        connection = UnixConnection(target, timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def status_of(target, path="/", **options):
    """The status of a request; None when there was no answer."""
    try:
        return request(target, path, **options).status
    except (OSError, http.client.HTTPException):
        return None


def accepts(port):
    """Whether somebody accepts connections on the port of the loopback address."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


def raw_exchange(port, data, timeout=20):
    """Sends bytes as they are and returns what comes back until the peer closes (or is silent for `timeout`)."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        received = b""
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while piece := connection.recv(65536):
                received += piece
        except (ConnectionResetError, TimeoutError):
            pass
        return received


class Process:
    """A child process whose stdout and stderr go to files."""

    def __init__(self, argv, directory, name, env=None, cwd=None, stdin=subprocess.DEVNULL, pass_fds=()):
        self.out_path, self.err_path = directory / f"{name}.out", directory / f"{name}.err"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(
                [str(a) for a in argv], stdin=stdin, stdout=out, stderr=err, cwd=cwd, pass_fds=pass_fds,
                # Tests that a shell runs in the background would hand down that SIGINT is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), env={**os.environ, **(env or {})})
        self.pid = self.process.pid

    @property
    def stdout(self):
        return self.out_path.read_text("utf-8", "replace")

    @property
    def stderr(self):
        return self.err_path.read_text("utf-8", "replace")

    @property
    def is_running(self):
        return self.process.poll() is None

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=None):
        """The exit code, as a shell has it: 128+N after signal N."""
        try:
            code = self.process.wait(timeout or DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.process.args} did not end; it wrote:\n{self.stderr[-4000:]}") from None
        return code if code >= 0 else 128 - code

    def stop(self, number=signal.SIGTERM):
        if self.is_running:
            self.send(number)
        return self.wait()

    def end(self):
        """For teardown: TERM, then KILL, then also whatever children were left."""
        if self.is_running:
            family = descendants(self.pid)
            self.send(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                for pid in family:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass


def children(pid):
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:
            pass
    return found


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except OSError:
        return []


class Outrider(Process):
    """`outrider run`, with a configuration given as a dictionary (JSON is YAML), a text, or None for no file."""

    def __init__(self, directory, config=None, command=(), env=None, name="outrider", state=None, cwd=None, wrap=(),
                 pass_fds=()):
        self.directory = directory
        self.state = state or directory / "state"
        self.socket = self.state / "outrider.sock"
        argv = [*wrap, binary(), "run", "--state", self.state]
        self.config_path = None
        if config is not None:
            self.config_path = directory / "outrider.yaml"
            self.write_config(config)
            argv += ["--config", self.config_path]
        if command:
            argv += ["--", *command]
        super().__init__(argv, directory, name, env=env, cwd=cwd or directory, pass_fds=pass_fds)

    def write_config(self, config):
        self.config_path.write_text(config if isinstance(config, str) else json.dumps(config, indent=2))

    def worker(self):
        """The worker's process id, or None."""
        for pid in children(self.pid):
            if "worker" in command_line(pid)[1:2]:
                return pid
        return None

    def app(self):
        """The app's process id, or None."""
        for pid in children(self.pid):
            argv = command_line(pid)
            if argv and "worker" not in argv[1:2] and pathlib.Path(argv[0]).name != "outrider":
                return pid
        return None

    def admin(self, path, **options):
        return request(self.socket, path, **options)

    def wait_ready(self, path="/readyz"):
        def is_ready():
            if not self.is_running:
                raise AssertionError(f"outrider ended with {self.wait()} before it was ready:\n{self.stderr[-4000:]}")
            return status_of(self.socket, path, timeout=5) == 200

        try:
            wait_until(is_ready, f"{path} to answer 200")
        except AssertionError as error:
            raise AssertionError(f"{error}\noutrider wrote:\n{self.stderr[-4000:]}") from None
        return self

    def logs(self, *arguments):
        """The records of `outrider logs --output json`, as text lines."""
        return logs_of(self.state, *arguments)

    def wait_logs(self, predicate, what):
        return wait_until(lambda: (lambda lines: lines if predicate(lines) else None)(self.logs()), what, every=0.2)


def run(*arguments, stdin=None, env=None, cwd=None, timeout=None):
    """One command of outrider, to its end."""
    return subprocess.run(
        [binary(), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout or DEADLINE,
        env={**os.environ, **(env or {})}, cwd=cwd)


def logs_of(state, *arguments):
    """The store's records; none while the sidecar has not made its state directory yet."""
    if not os.path.isdir(state):
        return []
    result = run("logs", "--state", state, "--output", "json", *arguments)
    assert result.returncode == 0, f"outrider logs ended with {result.returncode}: {result.stderr}"
    lines = result.stdout.splitlines()
    for line in lines:
        json.loads(line)
    return lines


def numbers(lines, word="line"):
    """The numbers N of every 'line-N-' in the texts, in order."""
    return [int(n) for line in lines for n in re.findall(rf"{word}-(\d+)-", line)]


class Peer(Process):
    """A server of Tests/Servers: prints its port, ends with its standard input."""

    def __init__(self, directory, script, name=None, arguments=()):
        super().__init__(
            [sys.executable, SERVERS / script, *arguments], directory, name or script.removesuffix(".py"),
            stdin=subprocess.PIPE)
        self.port = int(wait_until(lambda: self.stdout.endswith("\n") and self.stdout, f"{script} to print its port"))

    def tell(self, path, wishes):
        reply = request(self.port, path, "POST", json.dumps(wishes))
        assert reply.status == 200, reply.text

    def ask(self, path):
        return request(self.port, path).json

    def end(self):
        self.process.stdin.close()
        super().end()


def private_memory(pid):
    """Octets that only this process holds."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))
