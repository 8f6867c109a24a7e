"""Endpoints that come and go: files, DNS names with their TTLs, SRV records; and which of them a request goes to."""

import collections
import concurrent.futures
import json
import os
import re
import subprocess

import pytest

import rig
from rig import wait_until
from upstreams import Load, NameServer, Upstream


@pytest.fixture
def upstream(ending):
    def starter(*arguments, **options):
        server = Upstream(*arguments, **options)
        ending.append(server)
        return server

    return starter


@pytest.fixture
def name_server(ending):
    server = NameServer(rig.free_port())
    ending.append(server)
    return server


@pytest.fixture
def loaded(ending):
    def starter(port):
        load = Load(port)
        ending.append(load)
        return load

    return starter


@pytest.fixture
def proxy(start):
    """proxy(cluster, …) runs outrider with that cluster behind a port, which its `port` is."""

    def starter(cluster, **more):
        port = rig.free_port()
        process = start(
            {"outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "up"}}, "clusters": {"up": cluster}, **more},
            ["sleep", "300"]).wait_ready()
        process.port = port
        return process

    return starter


def cluster_of(process):
    return next(c for c in process.admin("/status").json["clusters"] if c["name"] == "up")


def addresses(process):
    return sorted(endpoint["address"] for endpoint in cluster_of(process)["endpoints"])


def wait_addresses(process, *wanted):
    wait_until(lambda: addresses(process) == sorted(wanted), f"the endpoints {wanted}")


def metric(process, name, **labels):
    total = 0.0
    for line in process.admin("/metrics").text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rsplit(" ", 1)[1])
    return total


def replace(path, content):
    """As everything should that writes such a file: whole, or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(content if isinstance(content, str) else json.dumps(content))
    os.replace(temporary, path)


def answers(port, count, headers=lambda index: {}, path=lambda index: "/"):
    seen = collections.Counter()
    for index in range(count):
        reply = rig.request(port, path(index), headers=headers(index))
        assert reply.status == 200, reply.text
        seen[reply.text] += 1
    return seen


def leaves_in_peace(process, load, gone, slow):
    """An endpoint that left gets nothing new, ends what it has, and keeps no connection."""
    before, total = gone.requests, load.count()
    wait_until(lambda: load.count() > total + 200, "more requests")
    assert gone.requests == before, "an endpoint that had left got a request"
    assert not slow.done()
    wait_until(lambda: gone.open == 1, "the idle connections to close")
    gone.released.set()
    assert slow.result(30).text == gone.name
    wait_until(lambda: gone.open == 0, "the last connection to close")


def test_endpoints_of_a_file_come_and_go_under_load(proxy, upstream, loaded, place):
    servers = [upstream(name) for name in "abc"]
    path = place / "endpoints.yaml"
    replace(path, [servers[0].address, {"address": servers[1].address, "weight": 2}])
    process = proxy({"file": str(path)})
    load = loaded(process.port)
    wait_until(lambda: load.count() > 200, "requests")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(rig.request, process.port, "/slow", timeout=60)
        gone = wait_until(lambda: next((s for s in servers if s.slow), None), "the slow request")
        stays = [s for s in servers if s is not gone]
        replace(path, {"endpoints": [s.address for s in stays]})
        wait_addresses(process, *(s.address for s in stays))
        leaves_in_peace(process, load, gone, slow)
    for wanted in ([servers[0]], servers, servers[1:], [servers[2]], servers[:2]):
        replace(path, "".join(f"- {server.address}\n" for server in wanted))
        wait_addresses(process, *(server.address for server in wanted))
        total = load.count()
        wait_until(lambda: load.count() > total + 100, "more requests")
    load.end()
    assert load.failures == []
    assert set(load.answers) == {"a", "b", "c"}
    assert metric(process, "outrider_upstream_endpoints", cluster="up", state="available") == 2
    assert metric(process, "outrider_upstream_resolutions_total", cluster="up", result="failure") == 0


def test_a_broken_file_leaves_the_last_good_endpoints_in_use(proxy, upstream, place):
    first, second = upstream("first"), upstream("second")
    path = place / "endpoints.yaml"
    process = proxy({"file": str(path)})
    # Not there yet: requests are answered, and the reason is in the answer, the log and the status.
    reply = wait_until(lambda: (lambda r: r if r.status == 503 else None)(rig.request(process.port)), "503")
    assert "cannot read" in reply.text and reply.json["reason"] == "no_endpoint"
    assert "No such file" in cluster_of(process)["last_error"]
    replace(path, [first.address])
    wait_addresses(process, first.address)
    assert rig.request(process.port).text == "first"
    assert "last_error" not in cluster_of(process)

    replace(path, f"- {second.address}\n- {{ address: x }}\n")
    error = wait_until(lambda: cluster_of(process).get("last_error"), "the error in the status")
    assert re.search(r"endpoints\.yaml:2:14: error: .*`x` is not an address", error), error
    shown = rig.run("status", "--state", process.state).stdout
    assert "cluster   up from file" in shown and "endpoints.yaml:2:14" in shown and first.address in shown, shown
    wait_until(lambda: "the last good endpoints stay in use" in process.stderr, "the warning")
    assert addresses(process) == [first.address]
    assert rig.request(process.port).text == "first"
    assert metric(process, "outrider_upstream_resolutions_total", cluster="up", result="failure") >= 1

    replace(path, [second.address])
    wait_addresses(process, second.address)
    assert rig.request(process.port).text == "second"
    # Nobody is left, and that is no mistake.
    replace(path, "[]\n")
    wait_addresses(process)
    assert rig.request(process.port).json["reason"] == "no_endpoint"


def test_a_mounted_file_is_followed_through_its_links(proxy, upstream, place):
    """As Kubernetes mounts a ConfigMap: the file is a link into `..data`, which is a link that is replaced."""
    first, second = upstream("first"), upstream("second")
    mount = place / "mount"
    for name, server in (("..one", first), ("..two", second)):
        (mount / name).mkdir(parents=True)
        (mount / name / "endpoints.yaml").write_text(json.dumps([server.address]))
    (mount / "..data").symlink_to("..one")
    (mount / "endpoints.yaml").symlink_to("..data/endpoints.yaml")
    process = proxy({"file": str(mount / "endpoints.yaml")})
    wait_addresses(process, first.address)
    (mount / "..data_tmp").symlink_to("..two")
    os.replace(mount / "..data_tmp", mount / "..data")
    # Well before the slow look at the file, which is there for directories that cannot be watched.
    wait_until(lambda: addresses(process) == [second.address], "the other file", deadline=5)


def test_addresses_of_a_name_come_and_go_under_load(proxy, upstream, loaded, name_server):
    port = rig.free_port()
    servers = {a: upstream(a, port, a) for a in ("127.0.0.2", "127.0.0.3", "::1")}

    def publish(*wanted):
        name_server.set("shop.test", *(("AAAA" if ":" in a else "A", 1, a) for a in wanted))

    def text(*wanted):
        return [servers[a].address for a in wanted]

    publish("127.0.0.2", "127.0.0.3", "::1")
    process = proxy({"dns": f"shop.test:{port}"}, resolvers=[f"127.0.0.1:{name_server.port}"])
    wait_addresses(process, *text("127.0.0.2", "127.0.0.3", "::1"))
    load = loaded(process.port)
    wait_until(lambda: len(load.answers) == 3, "answers of every address, both families")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(rig.request, process.port, "/slow", timeout=60)
        gone = wait_until(lambda: next((s for s in servers.values() if s.slow), None), "the slow request")
        left = [a for a in servers if servers[a] is not gone]
        publish(*left)
        wait_addresses(process, *text(*left))
        leaves_in_peace(process, load, gone, slow)
    for wanted in (("127.0.0.2",), ("127.0.0.3", "::1"), ("127.0.0.2", "127.0.0.3", "::1")):
        publish(*wanted)
        wait_addresses(process, *text(*wanted))
    # The server is ill, then knows the name no more: what was known stays.
    for code in ("SERVFAIL", "NXDOMAIN"):
        failures = metric(process, "outrider_upstream_resolutions_total", cluster="up", result="failure")
        name_server.fail("shop.test", code)
        wait_until(
            lambda: metric(process, "outrider_upstream_resolutions_total", cluster="up", result="failure") > failures,
            "a failed look-up")
        assert len(addresses(process)) == 3
    assert "shop.test" in cluster_of(process)["last_error"]
    publish("127.0.0.3")
    wait_addresses(process, *text("127.0.0.3"))
    load.end()
    assert load.failures == []
    assert metric(process, "outrider_upstream_resolutions_total", cluster="up", result="success") > 3


def test_a_name_is_asked_for_as_often_as_its_ttl_says(proxy, upstream, name_server):
    server = upstream("only")
    name_server.set("long.test", ("A", 3600, "127.0.0.1"))
    name_server.set("short.test", ("A", 0, "127.0.0.1"))
    process = proxy(
        {"endpoints": [f"long.test:{server.port}"]}, resolvers=f"127.0.0.1:{name_server.port}",
        outbound={"a": {"listen": f"127.0.0.1:{rig.free_port()}", "to": "up"}, "b": {
            "listen": f"127.0.0.1:{rig.free_port()}", "to": f"http://short.test:{server.port}"}})
    # Zero means a second here.
    wait_until(lambda: name_server.count("short.test", "A") >= 4, "the short-lived name to be asked for again")
    assert name_server.count("long.test", "A") == 1
    assert addresses(process) == [server.address]


def test_names_in_a_file_are_asked_for_when_they_expire_or_the_file_changes(proxy, upstream, name_server, place):
    first, second = upstream("first"), upstream("second")
    name_server.set("long.test", ("A", 3600, "127.0.0.1"))
    path = place / "endpoints.yaml"
    replace(path, [f"long.test:{first.port}"])
    process = proxy({"file": str(path)}, resolvers=f"127.0.0.1:{name_server.port}")
    wait_addresses(process, first.address)
    for number in range(200):
        # Somebody is busy in the same directory.
        (place / f"other-{number}").write_text("x")
    replace(path, [f"long.test:{first.port}", second.address])
    wait_addresses(process, first.address, second.address)
    assert name_server.count("long.test", "A") == 2


@pytest.mark.parametrize("count", [1, 2])
def test_servers_that_are_silent_about_a_family_are_no_obstacle(proxy, upstream, name_server, ending, count):
    port = rig.free_port()
    others = [NameServer(rig.free_port()) for _ in range(count - 1)]
    ending.extend(others)
    for other in others:
        other.records = name_server.records
    servers = [name_server, *others]
    resolvers = [f"127.0.0.1:{server.port}" for server in servers]
    four, six = upstream("four", port), upstream("six", port, "::1")
    name_server.set("shop.test", ("A", 1, "127.0.0.1"), ("AAAA", 1, "::1"))
    process = proxy({"dns": f"shop.test:{port}"}, resolvers=resolvers)
    wait_addresses(process, four.address, six.address)
    # What was known of the family stays, and the other one goes on.
    for server in servers:
        server.dropped = {"AAAA"}
    name_server.set("shop.test", ("A", 1, "127.0.0.2"))
    wait_addresses(process, f"127.0.0.2:{port}", six.address)
    # One that never said a word about it has the addresses of the other.
    name_server.set("other.test", ("A", 60, "127.0.0.1"))
    process.write_config({
        "admin": {"listen": "false"}, "resolvers": resolvers,
        "outbound": {"out": {"listen": f"127.0.0.1:{rig.free_port()}", "to": "up"}},
        "clusters": {"up": {"dns": f"other.test:{port}"}}})
    assert rig.run("reload", "--state", process.state).returncode == 0
    wait_addresses(process, four.address)


def test_srv_records_have_priorities_and_weights(proxy, upstream, name_server):
    heavy, light, spare = upstream("heavy"), upstream("light"), upstream("spare")
    for name in ("a.shop.test", "b.shop.test", "c.shop.test"):
        name_server.set(name, ("A", 60, "127.0.0.1"))

    def publish(*records):
        name_server.set("_http._tcp.shop.test", *(("SRV", 1, record) for record in records))

    last = (20, 1, spare.port, "c.shop.test")
    publish((10, 3, heavy.port, "a.shop.test"), (10, 1, light.port, "b.shop.test"), last)
    process = proxy(
        {"srv": "_http._tcp.shop.test", "balance": "round_robin"}, resolvers=[f"127.0.0.1:{name_server.port}"])
    wait_addresses(process, heavy.address, light.address, spare.address)
    seen = answers(process.port, 40)
    assert set(seen) == {"heavy", "light"} and abs(seen["heavy"] - 30) <= 4, seen
    hosts = {endpoint["host"] for endpoint in cluster_of(process)["endpoints"]}
    assert f"a.shop.test:{heavy.port}" in hosts
    # The first priority is gone: the next takes everything.
    publish(last)
    wait_addresses(process, spare.address)
    assert set(answers(process.port, 5)) == {"spare"}
    # The target is no host, so the whole answer is none.
    publish((1, 1, 80, "."))
    wait_until(lambda: "no SRV records" in cluster_of(process).get("last_error", ""), "the error")
    assert set(answers(process.port, 5)) == {"spare"}


def test_resolvers_change_with_a_reload(start, upstream, name_server, ending):
    other = NameServer(rig.free_port())
    ending.append(other)
    first, second = upstream("first"), upstream("second")
    port = rig.free_port()
    name_server.set("shop.test", ("A", 3600, "127.0.0.1"))

    def configuration(server, target):
        return {"admin": {"listen": "false"}, "resolvers": [f"127.0.0.1:{server.port}"],
                "outbound": {"out": {"listen": f"127.0.0.1:{port}", "to": "up"}},
                "clusters": {"up": {"dns": f"shop.test:{target.port}"}}}

    process = start(configuration(name_server, first), ["sleep", "300"]).wait_ready()
    wait_until(lambda: rig.request(port).text == "first", "the first server's answer")
    other.set("shop.test", ("A", 3600, "127.0.0.1"))
    process.write_config(configuration(other, first))
    assert rig.run("reload", "--state", process.state).returncode == 0
    wait_until(lambda: other.count("shop.test", "A") == 1, "the other server to be asked")
    assert rig.request(port).text == "first"


@pytest.mark.parametrize("balance", ["ring_hash", "maglev"])
@pytest.mark.parametrize("key", ["header", "cookie", "query", "path"])
def test_requests_of_one_key_go_to_one_endpoint(proxy, upstream, balance, key):
    servers = [upstream(f"server-{index}") for index in range(4)]
    hash_on = {"header": {"header": "X-User"}, "cookie": {"cookie": "sid"}, "query": {"query": "user"}, "path": "path"}
    process = proxy(
        {"endpoints": [s.address for s in servers], "balance": balance, "hash_on": hash_on[key]})

    def ask(user, *options):
        fields = {"header": ["-H", f"x-user: {user}"], "cookie": ["-H", f"Cookie: a=1; sid={user}; b=2"]}.get(key, [])
        path = {"query": f"/?a=1&user={user}", "path": f"/users/{user}?x={os.urandom(4).hex()}"}.get(key, "/")
        result = subprocess.run(
            ["curl", "-sS", "--max-time", "20", *options, *fields, f"http://127.0.0.1:{process.port}{path}"],
            check=True, capture_output=True, text=True)
        return result.stdout

    owners = {}
    for user in range(24):
        owners[user] = ask(user)
        # Over HTTP/2 it is the same key.
        assert ask(user, "--http2-prior-knowledge") == owners[user]
        assert ask(user) == owners[user]
    assert len(set(owners.values())) == 4, owners


def test_requests_without_a_key_go_anywhere(proxy, upstream):
    servers = [upstream(f"server-{index}") for index in range(3)]
    process = proxy({"endpoints": [s.address for s in servers], "balance": "ring_hash", "hash_on": {"header": "X-User"}})
    assert len(answers(process.port, 40)) == 3
    assert len(answers(process.port, 10, headers=lambda _: {"X-User": "one"})) == 1
    # By the client's address everybody here is one.
    other = rig.free_port()
    process.write_config({
        "admin": {"listen": "false"}, "outbound": {"out": {"listen": f"127.0.0.1:{other}", "to": "up"}},
        "clusters": {"up": {"endpoints": [s.address for s in servers], "balance": "maglev"}}})
    assert rig.run("reload", "--state", process.state).returncode == 0
    assert len(answers(other, 20)) == 1


def test_octets_of_one_client_go_to_one_endpoint(start, upstream):
    servers = [upstream(f"server-{index}") for index in range(4)]
    port, hashed = rig.free_port(), {"endpoints": [s.address for s in servers], "balance": "ring_hash"}
    start({"outbound": {"out": {"listen": f"127.0.0.1:{port}", "protocol": "tcp", "to": "up"}},
           "clusters": {"up": hashed}}, ["sleep", "300"]).wait_ready()
    assert len(answers(port, 20)) == 1


def test_priorities_and_localities(proxy, upstream, place):
    near, far, last = upstream("near"), upstream("far"), upstream("last")
    path = place / "endpoints.yaml"

    def publish(*names):
        known = {"near": {"address": near.address, "locality": "a"}, "far": {"address": far.address, "locality": "b"},
                 "last": {"address": last.address, "locality": "a", "priority": 1}}
        replace(path, [known[name] for name in names])

    publish("near", "far", "last")
    process = proxy({"file": str(path), "locality": "a", "balance": "random"})
    wait_addresses(process, near.address, far.address, last.address)
    assert set(answers(process.port, 20)) == {"near"}
    publish("far", "last")
    wait_addresses(process, far.address, last.address)
    assert set(answers(process.port, 20)) == {"far"}
    publish("last")
    wait_addresses(process, last.address)
    assert set(answers(process.port, 5)) == {"last"}


def test_health_checks_move_traffic_to_the_next_priority(proxy, upstream):
    first, second = upstream("first"), upstream("second")
    process = proxy({
        "endpoints": [{"address": first.address}, {"address": second.address, "priority": 1}],
        "health": {"http": "/", "interval": "100ms", "timeout": "2s", "unhealthy": 1, "healthy": 1}})
    wait_until(lambda: set(answers(process.port, 5)) == {"first"}, "the first priority")
    first.end()
    wait_until(lambda: cluster_of(process)["endpoints"][0]["state"] == "unhealthy", "the check to fail")
    assert set(answers(process.port, 10)) == {"second"}
    assert metric(process, "outrider_upstream_endpoints", cluster="up", state="unavailable") == 1


def test_peak_ewma_keeps_off_the_slow_endpoint(proxy, upstream):
    fast, slow = upstream("fast"), upstream("slow")
    slow.delay = 0.3
    process = proxy({"endpoints": [fast.address, slow.address], "balance": "peak_ewma"}, threads=1)
    seen = answers(process.port, 60)
    assert seen["fast"] >= 57, seen
