"""The upstream must misbehave exactly as told, and count exactly what reached it."""

import hashlib
import http.client

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
