"""A strict server of the ways in which logs travel by HTTP, that can be told to fail and that keeps what it accepted.

    POST /lines                      NDJSON, or a JSON array of objects
    POST /services/collector/event   Splunk's HTTP Event Collector, and /services/collector/ack
    POST /loki/api/v1/push           Grafana Loki, as JSON
    POST /services/collector/raw     the same for lines, with what they are in the query
    POST /v1/logs                    OTLP/HTTP, as protobuf and as JSON (needs opentelemetry-proto)

Each is checked as its reference has it. Beside that, the standard library only.

    python3 log_fault_server.py [--port 0]

prints its port and ends when standard input does. Control, beside the API:

    POST   /_fault      {"mode": MODE, "times": N, "limit": BYTES, "match": TEXT, "ack": BOOL, "token": TEXT,
                         "retry_after": SECONDS, "authorization": VALUE}
    GET    /_accepted   {"count", "records": [{"record": TEXT, …what the protocol says of it}]}
    GET    /_requests   {"count", "polls", "statuses", "rejected": [reason of every malformed request], "gzip"}

MODE, for the next `times` requests (for ever when left out):
    none              answer truthfully
    429, 500, 503     the whole request is answered so
    413               a decoded body of more than `limit` bytes is answered 413
    refuse            a request that holds `match` is answered 400 (Splunk: code 6 with the number of the event)
    partial           OTLP: records that hold `match` are rejected in a partial success
    hang              the request is read and never answered, until the fault is changed
    store-then-reset  what came is stored, then the connection is reset
    drop              the connection is closed before an answer, and nothing is stored
    token             Splunk: code 4, invalid token
"""

import argparse
import base64
import collections
import gzip
import json
import re
import threading
import urllib.parse
import zlib

from control import Handler, serve

MODES = ("none", "429", "500", "503", "413", "refuse", "partial", "hang", "store-then-reset", "drop", "token")
EVENT_KEYS = {"time", "host", "source", "sourcetype", "index", "event", "fields"}
LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
CHANNEL = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


class Refusal(Exception):
    """The whole request is refused; `expected` when the server was told to."""

    def __init__(self, status, body, expected=False):
        super().__init__(str(body))
        self.status, self.body, self.expected = status, body, expected


def parsed(text):
    def refuse(name):
        raise ValueError(f"not a JSON number: {name}")

    return json.loads(text, parse_constant=refuse)


class State:
    """What was stored, the present fault, and the counts. Every method takes the lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.fault, self.remaining = {"mode": "none"}, None
        self.records, self.newest = [], {}
        self.count, self.polls, self.statuses = 0, 0, collections.Counter()
        self.rejected, self.gzip = [], 0
        self.acks = {}

    def set_fault(self, fault):
        if fault.get("mode", "none") not in MODES:
            raise ValueError(f"unknown mode {fault['mode']!r}; one of {', '.join(MODES)}")
        with self.lock:
            self.fault, self.remaining = {"mode": "none", **fault}, fault.get("times")
            released, self.changed = self.changed, threading.Event()
        released.set()

    def take_fault(self):
        with self.lock:
            self.count += 1
            if self.remaining is not None:
                if self.remaining <= 0:
                    return {**self.fault, "mode": "none"}, self.changed
                self.remaining -= 1
            return dict(self.fault), self.changed

    def report(self):
        with self.lock:
            return {"count": len(self.records), "records": list(self.records)}

    def requests(self):
        with self.lock:
            return {"count": self.count, "polls": self.polls, "statuses": dict(self.statuses),
                    "rejected": list(self.rejected), "gzip": self.gzip}


class LogHandler(Handler):
    server_version = "log-fault-server"

    def do_GET(self):
        if self.path == "/_accepted":
            self.reply(200, self.server.state.report())
        elif self.path == "/_requests":
            self.reply(200, self.server.state.requests())
        else:
            self.reply(404, {"error": f"nothing at {self.path}"})

    def do_POST(self):
        path, body = self.path.split("?")[0], self.read_body()
        ways = {"/lines": self.lines, "/services/collector/event": self.splunk,
                "/services/collector/raw": self.raw, "/loki/api/v1/push": self.loki,
                "/v1/logs": self.otlp}
        if path == "/_fault":
            try:
                self.server.state.set_fault(json.loads(body or b"{}"))
                self.reply(200, {})
            except ValueError as error:
                self.reply(400, {"error": str(error)})
        elif path == "/services/collector/ack":
            self.acknowledgements(body)
        elif path in ways:
            self.take(ways[path], body)
        else:
            self.note(404, f"nothing at {self.path}")
            self.reply(404, {"error": f"nothing at {self.path}"})

    def note(self, status, reason=None):
        state = self.server.state
        with state.lock:
            state.statuses[str(status)] += 1
            if reason:
                state.rejected.append(reason)

    def take(self, way, body):
        state = self.server.state
        fault, changed = state.take_fault()
        mode = fault["mode"]
        if mode == "drop":
            return self.drop()
        if mode == "hang":
            changed.wait(600)
            return self.reset()
        try:
            body = self.decoded(body, fault)
            if mode in ("429", "500", "503"):
                raise Refusal(int(mode), self.busy(way, mode), expected=True)
            if mode == "413" and len(body) > fault.get("limit", 1 << 20):
                raise Refusal(413, {"error": "too large"}, expected=True)
            records, answer = way(body, fault)
        except Refusal as refusal:
            self.note(refusal.status, None if refusal.expected else str(refusal))
            wait = fault.get("retry_after")
            headers = [("Retry-After", str(wait))] if wait is not None and refusal.status in (429, 503) else []
            return self.reply(refusal.status, refusal.body, headers)
        with state.lock:
            state.records += records
        if mode == "store-then-reset":
            self.note("reset")
            return self.reset()
        self.note(200)
        return self.reply(*answer)

    def busy(self, way, mode):
        if way in (self.splunk, self.raw):
            return {"text": "Server is busy", "code": 9} if mode != "500" else {"text": "Internal server error", "code": 8}
        return {"error": "told to fail"}

    def decoded(self, body, fault):
        wanted = fault.get("authorization")
        if wanted is not None and self.headers.get("Authorization") != wanted:
            raise Refusal(401, {"error": "who are you?"}, expected=True)
        coding = (self.headers.get("Content-Encoding") or "identity").lower()
        if coding == "identity":
            return body
        if coding != "gzip":
            raise Refusal(415, {"error": f"unknown content coding {coding}"})
        try:
            with self.server.state.lock:
                self.server.state.gzip += 1
            return gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise Refusal(400, {"error": f"no gzip: {error}"}) from None

    def kind(self, *kinds):
        kind = (self.headers.get("Content-Type") or "").split(";")[0].strip().lower()
        if kind not in kinds:
            raise Refusal(415, {"error": f"content type [{kind}]"})
        return kind

    def lines(self, body, fault):
        kind = self.kind("application/x-ndjson", "application/json")
        try:
            if kind == "application/json":
                values = parsed(body)
                if not isinstance(values, list):
                    raise ValueError("no array")
                texts = [json.dumps(value) for value in values]
            else:
                if not body.endswith(b"\n"):
                    raise ValueError("the last line has no LF")
                texts = body[:-1].decode("utf-8").split("\n")
                values = [parsed(text) for text in texts]
            if not values or not all(isinstance(value, dict) for value in values):
                raise ValueError("not objects")
        except (ValueError, UnicodeDecodeError) as error:
            raise Refusal(400, {"error": str(error)}) from None
        self.refuse(fault, texts)
        return [{"record": text, "kind": kind} for text in texts], (200, {})

    def refuse(self, fault, texts):
        if fault["mode"] == "refuse" and any(fault["match"] in text for text in texts):
            raise Refusal(400, {"error": "told to refuse"}, expected=True)

    # Splunk, "Format events for HTTP Event Collector"; codes of "Troubleshoot HTTP Event Collector".

    def login(self, fault):
        header = self.headers.get("Authorization")
        if header is None:
            raise Refusal(401, {"text": "Token is required", "code": 2})
        if not header.startswith("Splunk "):
            raise Refusal(401, {"text": "Invalid authorization", "code": 3})
        if fault["mode"] == "token" or header != "Splunk " + fault.get("token", "t0ken"):
            raise Refusal(403, {"text": "Invalid token", "code": 4}, expected=True)

    def channel(self):
        channel = self.headers.get("X-Splunk-Request-Channel") or ""
        if not channel:
            raise Refusal(400, {"text": "Data channel is missing", "code": 10})
        if not CHANNEL.match(channel):
            raise Refusal(400, {"text": "Invalid data channel", "code": 11})
        return channel

    def splunk(self, body, fault):
        self.login(fault)
        channel = self.channel() if fault.get("ack") else None
        text, at, records = body.decode("utf-8"), 0, []
        decoder = json.JSONDecoder()

        def invalid(reason, code=6):
            return Refusal(400, {"text": reason, "code": code, "invalid-event-number": len(records)})

        while at < len(text):
            if text[at] in " \r\n\t":
                at += 1
                continue
            try:
                event, end = decoder.raw_decode(text, at)
            except ValueError:
                raise invalid("Invalid data format") from None
            if not isinstance(event, dict) or set(event) - EVENT_KEYS:
                raise invalid("Invalid data format")
            if "event" not in event:
                raise invalid("Event field is required", 12)
            if event["event"] in ("", None):
                raise invalid("Event field cannot be blank", 13)
            if not isinstance(event.get("time", 0.0), float) or event["time"] < 1e9:
                raise invalid("Invalid data format")
            if not re.search(r'"time":\d+\.\d{3},', text[at:end]):
                raise invalid("Invalid data format")
            record = json.dumps(event.pop("event"))
            if fault["mode"] == "refuse" and fault["match"] in record:
                refusal = invalid("Invalid data format")
                refusal.expected = True
                raise refusal
            records.append({"record": record, **event})
            at = end
        if not records:
            raise Refusal(400, {"text": "No data", "code": 5})
        return records, self.success(channel)

    def raw(self, body, fault):
        self.login(fault)
        channel, query = self.channel(), dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))
        if query.pop("channel", None) != channel or set(query) - {"host", "source", "sourcetype", "index"}:
            raise Refusal(400, {"text": "Invalid data channel", "code": 11})
        texts = [text for text in body.decode("utf-8").split("\n") if text]
        if not texts:
            raise Refusal(400, {"text": "No data", "code": 5})
        if fault["mode"] == "refuse" and any(fault["match"] in text for text in texts):
            raise Refusal(400, {"text": "Invalid data format", "code": 6}, expected=True)
        return [{"record": text, **query} for text in texts], self.success(channel if fault.get("ack") else None)

    def success(self, channel):
        answer = {"text": "Success", "code": 0}
        if channel:
            state = self.server.state
            with state.lock:
                waiting = state.acks.setdefault(channel, {})
                answer["ackId"] = len(waiting)
                # On disk at the second look.
                waiting[answer["ackId"]] = 1
        return 200, answer

    def acknowledgements(self, body):
        state = self.server.state
        try:
            self.login({**state.fault, "mode": "none"})
            channel = self.channel()
            coding = self.headers.get("Content-Encoding") or "identity"
            asked = parsed(gzip.decompress(body) if coding == "gzip" else body)["acks"]
            if f"channel={channel}" not in self.path:
                raise Refusal(400, {"text": "Data channel is missing", "code": 10})
        except Refusal as refusal:
            self.note(refusal.status, str(refusal))
            return self.reply(refusal.status, refusal.body)
        with state.lock:
            state.polls += 1
            waiting, acks = state.acks.get(channel, {}), {}
            for number in asked:
                acks[str(number)] = waiting.get(number) == 0
                if waiting.get(number):
                    waiting[number] -= 1
        return self.reply(200, {"acks": acks})

    # Grafana Loki, "HTTP API"; order as before `unordered_writes`.

    def loki(self, body, fault):
        self.kind("application/json")
        state, records = self.server.state, []
        tenant = self.headers.get("X-Scope-OrgID")
        try:
            request = parsed(body)
            if set(request) != {"streams"} or not request["streams"]:
                raise ValueError("no streams")
            newest = dict(state.newest)
            for stream in request["streams"]:
                labels = stream["stream"]
                if set(stream) != {"stream", "values"} or not labels or len(labels) > 15:
                    raise ValueError(f"error at least one label pair is required per stream: {labels}")
                if not all(LABEL.match(name) and isinstance(value, str) and value for name, value in labels.items()):
                    raise ValueError(f"bad labels {labels}")
                key = (tenant, json.dumps(labels, sort_keys=True))
                for stamp, line in stream["values"]:
                    if not re.fullmatch(r"\d{19}", stamp) or not isinstance(line, str):
                        raise ValueError(f"bad entry [{stamp!r}]")
                    if int(stamp) < newest.get(key, 0):
                        raise ValueError(f"entry out of order for stream: {labels}")
                    newest[key] = int(stamp)
                    records.append({"record": line, "labels": labels, "time": stamp, "tenant": tenant})
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise Refusal(400, str(error).encode()) from None
        self.refuse(fault, [record["record"] for record in records])
        with state.lock:
            state.newest = newest
        return records, (204, b"")

    # opentelemetry-proto, collector/logs/v1.

    def otlp(self, body, fault):
        from google.protobuf.json_format import MessageToDict, MessageToJson, Parse, ParseError
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

        kind = self.kind("application/x-protobuf", "application/json")
        try:
            request = (service.ExportLogsServiceRequest.FromString(body) if kind != "application/json"
                       else Parse(self.with_bytes(parsed(body)), service.ExportLogsServiceRequest()))
        except (DecodeError, ParseError, ValueError) as error:
            raise Refusal(400, str(error).encode()) from None
        records, rejected = [], 0
        for resource in request.resource_logs:
            about = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_logs:
                for entry in scope.log_records:
                    if not entry.time_unix_nano or not entry.observed_time_unix_nano or not entry.HasField("body"):
                        raise Refusal(400, b"no time, or no body")
                    text = entry.body.string_value
                    if fault["mode"] == "partial" and fault["match"] in text:
                        rejected += 1
                        continue
                    records.append({"record": text, "resource": about, "scope": scope.scope.name,
                                    "entry": MessageToDict(entry, preserving_proto_field_name=True)})
        if not records and not rejected:
            raise Refusal(400, b"no records")
        self.refuse(fault, [record["record"] for record in records])
        answer = service.ExportLogsServiceResponse()
        if rejected:
            answer.partial_success.rejected_log_records = rejected
            answer.partial_success.error_message = "told to reject"
        body = answer.SerializeToString() if kind != "application/json" else MessageToJson(answer).encode()
        return records, (200, body, [("Content-Type", kind)])

    def with_bytes(self, request):
        """Protobuf's own JSON has base64 where OTLP has hexadecimal identifiers."""
        for resource in request["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                for entry in scope["logRecords"]:
                    for name in ("traceId", "spanId"):
                        if name in entry:
                            entry[name] = base64.b64encode(bytes.fromhex(entry[name])).decode()
                    if not isinstance(entry["timeUnixNano"], str):
                        raise ValueError("64 bits are a string in JSON")
        return json.dumps(request)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--port", type=int, default=0)
    serve(LogHandler, State(), arguments.parse_args().port)
