"""The manual page says what the binary does, and man can show it."""

import shutil
import subprocess
import sys

import rig


def test_the_manual_page_is_current():
    result = subprocess.run(
        [sys.executable, rig.ROOT / "dev" / "man.py", rig.binary(), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    page = (rig.ROOT / "docs" / "man" / "outrider.1").read_text()
    for command in ("run", "doctor", "top", "init", "bypass", "secrets status"):
        assert f".SS outrider {command}\n" in page
    assert "worker" not in [line.split()[-1] for line in page.splitlines() if line.startswith(".SS")]
    groff = shutil.which("groff") or shutil.which("man")
    if groff:
        command = [groff, "-man", "-Tutf8", "-ww"] if groff.endswith("groff") else [groff, "--warnings", "-l"]
        shown = subprocess.run([*command, rig.ROOT / "docs" / "man" / "outrider.1"], capture_output=True, text=True)
        assert shown.returncode == 0 and not shown.stderr, shown.stderr
