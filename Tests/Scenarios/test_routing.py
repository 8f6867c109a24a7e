"""Routes through the real binary: what they match, split, redirect and rewrite, and what `explain route` tells of them."""

import collections
import json
import re
import subprocess

import pytest

import rig


def curl(version, port, path, *options):
    """Status, fields (lower case) and body of an answer, over that version of HTTP."""
    flag = "--http2-prior-knowledge" if version == "2" else "--http1.1"
    done = subprocess.run(
        [rig.tool("curl"), "-sS", "-i", "--path-as-is", "--max-time", "30", flag, *options,
         f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, timeout=60, check=True)
    head, _, body = done.stdout.partition("\n\n")
    lines = head.splitlines()
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields, body


@pytest.fixture
def site(start, python_app, nginx):
    """Outrider before a web app and an nginx, with a route of each kind. Returns (process, port)."""
    app_port, port = rig.free_port(), rig.free_port()
    other = nginx("other\n")
    routes = [
        {"name": "users", "match": {"regex": r"/users/\d+(/.*)?"},
         "rewrite": {"regex": {"pattern": r"^/users/(\d+)", "substitution": r"/u/\1"}}, "to": "app"},
        {"name": "beta", "match": {"query": {"beta": {"regex": "yes|on"}}}, "respond": {"body": "beta"}},
        {"name": "plain", "match": {"headers": {"X-Secure": {"present": False}}, "path": "/secure/*"},
         "redirect": {"scheme": "https", "prefix": "/s/", "code": 308}},
        {"name": "halves", "match": {"path": "/split"}, "split": {"app": 1, f"http://127.0.0.1:{other}": 1}},
        {"name": "copied", "match": {"path": "/copied"}, "mirror": f"http://127.0.0.1:{app_port}",
         "to": f"http://127.0.0.1:{other}"},
        {"name": "some", "match": {"path": "/some", "fraction": "50%"}, "respond": {"body": "some"}},
    ]
    config = {"app": {"port": app_port, "ready": {"http": "/healthz", "interval": "200ms"}},
              "inbound": {"web": {"listen": f"127.0.0.1:{port}", "routes": routes}}}
    return start(config, python_app("web.py", app_port)).wait_ready(), port


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_routes_of_every_kind(site, version):
    process, port = site
    status, _, body = curl(version, port, "/users/17/cart?x=1")
    assert (status, json.loads(body)["path"]) == (200, "/u/17/cart?x=1")
    assert curl(version, port, "/any?a=1&beta=o%6e")[2] == "beta"
    status, fields, _ = curl(version, port, "/secure/a?q=1", "-H", "Host: shop.test")
    assert (status, fields["location"]) == (308, "https://shop.test/s/a?q=1")
    assert curl(version, port, "/secure/a", "-H", "X-Secure: 1")[0] == 200
    seen = collections.Counter(curl(version, port, "/split")[2].startswith("{") for _ in range(40))
    assert seen[True] > 3 and seen[False] > 3, seen
    drawn = collections.Counter(curl(version, port, "/some")[2] == "some" for _ in range(40))
    assert drawn[True] > 3 and drawn[False] > 3, drawn
    assert curl(version, port, "/copied", "-d", "x" * 1000)[2] == "other\n"
    rig.wait_until(lambda: re.search(r'outrider_mirror_requests_total{.*result="answered"} 1\n',
                                     process.admin("/metrics").text), "the copy to be answered")
    process.stop()


def test_explain_route(site):
    process, port = site
    config = process.config_path
    done = rig.run("explain", "route", "get", f"http://shop.test:{port}/secure/x?q=1", "-H", "X-Secure: 1",
                   "--config", str(config), "--output", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["listener"] == "inbound.web"
    missed = {rule["name"]: rule for rule in told["rules"]}
    assert missed["plain"]["condition"] == "header X-Secure" and missed["plain"]["got"] == "`1`"
    assert missed["users"]["expected"] == r"/users/\d+(/.*)?" and missed["users"]["got"] == "/secure/x"
    assert [outcome["cluster"] for outcome in told["outcomes"]] == ["app"]
    text = rig.run("explain", "route", "GET", "/users/5", "--config", str(config))
    assert re.search(r"rule 1 `users` matches\n.*target: /u/5\n", text.stdout, re.S), text.stdout
    wrong = rig.run("explain", "route", "GET", "/", "--listener", "nobody", "--config", str(config))
    assert wrong.returncode == 64 and "known: inbound.web" in wrong.stderr
    process.stop()


def test_the_example_is_valid():
    """Examples/canary holds what this version takes, and its rules do what its comments say."""
    config = rig.ROOT / "Examples" / "canary" / "outrider.yaml"

    def outcomes(path, *fields):
        told = rig.run("explain", "route", "GET", path, "--config", config, "--output", "json", *fields)
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)["outcomes"]

    assert [outcome["cluster"] for outcome in outcomes("/v2/x", "-H", "Cookie: a=b; canary=1")] == ["next"]
    assert [target["share"] for target in outcomes("/v2/x")[0]["targets"]] == [0.95, 0.05]
    assert outcomes("/v2/x?debug=1")[0]["name"] == "default"
    old = outcomes("/v1/users/7/cart?a=b")[0]
    assert (old["target"], old["mirror"], old["mirror_fraction"]) == ("/v2/people/7/cart?a=b", "next", 0.1)
    assert outcomes("/v1/find", "-H", "Host: search")[0]["location"] == "http://search/v2/find"
