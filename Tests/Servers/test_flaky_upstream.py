"""The upstream must misbehave exactly as told, and count exactly what reached it."""

import hashlib
import http.client
import socket
import threading
import time

import pytest


def test_describes_the_request(flaky):
    status, answer = flaky.call("POST", "/a?b=c", b"body", {"X-Count-Id": "one"})
    assert status == 200
    assert (answer["method"], answer["path"], answer["length"]) == ("POST", "/a?b=c", 4)
    assert answer["sha256"] == hashlib.sha256(b"body").hexdigest()
    counts = flaky.call("GET", "/_counts")[1]
    assert counts == {"requests": 1, "connections": 1, "by_id": {"one": {"POST": 1}}}


def test_fails_each_nth(flaky):
    flaky.call("POST", "/_behave", {"fail_each": 3})
    assert [flaky.call("GET", "/")[0] for _ in range(6)] == [200, 200, 503, 200, 200, 503]


def test_resets_the_second_request_of_a_connection(flaky):
    flaky.call("POST", "/_behave", {"reset_each_second": True})
    connection = http.client.HTTPConnection("127.0.0.1", flaky.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    connection.request("GET", "/", headers={"X-Count-Id": "second"})
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        connection.getresponse()
    assert flaky.call("GET", "/_counts")[1]["by_id"] == {"second": {"GET": 1}}


def test_resets_the_next_requests(flaky):
    flaky.call("POST", "/_behave", {"reset_next": 1})
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        flaky.call("GET", "/")
    assert flaky.call("GET", "/")[0] == 200


@pytest.mark.parametrize("wish", [{"idle_close": 0.1}, {"close_after_reply": True}])
def test_closes_a_kept_alive_connection(flaky, wish):
    flaky.call("POST", "/_behave", wish)
    connection = http.client.HTTPConnection("127.0.0.1", flaky.port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.read() and response.headers.get("Connection") != "close"
    assert connection.sock.recv(1) == b""


def test_sized_chunked_and_status_replies(flaky):
    assert flaky.call("GET", "/bytes/5000")[1] == b"x" * 5000
    assert flaky.call("GET", "/chunks/3")[1] == b"a" * 1000 + b"b" * 1000 + b"c" * 1000
    assert flaky.call("GET", "/status/404")[0] == 404
    assert flaky.call("HEAD", "/bytes/10") == (200, b"")


def test_many_requests_on_one_connection(flaky):
    connection = http.client.HTTPConnection("127.0.0.1", flaky.port, timeout=10)
    for _ in range(50):
        connection.request("POST", "/", b"x" * 100)
        assert connection.getresponse().read()
    assert flaky.call("GET", "/_counts")[1]["connections"] == 1


def test_health_is_a_matter_of_its_own(flaky):
    flaky.call("POST", "/_behave", {"fail_each": 1, "health_status": 503})
    assert flaky.call("GET", "/healthz")[0] == 503
    flaky.call("POST", "/_behave", {"fail_each": 1})
    assert flaky.call("GET", "/healthz")[0] == 200
    assert flaky.call("GET", "/_counts")[1]["requests"] == 0


def test_cuts_a_reply_at_an_octet(flaky):
    flaky.call("POST", "/_behave", {"reset_at": 100})
    with socket.create_connection(("127.0.0.1", flaky.port), timeout=10) as connection:
        connection.sendall(b"GET /bytes/5000 HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        with pytest.raises(ConnectionResetError):
            while piece := connection.recv(4096):
                received += piece
        assert len(received) == 100 and received.startswith(b"HTTP/1.1 200 OK")


def test_trickles(flaky):
    flaky.call("POST", "/_behave", {"trickle": 0.001})
    assert flaky.call("GET", "/status/201")[0] == 201


def test_refuses_for_a_while(flaky):
    flaky.call("POST", "/_behave", {"refuse": 0.5})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", flaky.port), timeout=10)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", flaky.port), timeout=10).close()
            break
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
    assert flaky.call("GET", "/")[0] == 200


def test_failed_replies_have_fields(flaky):
    flaky.call("POST", "/_behave", {"fail_each": 1, "fail_status": 409, "fail_headers": {"X-Why": "busy"}})
    connection = http.client.HTTPConnection("127.0.0.1", flaky.port, timeout=10)
    connection.request("GET", "/")
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("X-Why")) == (409, "busy")
