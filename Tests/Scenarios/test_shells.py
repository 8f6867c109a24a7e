"""Completions by the shells themselves, and the manual page by its formatter."""

import subprocess

import pytest

import rig


def completions(shell):
    result = rig.run("completions", shell)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", [["bash", "-n"], ["zsh", "-n"], ["fish", "--no-execute"]])
def test_the_shell_reads_its_completions(place, command):
    script = place / "completions"
    script.write_text(completions(command[0]))
    result = subprocess.run([rig.tool(command[0]), *command[1:], script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_bash_completes_commands(place):
    (place / "completions").write_text(completions("bash"))
    ask = f"source {place}/completions; COMP_WORDS=(outrider rel); COMP_CWORD=1; _outrider; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    result = subprocess.run([rig.tool("bash"), "-c", ask], capture_output=True, text=True)
    assert "reload" in result.stdout.split(), result.stderr


def test_fish_completes_commands(place):
    (place / "completions.fish").write_text(completions("fish"))
    ask = f"source {place}/completions.fish; complete --do-complete 'outrider rel'"
    result = subprocess.run([rig.tool("fish"), "--no-config", "-c", ask], capture_output=True, text=True)
    assert result.stdout.startswith("reload"), result.stderr
