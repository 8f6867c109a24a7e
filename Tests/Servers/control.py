"""What the test servers share: an HTTP server of threads on an ephemeral port that ends with its standard input.

Nothing here knows the product. Standard library only.
"""

import json
import os
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """One thread per connection; a reset peer is not worth a stack trace."""

    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        if isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, ValueError, OSError)):
            return
        super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive, chunked request bodies, JSON replies, and ways to break a connection."""

    protocol_version = "HTTP/1.1"
    # Head and body leave in one segment when they fit, as real servers have it.
    wbufsize = 64 << 10
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def read_body(self):
        """The request's body as sent, with the chunked coding removed."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while True:
                size = int(self.rfile.readline(1024).split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
                        pass
                    return b"".join(pieces)
                pieces.append(self.rfile.read(size))
                self.rfile.readline(16)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status, payload, headers=()):
        """Sends `payload`: bytes as they are, anything else as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        names = {name.lower() for name, _ in headers}
        if "content-type" not in names:
            self.send_header("Content-Type", "application/json")
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def reset(self):
        """Ends the connection with RST, so that the peer sees 'connection reset by peer'."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._abandon()

    def drop(self):
        """Ends the connection with FIN and no reply."""
        self.close_connection = True
        self._abandon()

    def _abandon(self):
        # Neither shutdown() nor a flush may run: the close itself must be what the peer sees.
        for stream in (self.rfile, self.wfile):
            try:
                stream.close()
            except OSError:
                pass
        self.connection.close()

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass


def end_with_standard_input(stop):
    """Calls `stop` when standard input reaches its end: a test's helper never outlives the test."""

    def watch():
        while os.read(0, 65536):
            pass
        stop()

    threading.Thread(target=watch, daemon=True).start()


def serve(handler, state, port=0):
    """Prints the port, then serves until standard input ends. `state` is handed to handlers as `server.state`."""
    server = Server(("127.0.0.1", port), handler)
    server.state = state
    state.server = server
    end_with_standard_input(server.shutdown)
    print(server.server_address[1], flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
