"""gRPC through two Outriders with mutual TLS between them: the real grpcio as client and server."""

import json
import threading
from concurrent import futures

import grpc
import pytest

import rig
from certificates import Authority
from rig import wait_until


class Service(grpc.GenericRpcHandler):
    """Methods of every kind over plain octets."""

    def __init__(self):
        self.failures = {}
        self.lock = threading.Lock()
        self.deadlines = []
        self.release = threading.Event()

    def service(self, details):
        kind = details.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Split": grpc.unary_stream_rpc_method_handler(self.split),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Flaky": grpc.unary_unary_rpc_method_handler(self.flaky),
        }.get(kind)

    def unary(self, request, context):
        context.set_trailing_metadata((("x-size", str(len(request))),))
        return request[::-1]

    def split(self, request, context):
        for octet in request:
            yield bytes([octet])

    def join(self, requests, context):
        return b"".join(requests)

    def echo(self, requests, context):
        for request in requests:
            yield request + b"!"

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % sure")

    def wait(self, request, context):
        self.deadlines.append(context.time_remaining())
        self.release.wait(20)
        return b"late"

    def flaky(self, request, context):
        with self.lock:
            count = self.failures[request] = self.failures.get(request, 0) + 1
        if count == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "once")
        return b"served"


@pytest.fixture
def service():
    handler = Service()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), handlers=(handler,))
    handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler
    handler.release.set()
    server.stop(None).wait()


@pytest.fixture
def channel(place, ending, service):
    """A channel to the outbound side; the call passes both sidecars. Also the two processes."""
    authority = Authority(place / "ca")
    server, client = authority.issue("server", "DNS:server.shop"), authority.issue("client", "DNS:client.shop")
    middle, port = rig.free_port(), rig.free_port()

    def start(config, name):
        (directory := place / name).mkdir()
        process = rig.Outrider(directory, {"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}, **config},
                               ["sleep", "300"], name=name)
        ending.append(process)
        return process.wait_ready()

    second = start(
        {"app": {"port": service.port},
         "inbound": {"web": {"listen": f"127.0.0.1:{middle}", "tls": {
             "certificate": str(server[0]), "key": str(server[1]), "client_ca": str(authority.file)}}},
         "clusters": {"app": {"protocol": "http2"}}},
        "second")
    first = start(
        {"outbound": {"calls": {"listen": f"127.0.0.1:{port}", "to": "calls",
                                "retries": {"attempts": 2, "on": ["unavailable", "refused-stream", "connect-failure"]}}},
         "clusters": {"calls": {"endpoints": [f"127.0.0.1:{middle}"], "tls": {
             "ca": str(authority.file), "sni": "server.shop",
             "certificate": str(client[0]), "key": str(client[1])}}}},
        "first")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, first, second
    first.stop()
    second.stop()


def records(process):
    found = []
    for line in process.logs():
        record = json.loads(line)
        record = {**record, **record.get("attributes", {}), **record.get("fields", {})}
        if "grpc_status" in record:
            found.append(record)
    return found


def test_every_kind_of_call(channel, service):
    channel, first, second = channel
    unary = channel.unary_unary("/test.Service/Unary")
    reply, call = unary.with_call(b"hello", timeout=20)
    assert reply == b"olleh" and dict(call.trailing_metadata())["x-size"] == "5"
    large = bytes(range(256)) * 8000
    assert unary(large, timeout=20) == large[::-1]
    assert list(channel.unary_stream("/test.Service/Split")(b"abc" * 100, timeout=20)) == [b"a", b"b", b"c"] * 100
    assert channel.stream_unary("/test.Service/Join")((b"x" * 1000 for _ in range(300)), timeout=20) == b"x" * 300_000
    # Each message is answered before the next is sent.
    answers = channel.stream_stream("/test.Service/Echo")(turns := Turns(), timeout=20)
    for index in range(20):
        turns.say(f"{index}".encode())
        assert next(answers) == f"{index}!".encode()
    turns.end()
    assert list(answers) == []
    calls = [unary.future(f"{index}".encode(), timeout=20) for index in range(200)]
    assert [call.result() for call in calls] == [f"{index}"[::-1].encode() for index in range(200)]
    for process in (first, second):
        wait_until(lambda: sum(record["grpc_status"] == 0 for record in records(process)) >= 205, "the records")
        assert all(record["protocol"] == "HTTP/2" for record in records(process))


class Turns:
    """An iterator that is fed from outside."""

    def __init__(self):
        self.condition, self.items, self.isOver = threading.Condition(), [], False

    def say(self, item):
        with self.condition:
            self.items.append(item)
            self.condition.notify()

    def end(self):
        with self.condition:
            self.isOver = True
            self.condition.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.condition:
            self.condition.wait_for(lambda: self.items or self.isOver)
            if self.items:
                return self.items.pop(0)
            raise StopIteration


def test_errors_deadlines_and_retries(channel, service):
    channel, first, second = channel
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/test.Service/Fail")(b"", timeout=20)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION and error.value.details() == "not now: 100 % sure"
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/test.Service/None")(b"", timeout=20)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/test.Service/Wait")(b"", timeout=0.5)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.deadlines and 0 < service.deadlines[0] <= 0.6
    assert channel.unary_unary("/test.Service/Flaky")(b"one", timeout=20) == b"served"
    assert service.failures == {b"one": 2}
    wait_until(lambda: any(record["tries"] == 2 and record["grpc_status"] == 0 for record in records(first)),
               "the record of the second try")


def test_an_app_that_is_away_is_unavailable(start):
    port = rig.free_port()
    process = start({"outbound": {"calls": {"listen": f"127.0.0.1:{port}", "to": "calls"}},
                     "clusters": {"calls": {"endpoints": [f"127.0.0.1:{rig.free_port()}"], "protocol": "http2"}}},
                    ["sleep", "300"]).wait_ready()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/test.Service/Unary")(b"", timeout=20)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error.value.details().startswith("outrider: connection_refused"), error.value.details()
    process.stop()
