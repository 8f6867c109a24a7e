"""Configuration: what is wrong is said at once, with place and way out; reload keeps the last good."""

import json
import re
import signal
import socket

import pytest

import rig
from rig import wait_until

INVALID = {
    "invalid yaml": ("app: { port: 8080\ninbound: [", [r"outrider\.yaml:[0-9]+:[0-9]+"]),
    "unknown key": (
        "inbund:\n  web: { listen: ':8080' }\n", [r"outrider\.yaml:1:1", "inbund", "did you mean `inbound`"]),
    "unknown inner key": ("app:\n  comand: [x]\n", [r"outrider\.yaml:2:3", "comand", "did you mean `command`"]),
    "wrong unit": ("inbound:\n  web: { listen: ':8080', timeout: 15 parsecs }\n", [r":2:", "parsecs", "timeout"]),
    "wrong size unit": ("logs:\n  spool: { limit: 10 stones }\n", [r":2:", "stones"]),
    "bad address": ("admin: { listen: 'nowhere' }\n", [r":1:", "nowhere"]),
    "bad port": ("app: { port: 99999 }\n", [r":1:", "99999"]),
    "secret that nobody declared": ("app:\n  env: { A: '${secrets.db.password}' }\n", [r":2:", "db"]),
    "secret in a wrong place": (
        "secrets: { stores: { e: { env: {} } }, values: { a: { key: A } } }\napp: { port: '${secrets.a.b}' }\n",
        [r":2:", r"secrets\.a\.b"]),
    "unset variable": ("app: { working_directory: '${NO_SUCH_VARIABLE_HERE}' }\n", [r":1:", "NO_SUCH_VARIABLE_HERE"]),
    "cluster that is not there": ("outbound:\n  a: { listen: ':1', to: nowhere }\n", [r":2:", "nowhere"]),
    "value that secrets cannot find a store for": (
        "secrets: { values: { a: { from: nostore, kv: secret/a } } }\n", [r":1:", "nostore"]),
}


@pytest.fixture
def config_file(place):
    def write(text):
        path = place / "outrider.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("text, wanted", INVALID.values(), ids=INVALID.keys())
@pytest.mark.parametrize("command", ["validate", "run"])
def test_invalid_configuration_is_78_with_place_and_way_out(config_file, place, command, text, wanted):
    path = config_file(text)
    more = ["--state", place / "state", "--", "touch", place / "started"] if command == "run" else []
    result = rig.run(command, "--config", path, *more)
    assert result.returncode == 78, result.stderr
    for pattern in wanted:
        assert re.search(pattern, result.stderr), f"{pattern!r} is not in:\n{result.stderr}"
    assert not (place / "started").exists()


def test_every_error_at_once_with_a_caret(config_file):
    path = config_file("aap: {}\napp:\n  port: many\n  redy: { tcp: true }\nadmin: { listen: 7 7 }\n")
    result = rig.run("validate", "--config", path)
    assert result.returncode == 78
    for line in (1, 3, 4, 5):
        assert re.search(rf"outrider\.yaml:{line}:[0-9]+", result.stderr), result.stderr
    assert "^" in result.stderr


def test_a_file_that_is_not_there(place):
    result = rig.run("validate", "--config", place / "missing.yaml")
    assert result.returncode == 78 and "missing.yaml" in result.stderr


def test_valid_file(config_file):
    path = config_file('app: { command: [sleep, "60"], port: 8081 }\ninbound:\n  web: { listen: "127.0.0.1:8080" }\n')
    assert rig.run("validate", "--config", path).returncode == 0


def test_environment_expansion_with_default(config_file):
    path = config_file("app: { port: '${THE_PORT:-8081}' }\n")
    assert "8081" in rig.run("explain", "--config", path, "--output", "json").stdout
    assert "8099" in rig.run("explain", "--config", path, "--output", "json", env={"THE_PORT": "8099"}).stdout


def test_explain_shows_defaults_and_where_values_come_from(config_file):
    path = config_file("app: { port: 8080 }\ninbound:\n  web: { listen: ':8443', timeout: 3s }\n")
    text = rig.run("explain", "--config", path)
    assert text.returncode == 0, text.stderr
    assert "outrider.yaml:3" in text.stdout and "3s" in text.stdout and "default" in text.stdout
    assert json.loads(rig.run("explain", "--config", path, "--output", "json").stdout)


def test_schema_is_a_json_schema_of_the_contract():
    schema = json.loads(rig.run("schema").stdout)
    assert "$schema" in schema
    assert {"app", "inbound", "outbound", "logs", "secrets", "admin", "shutdown"} <= set(schema["properties"])


def test_port_in_use_is_named(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(
            {"outbound": {"payments": {"listen": f"127.0.0.1:{port}", "to": "http://127.0.0.1:9"}}}, ["sleep", "60"])
        assert process.wait() == 1
    assert str(port) in process.stderr and "payments" in process.stderr


def respond(text, port):
    return {"outbound": {"fixed": {
        "listen": f"127.0.0.1:{port}",
        "routes": [{"match": {"path": "/*"}, "respond": {"status": 200, "body": text}}]}}}


@pytest.mark.parametrize("way", ["signal", "command"])
def test_reload_applies_the_new_and_keeps_the_last_good(start, way):
    port, admin = rig.free_port(), {"admin": {"listen": f"127.0.0.1:{rig.free_port()}"}}
    process = start({**admin, **respond("one", port)}, ["sleep", "300"]).wait_ready()
    app = process.app()
    assert rig.request(port).text == "one"

    def reload():
        if way == "signal":
            process.send(signal.SIGHUP)
            return None
        return rig.run("reload", "--state", process.state)

    process.write_config({**admin, **respond("two", port)})
    result = reload()
    assert result is None or result.returncode == 0, result.stderr
    wait_until(lambda: rig.request(port).text == "two", "the new answer")

    process.write_config("outbound:\n  fixed: { lissen: ':1' }\n")
    result = reload()
    if result is not None:
        assert result.returncode != 0 and "lissen" in result.stderr
    wait_until(lambda: "lissen" in process.stderr, "the error in the log")
    assert rig.request(port).text == "two"

    process.write_config({**admin, **respond("three", port)})
    reload()
    wait_until(lambda: rig.request(port).text == "three", "the third answer")
    assert process.app() == app
    process.stop()
