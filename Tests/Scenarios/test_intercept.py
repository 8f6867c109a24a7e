"""Transparent interception in network namespaces of the test's own: the app knows of no proxy.

The outer namespace stands for the network; the inner one holds outrider (uid 1337), the app's user (uid 65534) and, on
addresses of its loopback interface, what the app talks to.
"""

import json
import os
import shutil
import subprocess

import pytest

import rig
from rig import wait_until

SIDECAR, USER = "1337", "65534"
# A server of plain HTTP that says what it saw; and one that greets, then echoes.
WEB = """
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{sys.argv[3]} {self.path} host={self.headers['Host']} for={self.headers['X-Forwarded-For']} id={'X-Request-Id' in self.headers}".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""
GREETER = """
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 ready\\r\\n")
        self.wfile.write(b"got " + self.rfile.readline())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""
ASK = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),20); a=s.recv(99); s.sendall(b'hello\\n'); print(a+s.recv(99))"
PYTHON = "/usr/bin/python3"


class Net:
    def __init__(self, place, ending):
        self.place, self.ending = place, ending
        self.name, self.far = f"otr{os.getpid()}a", f"otr{os.getpid()}b"
        self.made = []

    def make(self):
        for name in (self.name, self.far):
            result = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if result.returncode != 0:
                pytest.skip(f"a network namespace cannot be made here: {result.stderr.strip()}")
            self.made.append(name)
        for name in self.made:
            self.root("ip", "link", "set", "lo", "up", name=name)
        # Far away, as far as the app can tell.
        for address in ("10.77.0.2/32", "10.77.0.3/32"):
            self.root("ip", "address", "add", address, "dev", "lo")
        self.root("ip", "-6", "address", "add", "fd77::2/128", "dev", "lo", "nodad")
        self.root("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", self.far)
        for name, device, four, six in ((self.name, "veth0", "10.78.0.1/24", "fd78::1/64"),
                                        (self.far, "veth1", "10.78.0.2/24", "fd78::2/64")):
            self.root("ip", "address", "add", four, "dev", device, name=name)
            self.root("ip", "-6", "address", "add", six, "dev", device, "nodad", name=name)
            self.root("ip", "link", "set", device, "up", name=name)

    def inside(self, *argv, uid=None, name=None):
        user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        return ["ip", "netns", "exec", name or self.name, *user, *map(str, argv)]

    def root(self, *argv, name=None, check=True):
        result = subprocess.run(self.inside(*argv, name=name), capture_output=True, text=True, timeout=60)
        assert not check or result.returncode == 0, f"{argv}: {result.stderr}"
        return result

    def serve(self, script, *arguments):
        path = self.place / f"server{len(self.ending)}.py"
        path.write_text(script)
        self.ending.append(rig.Process(self.inside(PYTHON, path, *arguments), self.place, path.stem))

    def curl(self, *arguments, uid=USER, name=None):
        """What the app's user gets, or another."""
        result = subprocess.run(
            self.inside("curl", "-s", "-m", "20", *arguments, uid=uid, name=name), capture_output=True, text=True,
            timeout=60)
        return result.stdout

    def end(self):
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def net(place, ending):
    for tool in ("ip", "nft", "setpriv", "curl"):
        rig.tool(tool)
    if os.geteuid() != 0:
        pytest.skip("making a network namespace needs root")
    place.chmod(0o755)
    made = Net(place, ending)
    ending.append(made)
    made.make()
    return made


@pytest.fixture
def sidecar(net, start):
    """sidecar(**listeners) is outrider in the namespace, as a user of its own; the app does nothing."""

    def starter(config, capabilities=False):
        state = net.place / "state"
        state.mkdir()
        shutil.chown(state, int(SIDECAR), int(SIDECAR))
        keep = ["--inh-caps=+net_admin", "--ambient-caps=+net_admin"] if capabilities else []
        wrap = ["ip", "netns", "exec", net.name, "setpriv", f"--reuid={SIDECAR}", f"--regid={SIDECAR}",
                "--clear-groups", *keep]
        return start(config, ["/bin/sleep", "300"], wrap=wrap, state=state, cwd="/").wait_ready()

    return starter


def intercept(net, *arguments, check=True):
    return net.root(rig.binary(), "intercept", *arguments, check=check)


def records(process, text):
    return wait_until(
        lambda: [l for l in process.logs("--source", "access") if text in l], f"the access record of {text}")


@pytest.mark.parametrize("method", ["redirect", "tproxy"])
def test_what_the_app_sends_is_taken(net, sidecar, method):
    for address, port, word in (("10.77.0.2", 80, "two"), ("10.77.0.3", 8081, "pay"), ("fd77::2", 80, "six")):
        net.serve(WEB, address, port, word)
    net.serve(GREETER, "10.77.0.2", 2525)
    process = sidecar(
        {"outbound": {"all": {"listen": ":15001", "transparent": True,
                              "routes": [{"match": {"host": "blocked.test"}, "respond": {"status": 418}}]},
                      "named": {"listen": "127.0.0.1:9001", "to": "pay"}},
         "clusters": {"pay": {"endpoints": ["10.77.0.3:8081"]}}}, capabilities=method == "tproxy")
    plain = "http://10.77.0.2/before"
    wait_until(lambda: net.curl(plain) == "two /before host=10.77.0.2 for=None id=False", "the server, untouched")
    arguments = ["up", "--uid", SIDECAR, "--config", process.config_path, "--exclude-port", "8099"]
    arguments += ["--tproxy"] if method == "tproxy" else []
    assert "intercepting outbound to :15001" in intercept(net, *arguments).stdout
    # A second time changes nothing.
    intercept(net, *arguments)
    assert net.curl("http://10.77.0.2/after") == "two /after host=10.77.0.2 for=None id=True"
    assert net.curl("http://[fd77::2]/v6") == "six /v6 host=[fd77::2] for=None id=True"
    # A name that the app gave stays; a cluster that has the address takes it.
    assert net.curl("-H", "Host: shop.test", "http://10.77.0.3:8081/named") == \
        "pay /named host=shop.test for=None id=True"
    assert net.curl("-H", "Host: blocked.test", "-w", "%{http_code}", "http://10.77.0.2/") == "418"
    greeting = subprocess.run(
        net.inside(PYTHON, "-c", ASK, "10.77.0.2", 2525, uid=USER), capture_output=True, text=True, timeout=60)
    assert greeting.stdout.strip() == "b'220 ready\\r\\ngot hello\\n'", greeting
    # Nobody listens: the answer says so, and whose fault it is.
    closed = net.curl("http://10.77.0.2:81/")
    assert '"reason":"connection_refused","blame":"upstream"' in closed, closed
    # The sidecar's own connections are left alone, and so is loopback.
    assert net.curl("http://10.77.0.2/own", uid=SIDECAR).endswith("id=False")
    assert net.curl("http://127.0.0.1:9001/explicit").startswith("pay /explicit")
    (after,) = records(process, "/after")
    assert '"all"' in after and "10.77.0.2:80" in after
    (named,) = records(process, "/named")
    assert '"pay"' in named
    # Straight to the listener: a circle.
    assert net.curl("-w", "%{http_code}", "http://127.0.0.1:15001/circle") == "000"
    assert net.curl("-w", "%{http_code}", "http://10.77.0.2:15001/circle") == "000"
    wait_until(lambda: "the transparent listener itself" in process.stderr, "the line about the circle")
    shown = intercept(net, "show").stdout
    assert "table inet outrider" in shown and "15001" in shown
    assert json.loads(intercept(net, "show", "--output", "json").stdout)["nftables"]
    intercept(net, "down")
    assert net.curl("http://10.77.0.2/gone").endswith("id=False")
    assert intercept(net, "show", check=False).returncode == 1
    assert net.root("nft", "list", "ruleset").stdout.strip() == ""
    for family in ("-4", "-6"):
        assert "0x4f52" not in net.root("ip", family, "rule").stdout
        assert net.root("ip", family, "route", "show", "table", "20306", check=False).stdout.strip() == ""
    intercept(net, "down")
    process.stop()


@pytest.mark.parametrize("method", ["redirect", "tproxy"])
def test_what_arrives_is_taken(net, sidecar, method):
    net.serve(WEB, "::", 8080, "app")
    net.serve(WEB, "10.78.0.1", 9100, "metrics")
    net.serve(GREETER, "10.78.0.1", 2525)
    process = sidecar(
        {"app": {"port": 8080}, "inbound": {"all": {"listen": ":15006", "transparent": True}}},
        capabilities=method == "tproxy")
    arguments = ["up", "--no-outbound", "--inbound", "--uid", SIDECAR, "--config", process.config_path]
    intercept(net, *arguments, *(["--tproxy"] if method == "tproxy" else []))

    def far(url):
        return net.curl(url, uid=None, name=net.far)

    wait_until(lambda: far("http://10.78.0.1:8080/up"), "the app to answer")
    assert far("http://10.78.0.1:8080/a") == "app /a host=10.78.0.1:8080 for=10.78.0.2 id=True"
    assert far("http://[fd78::1]:8080/b") == "app /b host=[fd78::1]:8080 for=fd78::2 id=True"
    assert far("http://10.78.0.1:9100/c") == "metrics /c host=10.78.0.1:9100 for=10.78.0.2 id=True"
    greeting = subprocess.run(
        net.inside(PYTHON, "-c", ASK, "10.78.0.1", 2525, name=net.far), capture_output=True, text=True, timeout=60)
    assert greeting.stdout.strip() == "b'220 ready\\r\\ngot hello\\n'", greeting
    (record,) = records(process, '"/a"')
    assert '"app"' in record and "10.78.0.2" in record
    intercept(net, "down")
    assert far("http://10.78.0.1:8080/d").endswith("for=None id=False")
    process.stop()


def test_a_dry_run_changes_nothing_and_mistakes_are_told(net):
    printed = intercept(net, "up", "--dry-run", "--port", "15001", "--uid", "7", "--exclude-cidr", "10.0.0.0/8",
                        "--tproxy").stdout
    assert "meta skuid { 7 } return" in printed and "10.0.0.0/8" in printed and "rule add fwmark" in printed
    checked = subprocess.run(net.inside("nft", "-c", "-f", "-"), input="\n".join(
        line for line in printed.splitlines() if not line.startswith(("#", "rule", "route"))), text=True,
        capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert net.root("nft", "list", "ruleset").stdout.strip() == ""
    for arguments, word in ((["--port", "0"], "is not a port"), (["--port", "1", "--exclude-cidr", "x"], "not an address"),
                            (["--no-outbound"], "nothing to intercept"), ([], "no outbound listener is transparent")):
        result = subprocess.run(net.inside(rig.binary(), "intercept", "up", *arguments), capture_output=True, text=True,
                                cwd=net.place)
        assert result.returncode != 0 and word in result.stderr, result
    refused = subprocess.run(
        net.inside(rig.binary(), "intercept", "up", "--port", "15001", uid=USER), capture_output=True, text=True)
    assert refused.returncode == 77 and "CAP_NET_ADMIN" in refused.stderr
