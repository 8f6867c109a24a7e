"""A strict server of the Elasticsearch bulk API that can be told to fail, and that keeps what it accepted.

Each line of a `_bulk` body is checked as the reference documentation has it
(https://www.elastic.co/guide/en/elasticsearch/reference/8.17/docs-bulk.html). Whole-request errors answer 400, 401,
406, 413; errors of one document are that item's `error`. Standard library only.

    python3 bulk_fault_server.py [--port 0]

prints its port and ends when standard input does. Control, beside the API:

    POST   /_fault      {"mode": MODE, "times": N, "limit": BYTES, "match": TEXT, "authorization": VALUE}
    GET    /_accepted   {"count", "documents": [{"_index", "_id", "op", "source", "raw"}], "duplicates": {ID: TIMES}}
    GET    /_requests   {"count", "bulk", "statuses", "rejected": [reason of every malformed request]}
    DELETE /_accepted   forgets documents and counts

MODE, for the next `times` bulk requests (for ever when left out):
    none              answer truthfully
    429               the whole request is answered 429
    429-items         every item is answered 429
    429-third         every third item of a request is answered 429
    413               a decoded body of more than `limit` bytes is answered 413
    503               the whole request is answered 503
    mapping           items whose source holds `match` (all, when it is empty) are answered 400
    hang              the request is read and never answered, until the fault is changed
    store-then-reset  documents are stored, then the connection is reset
    drop              the connection is closed before an answer, and nothing is stored
"""

import argparse
import collections
import gzip
import json
import re
import threading
import uuid
import zlib

from control import Handler, serve

ACTIONS = ("create", "delete", "index", "update")
METADATA = {
    "_index", "_id", "routing", "pipeline", "require_alias", "require_data_stream", "dynamic_templates",
    "list_executed_pipelines", "version", "version_type", "if_seq_no", "if_primary_term", "retry_on_conflict",
    "_source",
}
RESERVED_FIELDS = {"_id", "_index", "_type", "_routing", "_source", "_field_names", "_ignored", "_seq_no", "_version"}
FORBIDDEN_IN_INDEX = re.compile(r'[\\/*?"<>| ,#:]')
DATA_STREAM = re.compile(r"^(logs|metrics|traces)-[^-]+-.+$")
MODES = ("none", "429", "429-items", "429-third", "413", "503", "mapping", "hang", "store-then-reset", "drop")


class RequestError(Exception):
    """The whole request is refused."""

    def __init__(self, status, kind, reason):
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason


class ItemError(Exception):
    """One document is refused."""

    def __init__(self, status, kind, reason):
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason


def unique_fields(pairs):
    """A JSON object whose names differ, as Elasticsearch demands."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Duplicate field '{twice}'")
    return result


def refuse_constant(name):
    raise ValueError(f"Non-standard token '{name}'")


def parse_object(line):
    value = json.loads(line.decode("utf-8"), object_pairs_hook=unique_fields, parse_constant=refuse_constant)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def parse_bulk(body, url_index):
    """The operations of a body as (action, metadata, source line or None). Raises RequestError."""
    if not body:
        raise RequestError(400, "parse_exception", "request body is required")
    if not body.endswith(b"\n"):
        raise RequestError(
            400, "illegal_argument_exception", "The bulk request must be terminated by a newline [\\n]")
    lines = body[:-1].split(b"\n")
    operations, number = [], 0
    while number < len(lines):
        action, metadata = parse_action(lines[number], number + 1)
        number += 1
        if not metadata.get("_index", url_index):
            raise RequestError(
                400, "action_request_validation_exception", "Validation Failed: 1: index is missing;")
        metadata.setdefault("_index", url_index)
        source = None
        if action != "delete":
            if number >= len(lines) or not lines[number]:
                raise RequestError(
                    400, "illegal_argument_exception", f"Validation Failed: no source for line [{number}]")
            source = lines[number]
            number += 1
        operations.append((action, metadata, source))
    return operations


def parse_action(line, number):
    malformed = f"Malformed action/metadata line [{number}], expected "
    try:
        value = parse_object(line)
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestError(400, "illegal_argument_exception", f"{malformed}an object: {error}") from None
    if len(value) != 1:
        raise RequestError(400, "illegal_argument_exception", f"{malformed}one action, found {sorted(value)}")
    (action, metadata), = value.items()
    if action not in ACTIONS:
        raise RequestError(400, "illegal_argument_exception", f"{malformed}one of {list(ACTIONS)}, found [{action}]")
    if not isinstance(metadata, dict):
        raise RequestError(400, "illegal_argument_exception", f"{malformed}START_OBJECT after [{action}]")
    for name, content in metadata.items():
        if name not in METADATA:
            raise RequestError(
                400, "illegal_argument_exception",
                f"Action/metadata line [{number}] contains an unknown parameter [{name}]")
        if name in ("_index", "_id", "routing", "pipeline") and not isinstance(content, str):
            raise RequestError(
                400, "illegal_argument_exception", f"Action/metadata line [{number}]: [{name}] must be a string")
    if action in ("update", "delete") and not metadata.get("_id"):
        raise RequestError(400, "action_request_validation_exception", "Validation Failed: 1: id is missing;")
    return action, dict(metadata)


def check_index(name):
    if not name or name != name.lower() or FORBIDDEN_IN_INDEX.search(name) or name[0] in "-_+" or len(name) > 255:
        raise ItemError(400, "invalid_index_name_exception", f"Invalid index name [{name}]")


def check_source(action, metadata, line):
    try:
        source = parse_object(line)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise ItemError(400, "document_parsing_exception", f"failed to parse: {error}") from None
    if action == "update":
        return source
    for name in source:
        if name in RESERVED_FIELDS:
            raise ItemError(
                400, "document_parsing_exception",
                f"Field [{name}] is a metadata field and cannot be added inside a document.")
        if not name.strip() or any(not part for part in name.split(".")):
            raise ItemError(400, "document_parsing_exception", f"field name [{name}] is empty or starts with a dot")
    if DATA_STREAM.match(metadata["_index"]):
        if action != "create":
            raise ItemError(
                400, "illegal_argument_exception",
                "only write ops with an op_type of create are allowed in data streams")
        if "@timestamp" not in source:
            raise ItemError(
                400, "document_parsing_exception", "data stream timestamp field [@timestamp] is missing")
    return source


class Accepted:
    """What was stored, the present fault, and the counts. Every method takes the lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.fault, self.remaining = {"mode": "none"}, None
        self.forget()

    def forget(self):
        with self.lock:
            self.documents, self.by_id, self.times_sent = [], {}, collections.Counter()
            self.bulk_requests, self.statuses, self.rejected = 0, collections.Counter(), []

    def set_fault(self, fault):
        mode = fault.get("mode", "none")
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; one of {', '.join(MODES)}")
        with self.lock:
            self.fault, self.remaining = fault, fault.get("times")
            released, self.changed = self.changed, threading.Event()
        released.set()

    def take_fault(self):
        """The fault of this request, and the event that says that the fault has been changed since."""
        with self.lock:
            self.bulk_requests += 1
            if self.remaining is not None:
                if self.remaining <= 0:
                    return {"mode": "none", "authorization": self.fault.get("authorization")}, self.changed
                self.remaining -= 1
            return self.fault, self.changed

    def note(self, status, reason=None):
        with self.lock:
            self.statuses[str(status)] += 1
            if reason:
                self.rejected.append(reason)

    def store(self, action, metadata, line):
        """One item's answer: (status, body). Raises ItemError."""
        check_index(metadata["_index"])
        identifier = metadata.get("_id")
        if identifier is not None and not 0 < len(identifier.encode()) <= 512:
            raise ItemError(400, "illegal_argument_exception", "id is empty or longer than 512 bytes")
        source = check_source(action, metadata, line) if line is not None else None
        with self.lock:
            if identifier is None:
                identifier = uuid.uuid4().hex[:20]
            key = (metadata["_index"], identifier)
            self.times_sent[key] += 1
            present = self.by_id.get(key)
            if action == "create" and present is not None:
                raise ItemError(
                    409, "version_conflict_engine_exception",
                    f"[{identifier}]: version conflict, document already exists (current version [1])")
            if action in ("delete", "update"):
                if present is None:
                    raise ItemError(404, "document_missing_exception", f"[{identifier}]: document missing")
                if action == "delete":
                    self.documents.remove(self.by_id.pop(key))
                    return 200, self.result(key, "deleted")
                present["source"].update(source.get("doc", {}))
                return 200, self.result(key, "updated")
            document = {
                "_index": key[0], "_id": identifier, "op": action, "source": source, "raw": line.decode("utf-8")}
            if present is not None:
                self.documents.remove(present)
            self.documents.append(document)
            self.by_id[key] = document
            return (201, self.result(key, "created")) if present is None else (200, self.result(key, "updated"))

    def result(self, key, word):
        return {
            "_index": key[0], "_id": key[1], "_version": self.times_sent[key], "result": word,
            "_shards": {"total": 1, "successful": 1, "failed": 0}, "_seq_no": len(self.documents), "_primary_term": 1}

    def report(self):
        with self.lock:
            duplicates = {key[1]: count for key, count in self.times_sent.items() if count > 1}
            return {"count": len(self.documents), "documents": list(self.documents), "duplicates": duplicates}

    def requests(self):
        with self.lock:
            return {"bulk": self.bulk_requests, "statuses": dict(self.statuses), "rejected": list(self.rejected)}


class BulkHandler(Handler):
    server_version = "bulk-fault-server"

    def answer(self, status, payload, reason=None):
        self.server.state.note(status, reason)
        headers = [("X-elastic-product", "Elasticsearch")]
        if status in (429, 503) and self.server.state.fault.get("retry_after") is not None:
            headers.append(("Retry-After", str(self.server.state.fault["retry_after"])))
        self.reply(status, payload, headers)

    def refuse(self, error):
        cause = {"type": error.kind, "reason": error.reason}
        self.answer(error.status, {"error": {"root_cause": [cause], **cause}, "status": error.status}, error.reason)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/_accepted":
            self.reply(200, self.server.state.report())
        elif path == "/_requests":
            self.reply(200, self.server.state.requests())
        elif path == "/":
            self.reply(
                200, {"name": "fault", "cluster_name": "fault", "version": {"number": "8.17.0"},
                      "tagline": "You Know, for Search"}, [("X-elastic-product", "Elasticsearch")])
        else:
            self.reply(404, {"error": f"no handler found for uri [{self.path}]", "status": 404})

    do_HEAD = do_GET

    def do_DELETE(self):
        if self.path == "/_accepted":
            self.server.state.forget()
            self.reply(200, {})
        else:
            self.reply(404, {"error": f"no handler found for uri [{self.path}]", "status": 404})

    def do_POST(self):
        path = self.path.split("?")[0]
        body = self.read_body()
        if path == "/_fault":
            try:
                self.server.state.set_fault(json.loads(body or b"{}"))
                self.reply(200, {})
            except ValueError as error:
                self.reply(400, {"error": str(error)})
        elif match := re.fullmatch(r"(?:/([^/_][^/]*))?/_bulk", path):
            self.bulk(match.group(1), body)
        else:
            self.reply(404, {"error": f"no handler found for uri [{self.path}]", "status": 404})

    do_PUT = do_POST

    def bulk(self, url_index, body):
        state = self.server.state
        fault, changed = state.take_fault()
        mode = fault["mode"] if "mode" in fault else "none"
        if mode == "drop":
            return self.drop()
        if mode == "hang":
            changed.wait(600)
            return self.reset()
        try:
            body = self.decoded(body, fault)
            if mode in ("429", "503"):
                kind = "es_rejected_execution_exception" if mode == "429" else "unavailable_shards_exception"
                raise RequestError(int(mode), kind, "told to fail")
            if mode == "413" and len(body) > fault.get("limit", 1 << 20):
                raise RequestError(413, "content_too_long_exception", "entity content is too long")
            operations = parse_bulk(body, url_index)
        except RequestError as error:
            return self.refuse(error)
        items = [
            self.item(position, operation, fault, mode) for position, operation in enumerate(operations)]
        if mode == "store-then-reset":
            state.note("reset")
            return self.reset()
        errors = any("error" in next(iter(item.values())) for item in items)
        self.answer(200, {"took": 1, "errors": errors, "items": items})

    def decoded(self, body, fault):
        wanted = fault.get("authorization")
        if wanted and self.headers.get("Authorization") != wanted:
            raise RequestError(401, "security_exception", "missing or wrong authentication credentials")
        kind = (self.headers.get("Content-Type") or "").split(";")[0].strip().lower()
        if kind not in ("application/x-ndjson", "application/json"):
            raise RequestError(
                406, "media_type_header_exception", f"Content-Type header [{kind}] is not supported")
        coding = (self.headers.get("Content-Encoding") or "identity").lower()
        if coding not in ("identity", "gzip"):
            raise RequestError(400, "illegal_argument_exception", f"unknown content coding [{coding}]")
        try:
            return gzip.decompress(body) if coding == "gzip" else body
        except (OSError, EOFError, zlib.error) as error:
            raise RequestError(400, "parse_exception", f"body is not gzip: {error}") from None

    def item(self, position, operation, fault, mode):
        action, metadata, line = operation
        try:
            if mode == "429-items" or (mode == "429-third" and position % 3 == 2):
                raise ItemError(429, "es_rejected_execution_exception", "rejected execution of coordinating operation")
            if mode == "mapping" and fault.get("match", "").encode() in (line or b""):
                raise ItemError(400, "document_parsing_exception", "failed to parse field [told] of type [long]")
            status, result = self.server.state.store(action, metadata, line)
            return {action: {**result, "status": status}}
        except ItemError as error:
            return {action: {
                "_index": metadata["_index"], "_id": metadata.get("_id"), "status": error.status,
                "error": {"type": error.kind, "reason": error.reason}}}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--port", type=int, default=0)
    serve(BulkHandler, Accepted(), arguments.parse_args().port)
