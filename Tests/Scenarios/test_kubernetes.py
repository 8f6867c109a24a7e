"""Kubernetes: what is shipped is valid, `outrider inject` rewrites manifests, and the webhook answers the API server."""

import base64
import copy
import json
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest
import yaml

import rig
from rig import wait_until

KUBERNETES = rig.ROOT / "deploy" / "kubernetes"
CHART = rig.ROOT / "deploy" / "helm" / "outrider-injector"
REVIEWS = rig.ROOT / "Tests" / "Scenarios" / "reviews"


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def validate(place, text, name="manifest.yaml"):
    """kubernetes-validate --strict: a key that the API does not know is an error."""
    path = place / name
    path.write_text(text)
    result = subprocess.run(
        [rig.tool("kubernetes-validate"), "--strict", "--no-warn", path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def inject(text, *arguments):
    result = rig.run("inject", "-f", "-", *arguments, stdin=text)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("folder", ["base", "injector"])
def test_the_kustomize_bases_are_valid(place, folder):
    directory = KUBERNETES / folder
    base = yaml.safe_load((directory / "kustomization.yaml").read_text())
    files = {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(base["resources"]) == files, "each file is a resource, and each resource is there"
    for name in files:
        validate(place, (directory / name).read_text())
    kubectl = shutil.which("kubectl")
    if kubectl:  # where it is installed, it builds the base as a user would
        result = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        validate(place, result.stdout)


def test_the_check_finds_mistakes(place):
    text = (KUBERNETES / "base" / "deployment.yaml").read_text()
    with pytest.raises(AssertionError, match="replica"):
        validate(place, text.replace("replicas:", "replicass:"))


def test_the_base_has_the_sidecar_that_inject_makes(place):
    text = (KUBERNETES / "base" / "deployment.yaml").read_text()
    assert inject(text) == text, "make it anew: outrider inject --in-place -f deploy/kubernetes/base/deployment.yaml"
    spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    sidecar = spec["initContainers"][0]
    assert sidecar["restartPolicy"] == "Always" and "lifecycle" not in sidecar
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= sidecar.keys()
    # What its probes run, the binary knows; without a sidecar they fail.
    for probe in ("startupProbe", "livenessProbe"):
        command = sidecar[probe]["exec"]["command"]
        state = command.index("--state") + 1
        assert rig.run(*command[1:state], place / "none", *command[state + 1:]).returncode == 75
    # The configuration in the ConfigMap is a good one.
    config = documents((KUBERNETES / "base" / "configuration.yaml").read_text())[0]["data"]["outrider.yaml"]
    (place / "outrider.yaml").write_text(config)
    result = rig.run("validate", "--config", place / "outrider.yaml")
    assert result.returncode == 0, result.stderr


DEPLOYMENT = """\
# The shop, and what belongs to it.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata:
      labels: {app: shop}   # by which the service finds it
    spec:
      containers:
      - name: app
        image: "shop:1"   # pinned
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: job}]}}}}
"""


def test_inject_and_back(place):
    injected = inject(DEPLOYMENT, "--logs", "/var/log/shop", "--image", "registry/outrider:9")
    validate(place, injected)
    lines = iter(injected.splitlines())
    assert all(line in lines for line in DEPLOYMENT.splitlines()[:-1]), "every line is there, in its order"
    deployment, service, cron = documents(injected)
    assert service == documents(DEPLOYMENT)[1]
    for spec in (deployment["spec"]["template"]["spec"], cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]):
        assert spec["initContainers"][0]["image"] == "registry/outrider:9"
        assert {m["mountPath"] for m in spec["containers"][0]["volumeMounts"]} == {"/run/outrider", "/var/log/shop"}
    assert inject(injected, "--logs", "/var/log/shop", "--image", "registry/outrider:9") == injected
    assert inject(injected, "--uninject") == DEPLOYMENT


def test_inject_in_place_and_its_errors(place):
    path = place / "deployment.yaml"
    path.write_text(DEPLOYMENT)
    path.chmod(0o640)
    result = rig.run("inject", "--in-place", "-f", path)
    assert result.returncode == 0 and result.stdout == ""
    assert "Deployment/shop got the sidecar" in result.stderr and "CronJob/nightly got the sidecar" in result.stderr
    assert path.stat().st_mode & 0o777 == 0o640 and [p.name for p in place.glob("deployment*")] == [path.name]
    assert rig.run("inject", "--in-place", "--uninject", "-f", path).returncode == 0
    assert path.read_text() == DEPLOYMENT
    assert rig.run("inject", "-f", place / "nothing.yaml").returncode == 66
    assert rig.run("inject", "--in-place").returncode == 64
    path.write_text(DEPLOYMENT.replace("name: app", "name: outrider"))
    result = rig.run("inject", "-f", path)
    assert result.returncode == 65 and "Deployment/shop: a container named `outrider`" in result.stderr


def test_the_chart_renders_valid_manifests(place):
    import helm_python as helm

    findings = helm.lint(str(CHART))
    assert not [m for m in findings["messages"] if m["severity"] >= 2], findings
    with helm.Chart.load(str(CHART)) as chart:
        for number, values in enumerate((
                {}, {"tls": {"existingSecret": "mine", "caBundle": "Y2E="}, "failurePolicy": "Fail", "replicas": 3,
                     "sidecar": {"logs": "/var/log/app"}, "podAnnotations": {"a": "b"}, "nodeSelector": {"x": "y"},
                     "imagePullSecrets": [{"name": "pull"}],
                     "tolerations": [{"key": "k", "operator": "Exists"}]})):
            rendered = {name: text for name, text in chart.render(values, name="injector", namespace="outrider").items()
                        if name.endswith(".yaml")}
            whole = "\n---\n".join(rendered.values())
            validate(place, whole, f"chart-{number}.yaml")
            kinds = {document["kind"]: document for document in documents(whole)}
            hook = kinds["MutatingWebhookConfiguration"]["webhooks"][0]
            assert hook["clientConfig"]["caBundle"]
            assert hook["failurePolicy"] == values.get("failurePolicy", "Ignore")
            assert hook["clientConfig"]["service"]["name"] == kinds["Service"]["metadata"]["name"]
            container = kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]
            # Its options are such that the binary takes: it gets as far as the files that are not there.
            result = rig.run(*container["args"])
            assert result.returncode == 1 and "cannot serve" in result.stderr, result.stderr
            if not values:
                secret = kinds["Secret"]["data"]
                for name in ("ca.crt", "tls.crt"):
                    (place / name).write_bytes(base64.b64decode(secret[name]))
                verified = subprocess.run(
                    [rig.tool("openssl"), "verify", "-verify_hostname", "injector.outrider.svc", "-CAfile",
                     place / "ca.crt", place / "tls.crt"], capture_output=True, text=True)
                assert verified.returncode == 0, verified.stderr
        with pytest.raises(helm.HelmError):
            chart.validate_schema({"failurePolicy": "Perhaps"})


# ---- the webhook


@pytest.fixture
def webhook(place, ending, certificates):
    """webhook(options) serves; asks with ask(path, body)."""
    authority = certificates("injector")

    def starter(*options):
        port = rig.free_port()
        process = rig.Process(
            [rig.binary(), "injector", "--listen", f"127.0.0.1:{port}", "--certificate", place / "injector.pem", "--key",
             place / "injector.key", "--image", "outrider:test", *options], place, "injector")
        ending.append(process)
        wait_until(lambda: "serves at" in process.stderr or not process.is_running, "the webhook to serve")
        context = ssl.create_default_context(cafile=str(authority))

        def ask(path, body=None, method=None):
            request = urllib.request.Request(f"https://localhost:{port}{path}", data=body, method=method)
            try:
                with urllib.request.urlopen(request, timeout=rig.DEADLINE, context=context) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        process.ask, process.port, process.context = ask, port, context
        return process

    return starter


def recorded(name):
    return json.loads((REVIEWS / f"{name}.json").read_text())


def patched(review, answer):
    """The object after the answer's patch (RFC 6902), by a small reading of it that knows `add` and `remove`."""
    result = copy.deepcopy(review["request"]["object"])
    for step in json.loads(base64.b64decode(answer["response"]["patch"], validate=True)):
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        place = result
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if step["op"] == "remove":
            del place[int(last) if isinstance(place, list) else last]
        elif isinstance(place, list):
            assert int(last) <= len(place)
            place.insert(int(last), step["value"])
        else:
            place[last] = step["value"]
    return result


@pytest.mark.parametrize("name", ["pod-of-a-deployment", "bare-pod"])
def test_recorded_reviews_get_a_valid_pod(webhook, place, name):
    server, review = webhook(), recorded(name)
    status, body = server.ask("/mutate?timeout=5s", json.dumps(review).encode())
    answer = json.loads(body)
    assert status == 200 and answer["apiVersion"] == "admission.k8s.io/v1" and answer["kind"] == "AdmissionReview"
    assert answer["response"]["uid"] == review["request"]["uid"] and answer["response"]["allowed"] is True
    assert answer["response"]["patchType"] == "JSONPatch"
    pod = patched(review, answer)
    pod["metadata"].setdefault("name", "given-by-the-server")
    validate(place, yaml.safe_dump(pod))
    # The same core as of `outrider inject`: the same pod.
    by_command = documents(inject(yaml.safe_dump(review["request"]["object"]), "--image", "outrider:test"))[0]
    by_command["metadata"].setdefault("name", "given-by-the-server")
    assert by_command == pod
    # Asked again with its own result, it has nothing to do.
    review["request"]["object"] = pod
    assert "patch" not in json.loads(server.ask("/mutate", json.dumps(review).encode())[1])["response"]


def test_who_is_left_alone(webhook):
    server = webhook("--namespace", "shop", "--label", "tier=web")

    def answer(change):
        review = recorded("pod-of-a-deployment")
        review["request"]["namespace"] = "shop"
        review["request"]["object"]["metadata"].setdefault("labels", {})["tier"] = "web"
        change(review["request"])
        status, body = server.ask("/mutate", json.dumps(review).encode())
        assert status == 200
        response = json.loads(body)["response"]
        assert response["allowed"] is True
        return response

    assert "patch" in answer(lambda request: None)
    assert "patch" not in answer(lambda request: request.update(namespace="other"))
    assert "patch" not in answer(lambda request: request["object"]["metadata"]["labels"].update(tier="db"))
    assert "patch" not in answer(lambda request: request.update(operation="UPDATE"))
    assert "patch" not in answer(lambda request: request["object"]["spec"].update(hostNetwork=True))
    assert "patch" not in answer(
        lambda request: request["object"]["metadata"].update(annotations={"outrider.dev/inject": "false"}))
    clash = answer(lambda request: request["object"]["spec"]["containers"].append({"name": "outrider", "image": "x"}))
    assert "patch" not in clash and "did not make" in clash["warnings"][0]
    status, body = server.ask("/metrics")
    assert status == 200
    assert b'reviews_total{result="injected"} 1\n' in body and b'reviews_total{result="unchanged"} 6\n' in body


def test_what_is_no_review_is_refused(webhook):
    server = webhook()
    for body in (b"", b"{", b"[]", b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}',
                 b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}', b"[" * 100000):
        status, text = server.ask("/mutate", body, "POST")
        assert status == 400 and text
    assert server.ask("/mutate")[0] == 405
    assert server.ask("/elsewhere")[0] == 404
    assert server.ask("/mutate", b" " * (9 << 20))[0] == 413
    assert server.ask("/readyz")[0] == 200
    assert server.stop() == 0


def test_a_renewed_certificate_is_taken(webhook, place, certificates):
    server = webhook()

    def serial():
        import socket

        with socket.create_connection(("127.0.0.1", server.port), timeout=rig.DEADLINE) as raw:
            context = ssl.create_default_context(cafile=str(place / "ca.pem"))
            with context.wrap_socket(raw, server_hostname="localhost") as connection:
                return connection.getpeercert()["serialNumber"]

    first = serial()
    key, good = (place / "injector.key").read_bytes(), (place / "injector.pem").read_bytes()
    (place / "injector.key").write_text("not a key")
    assert serial() == first, "the last good one stays"
    assert "cannot be used" in server.stderr
    certificates("other")
    (place / "injector.key").write_bytes((place / "other.key").read_bytes())
    (place / "injector.pem").write_bytes((place / "other.pem").read_bytes())
    assert serial() != first
    assert good and key and "has changed and is in use" in server.stderr


def test_files_that_cannot_be_used(place):
    result = rig.run("injector", "--certificate", place / "none.pem", "--key", place / "none.key", "--listen", "127.0.0.1:0")
    assert result.returncode == 1 and "cannot serve at" in result.stderr and "none.pem" in result.stderr
