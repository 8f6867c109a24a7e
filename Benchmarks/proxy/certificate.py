"""The certificate of the TLS rows: ECDSA P-256, signed by itself, made anew for every run."""

import collections
import subprocess
import sys

from server import command

# Paths: of certificate and key apart, and of one file with both.
Certificate = collections.namedtuple("Certificate", "certificate key both")


def make(directory):
    made = Certificate(*(directory / name for name in ("server.pem", "server.key", "both.pem")))
    result = subprocess.run(
        [command("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(made.key), "-out", str(made.certificate)],
        capture_output=True, text=True, timeout=60)
    if result.returncode:
        sys.exit(f"openssl could not make a certificate:\n{result.stderr}")
    made.both.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    return made
