"""The server of log protocols refuses what its references refuse."""

import gzip
import json

import pytest

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
SPLUNK = {"Authorization": "Splunk t0ken"}
EVENT = '{"time":1769860800.123,"event":{"message":"a"}}\n'
STAMP = "1769860800000000000"
PUSH = {"streams": [{"stream": {"job": "x"}, "values": [[STAMP, "a"], [STAMP, "b"]]}]}


def accepted(server):
    return [record["record"] for record in server.call("GET", "/_accepted")[1]["records"]]


def test_what_is_right_is_kept(logs):
    assert logs.call("POST", "/lines", '{"a":1}\n{"a":2}\n', NDJSON)[0] == 200
    assert logs.call("POST", "/lines", gzip.compress(b'[{"a":3}]'), {**JSON, "Content-Encoding": "gzip"})[0] == 200
    assert logs.call("POST", "/services/collector/event", EVENT * 2, SPLUNK) == (200, {"text": "Success", "code": 0})
    assert logs.call("POST", "/loki/api/v1/push", PUSH, JSON)[0] == 204
    assert accepted(logs) == ['{"a":1}', '{"a":2}', '{"a": 3}', '{"message": "a"}', '{"message": "a"}', "a", "b"]
    assert logs.call("GET", "/_requests")[1]["rejected"] == []


@pytest.mark.parametrize("path, body, headers, status", [
    ("/lines", '{"a":1}', NDJSON, 400),
    ("/lines", '{"a":1}\n\n', NDJSON, 400),
    ("/lines", '{"a":1}\n', {"Content-Type": "text/plain"}, 415),
    ("/lines", '{"a":NaN}\n', NDJSON, 400),
    ("/lines", '{"a":1}', JSON, 400),
    ("/services/collector/event", EVENT, {}, 401),
    ("/services/collector/event", EVENT, {"Authorization": "Splunk other"}, 403),
    ("/services/collector/event", EVENT.replace("123", "12"), SPLUNK, 400),
    ("/services/collector/event", '{"time":1769860800.123}', SPLUNK, 400),
    ("/services/collector/event", "", SPLUNK, 400),
    ("/loki/api/v1/push", {"streams": [{"stream": {}, "values": [[STAMP, "a"]]}]}, JSON, 400),
    ("/loki/api/v1/push", {"streams": [{"stream": {"a-b": "x"}, "values": [[STAMP, "a"]]}]}, JSON, 400),
    ("/loki/api/v1/push", {"streams": [{"stream": {"a": "x"}, "values": [[STAMP, "a"], ["1" * 19, "b"]]}]}, JSON, 400),
    ("/nothing", "", {}, 404),
])
def test_what_is_wrong_is_refused(logs, path, body, headers, status):
    assert logs.call("POST", path, body, headers)[0] == status
    assert accepted(logs) == []


def test_acknowledgements(logs):
    channel = "0a1b2c3d-0000-4000-8000-000000000000"
    logs.call("POST", "/_fault", {"ack": True})
    assert logs.call("POST", "/services/collector/event", EVENT, SPLUNK)[1]["code"] == 10
    with_channel = {**SPLUNK, "X-Splunk-Request-Channel": channel}
    assert logs.call("POST", "/services/collector/event", EVENT, with_channel)[1]["ackId"] == 0
    for answer in (False, True, True):
        asked = logs.call("POST", f"/services/collector/ack?channel={channel}", {"acks": [0]}, with_channel)
        assert asked == (200, {"acks": {"0": answer}})


def test_faults(logs):
    logs.call("POST", "/_fault", {"mode": "503", "times": 1, "retry_after": 1})
    assert logs.call("POST", "/services/collector/event", EVENT, SPLUNK) == (503, {"text": "Server is busy", "code": 9})
    logs.call("POST", "/_fault", {"mode": "refuse", "match": "bad"})
    events = EVENT + EVENT.replace('"a"', '"bad"')
    status, answer = logs.call("POST", "/services/collector/event", events, SPLUNK)
    assert (status, answer["code"], answer["invalid-event-number"]) == (400, 6, 1)
    logs.call("POST", "/_fault", {"mode": "413", "limit": 10})
    assert logs.call("POST", "/lines", json.dumps({"a": "x" * 20}) + "\n", NDJSON)[0] == 413
    assert accepted(logs) == []
    logs.call("POST", "/_fault", {"mode": "store-then-reset", "times": 1})
    with pytest.raises(ConnectionError):
        logs.call("POST", "/lines", '{"a":1}\n', NDJSON)
    assert accepted(logs) == ['{"a":1}']
