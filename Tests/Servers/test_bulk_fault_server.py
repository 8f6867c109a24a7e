"""The bulk server must refuse what Elasticsearch refuses, and fail exactly as told."""

import gzip
import http.client
import json
import threading

import pytest

NDJSON = {"Content-Type": "application/x-ndjson"}


def lines(*values):
    return b"".join((v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n" for v in values)


def documents(count, start=0):
    out = []
    for n in range(start, start + count):
        out += [{"create": {"_index": "shop", "_id": f"n{n}"}}, {"message": f"line {n}"}]
    return lines(*out)


def statuses(answer):
    return [next(iter(item.values()))["status"] for item in answer["items"]]


def test_keeps_what_it_accepts_byte_for_byte(bulk):
    source = b'{"n": 1.50, "t": "\xc3\xbc"}'
    status, answer = bulk.call("POST", "/_bulk", lines({"index": {"_index": "a"}}, source), NDJSON)
    assert (status, answer["errors"], statuses(answer)) == (200, False, [201])
    accepted = bulk.call("GET", "/_accepted")[1]
    assert accepted["count"] == 1
    assert accepted["documents"][0]["raw"].encode() == source


@pytest.mark.parametrize("body, reason", [
    (b"", "request body is required"),
    (b'{"index":{"_index":"a"}}\n{"a":1}', "terminated by a newline"),
    (lines({"index": {"_index": "a"}, "create": {}}, {"a": 1}), "one action"),
    (lines({"insert": {"_index": "a"}}, {"a": 1}), "one of"),
    (lines({"index": {"_index": "a", "_type": "doc"}}, {"a": 1}), "unknown parameter [_type]"),
    (lines({"index": {"_index": "a", "_id": 7}}, {"a": 1}), "must be a string"),
    (lines({"index": {}}, {"a": 1}), "index is missing"),
    (lines({"delete": {"_index": "a"}}), "id is missing"),
    (lines({"index": {"_index": "a"}}), "no source"),
    (lines(b"", {"a": 1}), "an object"),
    (lines({"index": {"_index": "a"}}, {"a": 1}, b""), "an object"),
    (lines(b"not json", {"a": 1}), "an object"),
    (lines(b'{"index":[]}', {"a": 1}), "START_OBJECT"),
])
def test_refuses_a_malformed_request(bulk, body, reason):
    status, answer = bulk.call("POST", "/_bulk", body, NDJSON)
    assert status == 400
    assert reason in answer["error"]["reason"]
    assert bulk.call("GET", "/_accepted")[1]["count"] == 0
    assert len(bulk.call("GET", "/_requests")[1]["rejected"]) == 1


@pytest.mark.parametrize("action, source, kind", [
    ({"index": {"_index": "Upper"}}, b"{}", "invalid_index_name"),
    ({"index": {"_index": "a b"}}, b"{}", "invalid_index_name"),
    ({"index": {"_index": "a"}}, b"[1]", "document_parsing"),
    ({"index": {"_index": "a"}}, b'{"a":1,"a":2}', "document_parsing"),
    ({"index": {"_index": "a"}}, b'{"a":NaN}', "document_parsing"),
    ({"index": {"_index": "a"}}, b'{"a":"\xff"}', "document_parsing"),
    ({"index": {"_index": "a"}}, b'{"_id":"x"}', "document_parsing"),
    ({"index": {"_index": "a"}}, b'{"":1}', "document_parsing"),
    ({"index": {"_index": "logs-shop-default"}}, b'{"@timestamp":1}', "illegal_argument"),
    ({"create": {"_index": "logs-shop-default"}}, b'{"a":1}', "document_parsing"),
    ({"index": {"_index": "a", "_id": "x" * 513}}, b"{}", "illegal_argument"),
])
def test_refuses_one_bad_item_and_keeps_the_other(bulk, action, source, kind):
    body = lines(action, source, {"index": {"_index": "good"}}, {"a": 1})
    status, answer = bulk.call("POST", "/_bulk", body, NDJSON)
    assert (status, answer["errors"], statuses(answer)) == (200, True, [400, 201])
    assert kind in next(iter(answer["items"][0].values()))["error"]["type"]


def test_content_type_coding_and_index_in_the_path(bulk):
    body = lines({"create": {}}, {"a": 1})
    assert bulk.call("POST", "/shop/_bulk", body, {"Content-Type": "text/plain"})[0] == 406
    assert bulk.call("POST", "/shop/_bulk", body, {"Content-Type": "application/json"})[0] == 200
    packed = {**NDJSON, "Content-Encoding": "gzip"}
    assert bulk.call("POST", "/shop/_bulk", gzip.compress(body), packed)[0] == 200
    assert bulk.call("POST", "/shop/_bulk", b"not gzip", packed)[0] == 400
    assert bulk.call("GET", "/_accepted")[1]["count"] == 2


def test_chunked_request_body(bulk):
    connection = http.client.HTTPConnection("127.0.0.1", bulk.port, timeout=10)
    connection.request("POST", "/_bulk", iter([documents(1), documents(1, 1)]), NDJSON, encode_chunked=True)
    assert statuses(json.loads(connection.getresponse().read())) == [201, 201]


def test_create_of_a_known_id_conflicts_and_is_counted(bulk):
    bulk.call("POST", "/_bulk", documents(2), NDJSON)
    answer = bulk.call("POST", "/_bulk", documents(3), NDJSON)[1]
    assert statuses(answer) == [409, 409, 201]
    accepted = bulk.call("GET", "/_accepted")[1]
    assert (accepted["count"], accepted["duplicates"]) == (3, {"n0": 2, "n1": 2})


def test_update_and_delete(bulk):
    bulk.call("POST", "/_bulk", documents(2), NDJSON)
    body = lines(
        {"update": {"_index": "shop", "_id": "n0"}}, {"doc": {"b": 2}},
        {"delete": {"_index": "shop", "_id": "n1"}}, {"delete": {"_index": "shop", "_id": "none"}})
    assert statuses(bulk.call("POST", "/_bulk", body, NDJSON)[1]) == [200, 200, 404]
    kept = bulk.call("GET", "/_accepted")[1]["documents"]
    assert [d["source"] for d in kept] == [{"message": "line 0", "b": 2}]


def test_whole_request_faults_end_after_their_times(bulk):
    for status in ("429", "503"):
        bulk.call("POST", "/_fault", {"mode": status, "times": 1})
        assert bulk.call("POST", "/_bulk", documents(1), NDJSON)[0] == int(status)
    assert bulk.call("GET", "/_accepted")[1]["count"] == 0
    assert bulk.call("POST", "/_bulk", documents(1), NDJSON)[0] == 200


def test_item_faults(bulk):
    bulk.call("POST", "/_fault", {"mode": "429-third"})
    assert statuses(bulk.call("POST", "/_bulk", documents(6), NDJSON)[1]) == [201, 201, 429, 201, 201, 429]
    bulk.call("POST", "/_fault", {"mode": "429-items"})
    assert statuses(bulk.call("POST", "/_bulk", documents(2, 10), NDJSON)[1]) == [429, 429]
    bulk.call("POST", "/_fault", {"mode": "mapping", "match": "line 21"})
    assert statuses(bulk.call("POST", "/_bulk", documents(3, 20), NDJSON)[1]) == [201, 400, 201]


def test_size_limit(bulk):
    bulk.call("POST", "/_fault", {"mode": "413", "limit": 200})
    assert bulk.call("POST", "/_bulk", documents(10), NDJSON)[0] == 413
    assert bulk.call("POST", "/_bulk", documents(1), NDJSON)[0] == 200


def test_store_then_reset_and_drop(bulk):
    bulk.call("POST", "/_fault", {"mode": "store-then-reset", "times": 1})
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        bulk.call("POST", "/_bulk", documents(2), NDJSON)
    assert bulk.call("GET", "/_accepted")[1]["count"] == 2
    bulk.call("POST", "/_fault", {"mode": "drop", "times": 1})
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        bulk.call("POST", "/_bulk", documents(2, 50), NDJSON)
    assert bulk.call("GET", "/_accepted")[1]["count"] == 2


def test_hang_holds_until_the_fault_changes(bulk):
    bulk.call("POST", "/_fault", {"mode": "hang"})
    outcome = []

    def send():
        try:
            outcome.append(bulk.call("POST", "/_bulk", documents(1), NDJSON)[0])
        except OSError:
            outcome.append("ended")

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(0.3)
    assert sender.is_alive() and outcome == []
    bulk.call("POST", "/_fault", {"mode": "none"})
    sender.join(5)
    assert outcome == ["ended"]
    assert bulk.call("GET", "/_accepted")[1]["count"] == 0


def test_authorization_and_unknown_mode(bulk):
    bulk.call("POST", "/_fault", {"authorization": "ApiKey k"})
    assert bulk.call("POST", "/_bulk", documents(1), NDJSON)[0] == 401
    assert bulk.call("POST", "/_bulk", documents(1), {**NDJSON, "Authorization": "ApiKey k"})[0] == 200
    assert bulk.call("POST", "/_fault", {"mode": "sing"})[0] == 400
