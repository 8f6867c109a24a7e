"""Whether `outrider_overhead_seconds` is right, against a measurement from outside.

One connection, one request at a time, in turns: straight to the upstream, through Outrider, and through a relay that does
nothing but pass octets (one_hop.c). What a proxy adds from outside is what it sees of its own time, and what no
program can see: waking up, reading, the way through the kernel. The relay tells how much the latter is, since it knows
both its own time and what it adds. So

    (through Outrider - straight) - ((through the relay - straight) - what the relay saw)  =  outrider_overhead_seconds

With --check it fails when the two sides differ by more than a tenth.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request

from peers import nginx, outrider
from server import LOAD_CORE, PROXY_CORE, Shape, command

SOURCE = pathlib.Path(__file__).with_name("one_hop.c")
REQUEST = b"GET / HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: one_hop\r\nAccept: */*\r\n\r\n"


def seen(admin):
    """Nanoseconds and count of outrider_overhead_seconds so far, over every series of it."""
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    total = sum(map(float, re.findall(r"^outrider_overhead_seconds_sum\S* (\S+)", text, re.M)))
    count = sum(map(float, re.findall(r"^outrider_overhead_seconds_count\S* (\S+)", text, re.M)))
    return total * 1e9, count


def ask(binary, port, requests):
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), binary, "ask", str(port), str(requests)], input=REQUEST,
        capture_output=True, timeout=300)
    if done.returncode:
        sys.exit(f"one_hop ask {port} failed: {done.stderr.decode(errors='replace')}")
    return float(done.stdout)


def relayed(binary, upstream, requests):
    """What the relay adds to the latency, as the client and as itself see it."""
    relay = subprocess.Popen(
        ["taskset", "-c", str(PROXY_CORE), binary, "relay", str(upstream)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    port = int(relay.stdout.readline())
    outside = ask(binary, port, requests)
    relay.stdin.close()
    inside = float(relay.stdout.readline())
    relay.wait(10)
    return outside, inside


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20000, help="of each kind in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail when the difference is above a tenth")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="otr-") as place:
        directory, servers = pathlib.Path(place), []
        binary = directory / "one_hop"
        subprocess.run([command("cc"), "-O2", "-D_GNU_SOURCE", "-o", binary, SOURCE], check=True)
        try:
            servers.append(nginx.start_upstream(directory / "upstream"))
            servers.append(outrider.start(Shape("http1", "http1"), servers[0].port, directory / "outrider"))
            rounds = measure(binary, *servers, directory, options)
        finally:
            for server in reversed(servers):
                server.stop()
    report(rounds, options.check)


def measure(binary, upstream, proxy, directory, options):
    admin = json.loads((directory / "outrider/outrider.yaml").read_text())["admin"]["listen"]
    rounds = []
    for _ in range(options.rounds):
        straight = ask(binary, upstream.port, options.requests)
        before = seen(admin)
        through = ask(binary, proxy.port, options.requests)
        after = seen(admin)
        relay, own = relayed(binary, upstream.port, options.requests)
        rounds.append({
            "outside": through - straight, "hidden": (relay - straight) - own,
            "metric": (after[0] - before[0]) / (after[1] - before[1])})
    return rounds


def report(rounds, check):
    outside, hidden, metric = (statistics.median(r[key] for r in rounds) for key in ("outside", "hidden", "metric"))
    expected = outside - hidden
    difference = (metric - expected) / expected
    print(f"added to the latency, from outside    {outside / 1000:8.2f} us")
    print(f"of which no program can see           {hidden / 1000:8.2f} us")
    print(f"so the proxy's own time is            {expected / 1000:8.2f} us")
    print(f"outrider_overhead_seconds says        {metric / 1000:8.2f} us ({difference:+.1%})")
    if check and abs(difference) > 0.1:
        sys.exit("the metric is more than a tenth off")


if __name__ == "__main__":
    main()
