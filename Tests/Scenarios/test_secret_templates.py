"""Templates in Vault Agent's form: the same text as `bao agent` of the same package makes of them."""

import json
import os
import stat
import subprocess

import pytest

import rig
from rig import wait_until

# A case for each row of the porting table in docs/secrets.md, by the beginning of the row: templates that are moved over
# unchanged, or what is done with the row.
SAME = {
    "`{{ with secret": [
        '{{ with secret "secret/data/shop/db" }}\nDB_USER={{ .Data.data.user }}\nDB_PASSWORD={{ .Data.data.password }}\n{{ end }}\n'],
    "`.Data.data.x`": [
        '{{ with secret "secret/data/shop/db" }}{{ .Data.data.user }}{{ end }}',
        '{{ with secret "old/shop/db" }}{{ .Data.user }}{{ end }}'],
    "`.Data.metadata.version`": ['{{ with secret "secret/data/shop/db" }}{{ .Data.metadata.version }}{{ end }}'],
    "`range`": [
        '{{- with secret "secret/data/shop/db" -}}\nurl=postgres://{{ .Data.data.user }}@db\n{{- end }}\n',
        '{{ with secret "secret/data/shop/db" }}{{ range $k, $v := .Data.data }}{{ $k }}={{ $v | toJSON }}\n{{ end }}{{ end }}',
        '{{ range split "," "" }}[{{ . }}]{{ else }}none{{ end }}{{ range $i, $v := split "," "a,b" }}{{ $i }}{{ $v }}{{ end }}',
        '{{ with secret "secret/data/shop/db" }}{{ if .Data.data.none }}some{{ else if eq .Data.data.user "shop" }}shop'
        '{{ else }}other{{ end }}{{ end }}{{ with env "NO_SUCH_NAME" }}a{{ else }}b{{ end }}',
        '{{ $host := "db" }}{{ $x := "a" }}{{ if true }}{{ $x = "b" }}{{ end }}{{ with $s := secret "secret/data/shop/db" }}'
        '{{ $host }}:{{ $s.Data.data.user }}{{ $x }}{{ end }}{{/* nothing */}}'],
    "`base64Decode`": [
        '{{ with secret "secret/data/shop/db" }}{{ .Data.data.encoded | base64Decode }} {{ base64Encode .Data.data.user }}'
        '\n{{ .Data.data.pem | indent 4 }}|{{ .Data.data.padded | trimSpace }}|{{ .Data.data.list | split "," | join "+" }}'
        '{{ range .Data.data.list | split "," }}<{{ . }}>{{ end }}{{ env "TEMPLATE_TEST" }}{{ end }}',
        '{{ with secret "secret/data/shop/db" }}{{ .Data.data | toJSON }}{{ .Data.data.list | split "," | toJSON }}{{ end }}'],
    "`index`": [
        '{{ with secret "secret/data/shop/db" }}{{ index .Data.data "my-key" }}{{ index (split "," "a,b") 1 }}'
        '{{ if and .Data.data.user (not .Data.data.none) }}!{{ end }}{{ or "" "y" }}{{ ne 1 2 }}{{ eq "a" "a" }}{{ end }}'],
}
REFUSED = {
    "`secrets \"…\"`": [
        '{{ secrets "secret/" }}', '{{ key "a" }}', '{{ service "a" }}', '{{ file "/etc/passwd" }}', '{{ printf "%s" "a" }}',
        '{{ timestamp }}', '{{ define "a" }}{{ end }}', '{{ template "a" }}', '{{ sha256Hex "a" }}'],
    "`secret` with a path that is computed": ['{{ with secret (env "X") }}{{ end }}', '{{ env "X" | secret }}'],
}
# Rows with tests of their own below.
OTHERS = ["`{{ with pkiCert", "a field that is not there", "`error_on_missing_key`", "`destination`", "`command`",
          "`left_delimiter`"]
DATA = {"user": "shop", "password": "p<w>&\"d", "encoded": "aHVudGVyMg==", "pem": "one\n\ntwo", "padded": " \tx\n",
        "list": "a,b,c", "my-key": "dashed"}


def test_every_row_of_the_porting_table_has_a_case():
    text = (rig.ROOT / "docs" / "secrets.md").read_text()
    table = text[text.index("| Vault Agent | Here |"):].split("\n\n")[0]
    rows = [line[2:] for line in table.splitlines()[2:]]
    cases = [*SAME, *REFUSED, *OTHERS]
    for row in rows:
        assert sum(row.startswith(case) for case in cases) == 1, row
    assert len(rows) == len(cases)


def store(place, bao):
    (place / "token").write_text("root")
    return {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}}


def agent(place, bao, stanzas, env=None):
    (place / "agent.hcl").write_text(
        f'exit_after_auth = true\nvault {{ address = "{bao.address}" }}\n'
        f'auto_auth {{ method "token_file" {{ config = {{ token_file_path = "{place}/token" }} }} }}\n{stanzas}')
    return subprocess.run(
        [rig.tool("bao"), "agent", f"-config={place}/agent.hcl"], capture_output=True, text=True, timeout=rig.DEADLINE,
        env={**os.environ, **(env or {}), "HOME": str(place)})


def test_templates_render_as_bao_agent_renders_them(place, bao):
    bao.api("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    bao.api("POST", "secret/data/shop/db", {"data": DATA})
    wait_until(lambda: rig.request(
        bao.port, "/v1/old/shop/db", "POST", json.dumps(DATA), {"X-Vault-Token": "root"}).status < 300, "the mount")
    files, stanzas = [], ""
    texts = [text for row in SAME.values() for text in row]
    for number, text in enumerate(texts):
        (place / f"{number}.ctmpl").write_text(text)
        files.append({"path": str(place / f"{number}.ours"), "template_file": str(place / f"{number}.ctmpl"), "mode": "0640"})
        stanzas += f'template {{ source = "{place}/{number}.ctmpl" destination = "{place}/{number}.theirs" perms = "0640" }}\n'
    config = place / "outrider.yaml"
    config.write_text(json.dumps({"secrets": {"stores": store(place, bao), "files": files}}))
    environment = {"TEMPLATE_TEST": "from the environment"}
    ours = rig.run("run", "--once", "--config", config, env=environment)
    assert ours.returncode == 0, ours.stderr
    theirs = agent(place, bao, stanzas, environment)
    assert theirs.returncode == 0, theirs.stdout + theirs.stderr
    for number, text in enumerate(texts):
        mine, other = place / f"{number}.ours", place / f"{number}.theirs"
        assert mine.read_bytes() == other.read_bytes(), text
        assert stat.S_IMODE(mine.stat().st_mode) == stat.S_IMODE(other.stat().st_mode) == 0o640


@pytest.mark.parametrize("template", [text for row in REFUSED.values() for text in row])
def test_what_is_not_in_the_subset_is_refused(place, template):
    config = place / "outrider.yaml"
    config.write_text(json.dumps({"secrets": {
        "stores": {"vault": {"address": "http://127.0.0.1:1", "auth": {"token_file": "t"}}},
        "files": [{"path": "/run/x", "template": template}]}}))
    result = rig.run("validate", "--config", config)
    assert result.returncode == 78 and "  | " in result.stderr + result.stdout, result.stderr


def test_certificates_are_issued_once_for_every_template_that_asks_alike(place, bao):
    bao.api("POST", "sys/mounts/pki", {"type": "pki"})
    bao.api("POST", "pki/root/generate/internal", {"common_name": "root", "ttl": "700h", "key_type": "ec"})
    bao.api("POST", "pki/roles/web", {"allow_any_name": True, "key_type": "ec", "ttl": "2h"})
    config, names = place / "outrider.yaml", ("Cert", "Key", "CA")
    files = [{"path": str(place / name), "set": "web",
              "template": f'{{{{ with pkiCert "pki/issue/web" "common_name=web.test" }}}}{{{{ .{name} }}}}{{{{ end }}}}'}
             for name in names]
    files.append({"path": str(place / "by-secret"),
                  "template": '{{ with secret "pki/issue/web" "common_name=web.test" }}{{ .Data.certificate }}{{ end }}'})
    config.write_text(json.dumps({"secrets": {"stores": store(place, bao), "files": files}}))
    result = rig.run("run", "--once", "--config", config)
    assert result.returncode == 0, result.stderr
    assert (place / "Cert").read_text() == (place / "by-secret").read_text()
    assert "BEGIN CERTIFICATE" in (place / "CA").read_text() and "PRIVATE KEY" in (place / "Key").read_text()

    def openssl(*arguments):
        return subprocess.run([rig.tool("openssl"), *map(str, arguments)], check=True, capture_output=True).stdout

    assert openssl("x509", "-in", place / "Cert", "-noout", "-pubkey") == openssl("pkey", "-in", place / "Key", "-pubout")


def test_other_delimiters_are_text(place):
    config = place / "outrider.yaml"
    config.write_text(json.dumps({"secrets": {
        "stores": {"env": {}}, "values": {"x": {"key": "TEMPLATE_TEST"}},
        "files": [{"path": str(place / "x"), "template": "[[ a ]] ${secrets.x.value}"}]}}))
    assert rig.run("run", "--once", "--config", config, env={"TEMPLATE_TEST": "b"}).returncode == 0
    assert (place / "x").read_text() == "[[ a ]] b"


def test_a_command_follows_changes_and_not_the_first_content(start, place, bao):
    bao.api("POST", "secret/data/db", {"data": {"x": "one"}})
    marks, target = place / "marks", place / "x"
    process = start({"secrets": {"stores": store(place, bao), "values": {"db": {"kv": "secret/db", "refresh": "1s"}}, "files": [
        {"path": str(target), "template": '{{ with secret "secret/data/db" }}{{ .Data.data.x }}{{ end }}',
         "on_change": {"exec": ["sh", "-c", f"echo ran >> {marks}"]}}]}}, ["sleep", "600"]).wait_ready()
    assert target.read_text() == "one" and not marks.exists()
    bao.api("POST", "secret/data/db", {"data": {"x": "two"}})
    wait_until(lambda: marks.exists() and marks.read_text() == "ran\n" and target.read_text() == "two", "the command")
    process.stop()


def test_a_template_follows_a_rotation(start, place, bao):
    """Nobody declared the secret: the template asks for it by its path."""
    bao.api("POST", "secret/data/shop/db", {"data": {"password": "first-value-1"}})
    (place / "token").write_text("root")
    target = place / "db.conf"
    process = start(
        {"secrets": {"stores": {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}},
                     "values": {"other": {"kv": "secret/shop/db", "refresh": "1s"}},
                     "files": [{"path": str(target),
                                "template": '{{ with secret "secret/data/shop/db" }}p={{ .Data.data.password }}{{ end }}'}]}},
        ["sleep", "600"]).wait_ready()
    assert target.read_text() == "p=first-value-1"
    bao.api("POST", "secret/data/shop/db", {"data": {"password": "second-value-2"}})
    wait_until(lambda: target.read_text() == "p=second-value-2", "the rotation")
    process.stop()


@pytest.mark.parametrize("template, place_of_it, line, caret", [
    ('a\n {{ printf "%s" "x" }}', "2:5", ' {{ printf "%s" "x" }}', "    ^"),
    ('{{ with secret "secret/data/db" }}', "1:1", '{{ with secret "secret/data/db" }}', "^"),
])
def test_what_is_outside_the_subset_is_refused_with_its_place(place, template, place_of_it, line, caret):
    config = place / "outrider.yaml"
    (place / "x.ctmpl").write_text(template)
    config.write_text(json.dumps({"secrets": {
        "stores": {"vault": {"address": "http://127.0.0.1:1", "auth": {"token_file": "t"}}},
        "files": [{"path": "/run/x", "template_file": "x.ctmpl"}]}}))
    result = rig.run("validate", "--config", config)
    text = result.stderr + result.stdout
    assert result.returncode == 78 and f"x.ctmpl:{place_of_it}: error:" in text, text
    assert f"  | {line}\n  | {caret}\n" in text, text


@pytest.mark.parametrize("style", ["block", "quoted"])
def test_a_template_in_the_configuration_is_pointed_at_there(place, style):
    config = place / "outrider.yaml"
    text = 'template: |\n        a\n        b {{ frob 1 }}\n' if style == "block" else "template: 'b {{ frob 1 }}'\n"
    config.write_text("secrets:\n  stores: { env: }\n  values: { db: {} }\n  files:\n    - path: /run/x\n      " + text)
    result = rig.run("validate", "--config", config)
    place_of_it = "8:14" if style == "block" else "6:23"
    assert result.returncode == 78 and f"outrider.yaml:{place_of_it}: error:" in result.stderr + result.stdout


def test_a_missing_field_is_an_error_and_never_no_value(place, bao):
    bao.api("POST", "secret/data/shop/db", {"data": {"user": "u"}})
    (place / "token").write_text("root")
    config = place / "outrider.yaml"
    config.write_text(json.dumps({"secrets": {
        "stores": {"vault": {"address": bao.address, "auth": {"token_file": str(place / "token")}}},
        "files": [{"path": str(place / "x"),
                   "template": '{{ with secret "secret/data/shop/db" }}{{ .Data.data.password }}{{ end }}'}]}}))
    result = rig.run("run", "--once", "--config", config)
    assert result.returncode == 78 and "no field `password`" in result.stderr and "line 1, column" in result.stderr
    assert not (place / "x").exists()
    stanza = f'template {{ contents = "{{{{ with secret \\"secret/data/shop/db\\" }}}}{{{{ .Data.data.password }}}}{{{{ end }}}}" destination = "{place}/y" }}'
    assert agent(place, bao, stanza).returncode == 0
    assert (place / "y").read_text() == "<no value>", "what bao agent makes of it"
