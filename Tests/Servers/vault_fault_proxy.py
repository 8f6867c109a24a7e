"""An HTTP proxy before one server that can be told to fail, and that counts what came. Standard library only.

    python3 vault_fault_proxy.py HOST:PORT

prints its port and ends when standard input does. Every request goes to HOST:PORT and back, but for

    POST /_behave       {"rules": [RULE, …]} replaces all rules; the first that fits a request holds
    GET  /_counts       {"METHOD /path": TIMES}, failed ones included
    DELETE /_counts     begins to count anew

RULE: {"path": EXPRESSION that must be found in the path (absent: any), "method": METHOD (absent: any),
       "times": N (absent: for good), "do": WHAT, "status": N}

status      answers `status` with an `errors` list and forwards nothing
hang        forwards nothing and answers nothing until the rules change
reset       forwards nothing; the connection is reset
lose        forwards, waits for the answer, and resets the connection instead of giving it
"""

import collections
import http.client
import json
import re
import sys
import threading

from control import Handler, serve


class Behaviour:
    def __init__(self, upstream):
        self.upstream = upstream
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.rules, self.changed = [], threading.Event()

    def set(self, rules):
        with self.lock:
            self.rules = [dict(rule) for rule in rules]
            self.changed.set()
            self.changed = threading.Event()

    def rule_for(self, method, path):
        """The rule that holds, counted, and the event that ends its hanging."""
        with self.lock:
            self.counts[f"{method} {path}"] += 1
            for rule in self.rules:
                if rule.get("method", method) != method or not re.search(rule.get("path", ""), path):
                    continue
                if "times" in rule:
                    if rule["times"] <= 0:
                        continue
                    rule["times"] -= 1
                return rule, self.changed
            return None, self.changed


class Proxy(Handler):
    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if self.parse_request():
            self.any()

    def any(self):
        state, body = self.server.state, self.read_body()
        if self.path == "/_behave":
            state.set(json.loads(body)["rules"])
            return self.reply(200, {})
        if self.path == "/_counts":
            with state.lock:
                counts = dict(state.counts)
                if self.command == "DELETE":
                    state.counts.clear()
            return self.reply(200, counts)
        rule, changed = state.rule_for(self.command, self.path.split("?")[0])
        what = rule["do"] if rule else "forward"
        if what == "status":
            return self.reply(rule["status"], {"errors": ["told to fail"]})
        if what == "hang":
            changed.wait()
            return self.drop()
        if what == "reset":
            return self.reset()
        reply, payload = self.forward(body)
        if what == "lose":
            return self.reset()
        self.reply(reply.status, payload, [("Content-Type", reply.getheader("Content-Type") or "application/json")])

    def forward(self, body):
        connection = http.client.HTTPConnection(self.server.state.upstream, timeout=60)
        fields = {name: value for name, value in self.headers.items()
                  if name.lower() not in ("host", "connection", "content-length", "transfer-encoding")}
        try:
            connection.request(self.command, self.path, body or None, fields)
            reply = connection.getresponse()
            return reply, reply.read()
        finally:
            connection.close()


if __name__ == "__main__":
    serve(Proxy, Behaviour(sys.argv[1]))
