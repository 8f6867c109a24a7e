"""Certificate authorities and certificates, made with the `openssl` command."""

import subprocess

import rig


class Authority:
    """A root, and what it signs, in files of one directory."""

    def __init__(self, directory, name="shop root"):
        self.directory, self.name = directory, name
        directory.mkdir(exist_ok=True)
        self.file = directory / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-keyout", "ca.key", "-out", "ca.pem", "-subj", f"/CN={name}", "-days", "10",
                      "-addext", "keyUsage=critical,keyCertSign")

    def _openssl(self, *arguments):
        result = subprocess.run([rig.tool("openssl"), *arguments], cwd=self.directory, capture_output=True, text=True)
        assert result.returncode == 0, f"openssl {' '.join(arguments)}: {result.stderr}"

    def issue(self, name, names, days=2):
        """(certificate, key) as paths; `names` is as openssl's subjectAltName has it."""
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-out", f"{name}.pem", "-days", str(days), "-extfile", f"{name}.ext")
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"
