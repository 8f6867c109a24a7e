"""HTTP/2 through the real binary: curl, nghttp, h2load and nghttpd as peers, and hostile frames from a socket."""

import json
import os
import socket
import struct
import subprocess

import pytest

import rig
from certificates import Authority
from rig import wait_until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field without indexing and without Huffman coding; both texts are short."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


REQUEST = (bytes([0x82, 0x86, 0x84]) + literal(b":authority", b"shop.test"))


def curl(*arguments):
    return subprocess.run([rig.tool("curl"), "-sS", "--max-time", "30", *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)


@pytest.fixture
def shop(start, python_app):
    """Outrider in front of a plain web app, and a way out to itself over HTTP/2. Returns (process, in, out)."""

    def starter(tls=None, cluster=None, **listener):
        app_port, port, out = rig.free_port(), rig.free_port(), rig.free_port()
        if tls:
            listener["tls"] = tls
        process = start(
            {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
             "inbound": {"web": {"listen": f"127.0.0.1:{port}", **listener}},
             "outbound": {"self": {"listen": f"127.0.0.1:{out}", "to": "self"}},
             "clusters": {"self": {"endpoints": [f"127.0.0.1:{port}"], **(cluster or {"protocol": "http2"})}}},
            python_app("web.py", app_port)).wait_ready()
        return process, port, out

    return starter


@pytest.mark.parametrize("protocol", ["auto", "http"])
def test_prior_knowledge_and_http1_on_one_port(shop, protocol):
    process, port, out = shop(protocol=protocol)
    body = os.urandom(200_000)
    (path := process.state.parent / "body").write_bytes(body)
    for target in (port, out):
        for version, expected in (("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")):
            for length in ([], ["-H", "transfer-encoding: chunked"] if expected == "1.1" else ["-H", "content-length:"]):
                reply = curl(version, *length, "--data-binary", f"@{path}", "-w", "\n%{http_version}",
                             f"http://127.0.0.1:{target}/some")
                text, spoken = reply.stdout.rsplit("\n", 1)
                assert spoken == expected, reply
                assert json.loads(text)["length"] == len(body)
    head = curl("--http2-prior-knowledge", "-I", f"http://127.0.0.1:{port}/some").stdout
    assert head.startswith("HTTP/2 200")
    process.stop()


def test_alpn_chooses(shop, place):
    authority = Authority(place / "ca")
    pair = authority.issue("web", "DNS:web.shop")
    process, port, out = shop(
        tls={"certificate": str(pair[0]), "key": str(pair[1])},
        cluster={"tls": {"ca": str(authority.file), "sni": "web.shop"}})
    resolve = ["--resolve", f"web.shop:{port}:127.0.0.1", "--cacert", authority.file, "-o", "/dev/null"]
    for version, expected in (("--http2", "2"), ("--http1.1", "1.1")):
        reply = curl(version, *resolve, "-w", "%{http_version} %{http_code}", f"https://web.shop:{port}/")
        assert reply.stdout == f"{expected} 200", reply
    # The way out finds HTTP/2 by itself.
    assert curl("-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{out}/").stdout == "200"
    process.wait_logs(lambda lines: any('HTTP/2' in line and '"tls"' in line for line in lines), "a record of HTTP/2")
    process.stop()


def test_load_over_both_hops(shop):
    process, port, out = shop()
    for target in (port, out):
        output = subprocess.run(
            [rig.tool("h2load"), "-n", "2000", "-c", "4", "-m", "20", f"http://127.0.0.1:{target}/some"],
            capture_output=True, text=True, timeout=120).stdout
        assert "2000 succeeded, 0 failed" in output and "status codes: 2000 2xx" in output, output
    process.stop()


def test_nghttpd_as_upstream_with_trailers(start, place, ending):
    (place / "files").mkdir()
    (place / "files" / "large").write_bytes(b"x" * 3_000_000)
    upstream, port = rig.free_port(), rig.free_port()
    ending.append(rig.Process(
        [rig.tool("nghttpd"), "--no-tls", "-d", place / "files", "--trailer=x-sum: 1", upstream], place, "nghttpd"))
    process = start({"outbound": {"files": {"listen": f"127.0.0.1:{port}", "to": "files"}},
                     "clusters": {"files": {"endpoints": [f"127.0.0.1:{upstream}"], "protocol": "http2"}}},
                    ["sleep", "300"]).wait_ready()
    wait_until(lambda: rig.status_of(port, "/large") == 200, "nghttpd to answer")
    verbose = subprocess.run([rig.tool("nghttp"), "-nv", f"http://127.0.0.1:{port}/large"],
                             capture_output=True, text=True, timeout=60).stdout
    assert "x-sum: 1" in verbose, verbose[-2000:]
    raw = rig.raw_exchange(port, b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"x" * 1000 in raw
    assert len(rig.request(port, "/large").body) == 3_000_000
    process.stop()


def test_drain_says_goodbye(shop):
    process, port, _ = shop()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(PREFACE + frame(4, 0, 0) + frame(1, 5, 1, REQUEST))
        received = b""
        while b"\x00\x00" not in received or len(received) < 200:
            received += connection.recv(65536)
        process.send(15)
        while piece := connection.recv(65536):
            received += piece
    kinds = [kind for kind, _, _, _ in frames(received)]
    assert 7 in kinds, kinds
    assert process.wait(30) == 0


def frames(data):
    found = []
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:9 + length]))
        data = data[9 + length:]
    return found


def flood(port, first, piece, most):
    """Sends pieces until the peer closes, at most `most` of them; returns (pieces sent, what was received)."""
    sent, received = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(PREFACE + frame(4, 0, 0) + first)
        connection.settimeout(20)
        try:
            while sent < most:
                connection.sendall(piece(sent))
                sent += 1
                connection.setblocking(False)
                try:
                    while data := connection.recv(65536):
                        received += data
                    break
                except BlockingIOError:
                    pass
                finally:
                    connection.setblocking(True)
                    connection.settimeout(20)
            while data := connection.recv(65536):
                received += data
        except (ConnectionError, TimeoutError):
            pass
    return sent, received


@pytest.mark.parametrize("attack", ["rapid reset", "continuation", "settings", "ping"])
def test_floods_end_their_connection_and_take_no_memory(shop, attack):
    process, port, _ = shop()
    assert rig.status_of(port, "/some") == 200
    before = rig.private_memory(process.worker())
    first, piece, most = {
        "rapid reset": (b"", lambda n: frame(1, 5, 2 * n + 1, REQUEST) + frame(3, 0, 2 * n + 1, b"\0\0\0\x08"), 100_000),
        "continuation": (frame(1, 1, 1, REQUEST), lambda n: frame(9, 0, 1, literal(b"x-a", b"y" * 100) * 10), 100_000),
        "settings": (b"", lambda n: frame(4, 0, 0, b"\0\x03\0\0\0\x64") * 10, 100_000),
        "ping": (b"", lambda n: frame(6, 0, 0, b"12345678") * 10, 100_000),
    }[attack]
    for _ in range(3):
        sent, received = flood(port, first, piece, most)
        assert sent < most, f"{attack}: {sent} were taken"
        goodbyes = [payload for kind, _, _, payload in frames(received) if kind == 7]
        if goodbyes:
            assert int.from_bytes(goodbyes[-1][4:8], "big") == 11, goodbyes  # ENHANCE_YOUR_CALM
    assert rig.private_memory(process.worker()) - before < 16 << 20
    admin = process.admin("/metrics").text
    assert 'outrider_http2_violations_total{direction="inbound",listener="web"}' in admin
    assert rig.status_of(port, "/some") == 200
    process.stop()
