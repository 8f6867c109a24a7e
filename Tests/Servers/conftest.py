"""Starts a test server as its own process, the way the scenarios do."""

import http.client
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


class Peer:
    def __init__(self, script, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, HERE / script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def call(self, method, path, body=None, headers=None):
        """(status, decoded JSON or bytes) of a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            try:
                return response.status, json.loads(content)
            except ValueError:
                return response.status, content
        finally:
            connection.close()

    def close(self):
        self.process.stdin.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.stdout.close()


@pytest.fixture
def bulk():
    peer = Peer("bulk_fault_server.py")
    yield peer
    assert peer.close() == 0


@pytest.fixture
def logs():
    peer = Peer("log_fault_server.py")
    yield peer
    assert peer.close() == 0


@pytest.fixture
def flaky():
    peer = Peer("flaky_upstream.py")
    yield peer
    assert peer.close() == 0


@pytest.fixture
def proxy(upstream):
    peer = Peer("vault_fault_proxy.py", f"127.0.0.1:{upstream.server_address[1]}")
    yield peer
    assert peer.close() == 0
