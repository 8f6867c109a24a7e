"""The images of deploy/docker, built and run by podman, buildah and runc: an app and its sidecar in one pod."""

import json
import shutil
import subprocess
import threading

import pytest

import containers
import rig
from rig import wait_until

DOCKER = rig.ROOT / "deploy" / "docker"

# The app: a web server and a writer of log lines, from one static program and a shell script.
APP = """\
#!/bin/busybox sh
echo "secret $(/bin/busybox cat /run/outrider/db)"
/bin/busybox mkdir -p /www
echo served > /www/index.html
/bin/busybox httpd -p 127.0.0.1:8080 -h /www
i=0
while true; do
  echo "line-$i- of the app, password $(/bin/busybox cat /run/outrider/db)" >> /var/log/app/app.log
  i=$((i + 1))
  /bin/busybox usleep 5000
done
"""
CONFIG = {
    "state": "/var/lib/outrider",
    "app": {"port": 8080},
    "inbound": {"web": {"listen": ":8443"}},
    "logs": {"sources": {"app": {"files": ["/var/log/app/*.log"], "start": "beginning"}}},
    "secrets": {
        "stores": {"mounted": {"file": {"directory": "/etc/outrider/secrets"}}},
        "values": {"db": {"key": "db"}},
        "files": [{"path": "/run/outrider/db", "value": "${secrets.db.value}", "mode": "0444"}],
    },
}


@pytest.fixture
def engine(place):
    reason = containers.obstacle()
    if reason:
        pytest.skip(reason)
    engine = containers.Containers(place)
    yield engine
    engine.end()


def build_images(engine, place):
    image = place / "image"
    subprocess.run([DOCKER / "root.sh", rig.binary(), image / "root"], check=True, capture_output=True)
    shutil.copy(DOCKER / "Containerfile.glibc", image)
    engine.build("outrider", image, "Containerfile.glibc")
    app = place / "app-image"
    app.mkdir()
    shutil.copy(rig.tool("busybox"), app / "busybox")
    (app / "app").write_text(APP)
    (app / "app").chmod(0o755)
    # The app's image brings the same binary for `outrider wait`: here by a layer on the sidecar's.
    (app / "Containerfile").write_text(
        "FROM localhost/outrider\nUSER 0:0\nCOPY busybox /bin/busybox\nCOPY app /bin/app\n"
        'ENTRYPOINT ["/outrider", "wait", "--timeout", "60s", "--", "/bin/app"]\nCMD []\n')
    engine.build("app", app)


def pod_file(engine, name, path):
    return engine.command("podman", "exec", "app", "/bin/busybox", "cat", path, check=False).stdout


def ask(engine, port):
    """A request from inside of the pod's network, which only its containers share."""
    result = engine.command(
        "podman", "exec", "app", "/bin/busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:{port}/", check=False)
    return result.stdout.strip()


def start_sidecar(engine, place, name):
    engine.podman(
        "run", "--detach", "--pod", "shop", "--name", name, "--read-only", "--cap-drop", "all",
        "--security-opt", "no-new-privileges", "--stop-timeout", "70",
        "--volume", f"{place}/etc:/etc/outrider:ro", "--volume", "state:/var/lib/outrider",
        "--volume", "run:/run/outrider", "--volume", "logs:/var/log/app:ro", "localhost/outrider")


def sidecar_logs(engine, name):
    result = engine.command(
        "podman", "exec", name, "/outrider", "logs", "--state", "/var/lib/outrider", "--source", "app",
        "--output", "json", check=False)
    return result.stdout.splitlines()


def test_a_pod_of_app_and_sidecar(engine, place):
    build_images(engine, place)
    secrets = place / "etc" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "db").write_text("open-sesame-9")
    (place / "etc" / "outrider.yaml").write_text(json.dumps(CONFIG))
    for path in (place, place / "etc", secrets):
        path.chmod(0o755)

    engine.podman("volume", "create", "logs")
    for name, options in (("state", "mode=0750,uid=65532"), ("run", "mode=0755,uid=65532")):
        engine.podman("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o={options}", name)
    engine.podman("pod", "create", "--name", "shop", "--network", "none")
    engine.pods.append("shop")
    # The app comes first, and waits.
    engine.podman("run", "--detach", "--pod", "shop", "--name", "app", "--volume", "run:/run/outrider:ro",
                  "--volume", "logs:/var/log/app", "localhost/app")
    app = engine.pid("app")
    wait_until(lambda: "waiting for" in engine.logs("app"), "the app to wait for its sidecar")
    assert "secret" not in engine.logs("app")
    start_sidecar(engine, place, "sidecar-1")
    try:
        wait_until(lambda: "secret open-sesame-9" in engine.logs("app"), "the app to start with its secret")
    except AssertionError as error:
        raise AssertionError(f"{error}\napp: {engine.logs('app')}\nsidecar: {engine.logs('sidecar-1')}") from None
    assert engine.pid("app") == app, "the app took the place of the wait"
    wait_until(lambda: ask(engine, 8443) == "served", "an answer through the sidecar")

    # It is what the image promises: no root, nothing writable but its volumes.
    facts = engine.inspect("sidecar-1")
    assert facts["Config"]["User"] == "65532:65532" and facts["HostConfig"]["ReadonlyRootfs"]
    status = open(f"/proc/{engine.pid('sidecar-1')}/status").read()
    assert "\nUid:\t65532\t65532" in status and "\nCapEff:\t0000000000000000" in status

    # Logs by file, without the secret in them.
    lines = wait_until(lambda: (lambda found: found if len(found) > 20 else None)(sidecar_logs(engine, "sidecar-1")),
                       "log records")
    assert "open-sesame-9" not in "".join(lines)

    # The sidecar is replaced; the app serves on its own port all the while and goes on writing.
    over, answers = threading.Event(), []

    def client():
        while not over.is_set():
            answers.append(ask(engine, 8080))

    thread = threading.Thread(target=client)
    thread.start()
    try:
        engine.podman("stop", "--time", "70", "sidecar-1")
        assert engine.inspect("sidecar-1")["State"]["ExitCode"] == 0, engine.logs("sidecar-1")
        before = len(answers)
        wait_until(lambda: len(answers) > before + 1, "answers without a sidecar")
        engine.podman("rm", "sidecar-1")
        start_sidecar(engine, place, "sidecar-2")
        wait_until(lambda: ask(engine, 8443) == "served", "an answer through the new sidecar")
    finally:
        over.set()
        thread.join(60)
    assert set(answers) == {"served"} and engine.pid("app") == app
    written = len(rig.numbers([pod_file(engine, "app", "/var/log/app/app.log")]))

    def arrived():
        found = rig.numbers(sidecar_logs(engine, "sidecar-2"))
        return found if found and max(found) >= written else None

    found = wait_until(arrived, "what the app wrote meanwhile")
    assert found == list(range(len(found))), "every line once, also those of the time without a sidecar"


def test_the_compose_file_and_the_image_agree(place):
    """What compose.yaml mounts and asks for is what the image and its configuration name."""
    import yaml

    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    sidecar, app = services["services"]["outrider"], services["services"]["app"]
    assert app["network_mode"] == "service:outrider" and sidecar["read_only"] and sidecar["user"] == "65532:65532"
    targets = {mount.split(":")[1] for mount in sidecar["volumes"]}
    assert {"/etc/outrider/outrider.yaml", "/var/lib/outrider", "/run/outrider", "/var/log/app"} == targets
    assert {mount.split(":")[0] for mount in sidecar["volumes"] + app["volumes"]} <= {"./outrider.yaml", *services["volumes"]}
    (place / "outrider.yaml").write_text((DOCKER / "outrider.yaml").read_text())
    result = rig.run("validate", "--config", place / "outrider.yaml")
    assert result.returncode == 0, result.stderr
    # Its probe is a command that the binary knows.
    probe = sidecar["healthcheck"]["test"]
    assert probe[:2] == ["CMD", "/outrider"]
    assert rig.run(*probe[2:-1], place / "nothing").returncode == 75
    for name in ("Containerfile", "Containerfile.glibc"):
        text = (DOCKER / name).read_text()
        assert "FROM scratch" in text and "USER 65532:65532" in text
