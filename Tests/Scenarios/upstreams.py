"""Upstreams and a DNS server in the test's own process, whose addresses come and go as a test wants."""

import http.server
import threading

import dnslib
import dnslib.server


class Upstream:
    """Answers every request with its name; counts requests and open connections. `/slow` waits until it is released, others for `delay`."""

    def __init__(self, name, port=0, address="127.0.0.1"):
        self.name, self.requests, self.open = name, 0, 0
        self.lock, self.released = threading.Lock(), threading.Event()
        self.slow, self.delay = 0, 0
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                with upstream.lock:
                    upstream.open += 1

            def finish(self):
                with upstream.lock:
                    upstream.open -= 1
                super().finish()

            def do_GET(self):
                with upstream.lock:
                    upstream.requests += 1
                    upstream.slow += self.path == "/slow"
                if self.path == "/slow":
                    upstream.released.wait(60)
                if upstream.delay:
                    threading.Event().wait(upstream.delay)
                body = upstream.name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256
            address_family = 10 if ":" in address else 2

            def handle_error(self, request, client_address):
                pass

        self.server = Server((address, port), Handler)
        self.port = self.server.server_address[1]
        self.address = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def end(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class NameServer:
    """A real DNS server on loopback, UDP and TCP. `records[name]` is a list of (type, ttl, data), or an rcode."""

    def __init__(self, port):
        self.records, self.asked, self.lock = {}, [], threading.Lock()
        # Types that are never answered, as some servers do with what they do not know.
        self.dropped = set()
        self.port = port
        # On TCP as well: answers above 512 octets are cut on UDP.
        self.servers = [
            dnslib.server.DNSServer(self, port=port, address="127.0.0.1", tcp=tcp, logger=Quiet())
            for tcp in (False, True)
        ]
        for server in self.servers:
            server.start_thread()

    def set(self, name, *records):
        with self.lock:
            self.records[name + "."] = list(records)

    def fail(self, name, code="SERVFAIL"):
        with self.lock:
            self.records[name + "."] = code

    def count(self, name, kind):
        with self.lock:
            return self.asked.count((name + ".", kind))

    def resolve(self, request, handler):
        reply = request.reply()
        name, kind = str(request.q.qname), dnslib.QTYPE[request.q.qtype]
        with self.lock:
            self.asked.append((name, kind))
            known = self.records.get(name)
        if kind in self.dropped:
            raise TimeoutError(kind)
        if known is None or isinstance(known, str):
            reply.header.rcode = getattr(dnslib.RCODE, known or "NXDOMAIN")
            return reply
        for record_kind, ttl, data in known:
            if record_kind != kind:
                continue
            rdata = {"A": dnslib.A, "AAAA": dnslib.AAAA, "CNAME": dnslib.CNAME}.get(kind)
            reply.add_answer(
                dnslib.RR(
                    request.q.qname, request.q.qtype, ttl=ttl,
                    rdata=dnslib.SRV(*data) if kind == "SRV" else rdata(data)))
        return reply

    def end(self):
        for server in self.servers:
            server.stop()
            server.server.server_close()


class Quiet:
    """dnslib tells about every packet."""

    def __getattr__(self, name):
        return lambda *_: None


class Load:
    """Clients that ask without a pause on kept connections, until they are ended; keeps what went wrong."""

    def __init__(self, port, clients=4):
        import http.client

        self.failures, self.answers, self.ended = [], {}, threading.Event()
        self.lock = threading.Lock()

        def run():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            while not self.ended.is_set():
                try:
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    body = response.read().decode()
                except (OSError, http.client.HTTPException) as error:
                    with self.lock:
                        self.failures.append(repr(error))
                    connection.close()
                    continue
                with self.lock:
                    if response.status == 200:
                        self.answers[body] = self.answers.get(body, 0) + 1
                    else:
                        self.failures.append(f"{response.status} {body}")
            connection.close()

        self.threads = [threading.Thread(target=run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def count(self):
        with self.lock:
            return sum(self.answers.values())

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(40)
