"""A strict server of Fluentd's forward protocol (Forward Protocol Specification v1) that can be told to fail.

    python3 forward_fault_server.py [--port 0] [--shared-key KEY] [--user NAME --password WORD] [--certificate PEM --key PEM]

prints the port of its control (HTTP) and ends when standard input does. Needs msgpack.

    GET  /_address    {"port": PORT of the protocol}
    POST /_fault      {"mode": MODE, "times": N}
    GET  /_accepted   {"count", "records": [{"record": TEXT, "tag", "time"}]}
    GET  /_requests   {"count", "compressed", "rejected": [reason of every malformed message]}

MODE, for the next `times` messages (for ever when left out):
    none, hang (no acknowledgement until the fault is changed), drop (the connection ends, nothing is stored),
    store-then-reset (what came is stored, then the connection is reset), wrong-ack (another chunk is acknowledged)
"""

import argparse
import base64
import gzip
import hashlib
import json
import os
import socket
import socketserver
import ssl
import struct
import threading

import msgpack

from control import Handler, serve

MODES = ("none", "hang", "drop", "store-then-reset", "wrong-ack")


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.fault, self.remaining = {"mode": "none"}, None
        self.records, self.rejected, self.count, self.compressed = [], [], 0, 0

    def set_fault(self, fault):
        if fault.get("mode") not in MODES:
            raise ValueError(f"unknown mode {fault.get('mode')!r}; one of {', '.join(MODES)}")
        with self.lock:
            self.fault, self.remaining = fault, fault.get("times")
            released, self.changed = self.changed, threading.Event()
        released.set()

    def take_fault(self):
        with self.lock:
            self.count += 1
            if self.remaining is not None:
                if self.remaining <= 0:
                    return "none", self.changed
                self.remaining -= 1
            return self.fault["mode"], self.changed


class Control(Handler):
    def do_GET(self):
        state = self.server.state
        with state.lock:
            answers = {
                "/_address": {"port": state.protocol_port},
                "/_accepted": {"count": len(state.records), "records": list(state.records)},
                "/_requests": {"count": state.count, "compressed": state.compressed, "rejected": list(state.rejected)}}
        self.reply(200 if self.path in answers else 404, answers.get(self.path, {}))

    def do_POST(self):
        try:
            self.server.state.set_fault(json.loads(self.read_body()))
            self.reply(200, {})
        except ValueError as error:
            self.reply(400, {"error": str(error)})


def digest(*parts):
    return hashlib.sha512(b"".join(part.encode() if isinstance(part, str) else part for part in parts)).hexdigest()


class Conversation(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            self.converse()
        except (OSError, ConnectionError):
            pass
        except Exception as error:  # whatever a message made us do is the message's fault
            with self.server.state.lock:
                self.server.state.rejected.append(repr(error))

    def messages(self):
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, max_buffer_size=64 << 20)
        while True:
            yield from unpacker
            piece = self.request.recv(65536)
            if not piece:
                return
            unpacker.feed(piece)

    def send(self, value):
        self.request.sendall(msgpack.packb(value))

    def converse(self):
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        for message in self.messages():
            if not self.take(message):
                return

    def take(self, message):
        state = self.server.state
        mode, changed = state.take_fault()
        if mode == "drop":
            return False
        if mode == "hang":
            changed.wait(600)
            return False
        tag, entries, options = message
        if not isinstance(tag, str) or not tag or not isinstance(entries, bytes) or not isinstance(options, dict):
            raise ValueError("no PackedForward message")
        if set(options) - {"size", "chunk", "compressed"} or options.get("compressed", "gzip") != "gzip":
            raise ValueError(f"options {options}")
        if "compressed" in options:
            entries = gzip.decompress(entries)
        records, unpacker = [], msgpack.Unpacker(raw=False)
        unpacker.feed(entries)
        for time, record in unpacker:
            if not isinstance(time, msgpack.ExtType) or time.code != 0 or len(time.data) != 8:
                raise ValueError("no EventTime")
            if not isinstance(record, dict):
                raise ValueError("no record")
            seconds, nanoseconds = struct.unpack(">II", time.data)
            records.append({"record": json.dumps(record), "tag": tag, "time": seconds * 10**9 + nanoseconds})
        if options.get("size") != len(records):
            raise ValueError(f"size {options.get('size')} for {len(records)} records")
        chunk = options.get("chunk")
        if chunk is not None and len(base64.b64decode(chunk, validate=True)) != 16:
            raise ValueError(f"chunk {chunk}")
        with state.lock:
            state.records += records
            state.compressed += "compressed" in options
        if mode == "store-then-reset":
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if chunk is not None:
            self.send({"ack": chunk if mode != "wrong-ack" else base64.b64encode(bytes(16)).decode()})
        return True


class LoginConversation(Conversation):
    """With a shared key: HELO, PING, PONG before the first message."""

    def converse(self):
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        options, nonce, auth = self.server.options, os.urandom(16), os.urandom(16) if self.server.options.user else b""
        self.send(["HELO", {"nonce": nonce, "auth": auth, "keepalive": True}])
        messages = self.messages()
        kind, host, salt, shown, user, password = next(messages)
        reason = ""
        if kind != "PING" or shown != digest(salt, host, nonce, options.shared_key):
            reason = "shared_key mismatch"
        elif options.user and (user, password) != (options.user, digest(auth, options.user, options.password)):
            reason = "username/password mismatch"
        self.send(["PONG", not reason, reason, "server", digest(salt, "server", nonce, options.shared_key) if not reason else ""])
        if reason:
            return
        for message in messages:
            if not self.take(message):
                return


class Protocol(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    for name in ("shared-key", "user", "password", "certificate", "key"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    state = State()
    server = Protocol(("127.0.0.1", 0), LoginConversation if options.shared_key else Conversation)
    server.state, server.options, server.tls = state, options, None
    if options.certificate:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(options.certificate, options.key)
    state.protocol_port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve(Control, state, options.port)
