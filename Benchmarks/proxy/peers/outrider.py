"""Outrider: one thread, every metric on, `sleep` as its app; access records only where a shape has all features."""

import json
import os
import shlex
import subprocess
import sys

import server
from server import PROXY_CORE, ROOT, NotSupported, Server, free_port


def configuration(shape, port, upstream, certificate):
    listener = {"listen": f"127.0.0.1:{port}", "to": f"http://127.0.0.1:{upstream}", "access_log": False}
    clusters = {}
    if shape.accepts == "tcp":
        listener |= {"protocol": "tcp", "to": f"tcp://127.0.0.1:{upstream}"}
    if shape.accepts == "tls":
        listener["tls"] = {
            "certificate": str(certificate.certificate), "key": str(certificate.key), "min_version": "1.3"}
    if shape.speaks == "http2":
        listener["to"] = "u"
        clusters = {"clusters": {"u": {"endpoints": [f"127.0.0.1:{upstream}"], "protocol": "http2"}}}
    if shape.features:
        listener |= {
            "to": "u", "access_log": True, "retries": {"attempts": 2, "on": ["5xx", "reset"]},
            "routes": [
                {"match": {"host": "other.example.com"}, "to": "u"},
                {"match": {"path": "/api/*", "method": ["GET", "POST"]}, "to": "u"},
                {"match": {"headers": {"x-canary": "yes"}}, "to": "u"}]}
        clusters = {"clusters": {"u": {"endpoints": [f"127.0.0.{host}:{upstream}" for host in (1, 2)]}}}
    return {
        "threads": 1, "admin": {"listen": f"127.0.0.1:{free_port()}"}, "inbound": {"bench": listener}, **clusters}


def start(shape, upstream, directory, certificate=None):
    binary = os.environ.get("OUTRIDER", str(ROOT / "dist/outrider"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"there is no binary at {binary}: run 'make build', or leave Outrider out with --only")
    directory.mkdir(parents=True)
    port = free_port()
    file = directory / "outrider.yaml"
    file.write_text(json.dumps(configuration(shape, port, upstream, certificate)))
    checked = subprocess.run(
        [binary, "validate", "--config", str(file)], capture_output=True, text=True, timeout=30, cwd=directory)
    young = "http2" in shape
    if checked.returncode and young:
        raise NotSupported(first_error(checked.stderr + checked.stdout).replace(f"{directory}/", ""))
    if checked.returncode:
        sys.exit(f"Outrider refuses the configuration of the benchmark:\n{checked.stderr}{checked.stdout}")
    worker = []
    if server.WRAPPER:
        # The supervisor starts its worker from its own open binary, which a counting tool cannot follow.
        script = directory / "worker"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(server.WRAPPER)} {shlex.quote(binary)} \"$@\"\n")
        script.chmod(0o755)
        worker = ["--worker-binary", script]
    return Server(
        "Outrider", PROXY_CORE, port,
        [binary, "run", *worker, "--config", file, "--state", directory / "s", "--", "sleep", "1000000"],
        directory, accepts=shape.accepts, optional=young)


def first_error(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "validate said nothing"
