#!/usr/bin/env python3
"""Writes docs/man/outrider.1 from what the binary says of its own commands.

    dev/man.py [BINARY]            writes the page
    dev/man.py [BINARY] --check    exit 1 when the page is not current
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "man" / "outrider.1"

FILES = """.SH FILES
.TP
.I outrider.yaml
The configuration, read from the working directory when \\fB\\-\\-config\\fR names no other. Every key:
.B outrider schema
and docs/configuration.md.
.TP
.I $XDG_STATE_HOME/outrider/APP
The state directory: spool, local log store, checkpoints and the control socket. As root /var/lib/outrider.
.SH EXIT STATUS
.B outrider run
ends with the app's own code; 128+N when signal N ended it; 126 and 127 when it cannot be started; 78 when the
configuration is invalid; 70 when no worker can be started; 1 when the sidecar cannot do its work.
Other commands end with 0 when done, 1 when not, 64 when the command line is wrong, 78 when the configuration is invalid.
.SH SIGNALS
TERM and INT stop in order, INT twice forces. HUP reloads the configuration and reaches an app that has a handler for it.
QUIT, USR1, USR2 and WINCH go to the app's process group.
.SH ENVIRONMENT
.TP
.B NO_COLOR
No colours in what is printed.
"""


def escaped(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ").replace("…", "...")
    text = "".join(c if c < "\x7f" else f"\\[u{ord(c):04X}]" for c in text)
    return re.sub(r"^([.'])", r"\\&\1", re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text))


def paragraphs(text):
    return [escaped(part.strip()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def name_of(argument):
    names = ["-" * (1 if n["kind"] == "short" else 2) + n["name"] for n in argument.get("names", [])]
    value = argument.get("valueName", "")
    if argument["kind"] == "positional":
        return f"<{value}>" + (" ..." if argument.get("isRepeating") else "")
    return ", ".join(names) + (f" <{value}>" if argument["kind"] == "option" else "")


def arguments(command):
    lines = []
    for argument in command.get("arguments", []):
        if not argument.get("shouldDisplay", True) or name_of(argument) in ("-h, --help", "--help", "--version"):
            continue
        text = argument.get("abstract", "")
        default = argument.get("defaultValue")
        if default and "default" not in text:
            text += f" (default: {default})"
        lines += [".TP", f"\\fB{escaped(name_of(argument))}\\fR", escaped(text)]
    return lines


def commands(command, path):
    lines = []
    for child in command.get("subcommands", []):
        name = child["commandName"]
        if name == "help" or not child.get("shouldDisplay", True):
            continue
        full = [*path, name]
        if not child.get("subcommands"):
            lines += [f".SS {escaped(' '.join(full))}", escaped(child.get("abstract", ""))]
            for part in paragraphs(child.get("discussion") or ""):
                lines += [".PP", part]
            lines += arguments(child)
        lines += commands(child, full)
    return lines


def page(binary):
    dump = json.loads(subprocess.run(
        [binary, "--experimental-dump-help"], check=True, capture_output=True, text=True).stdout)["command"]
    lines = [
        '.\\" Written by dev/man.py from the commands of the binary.',
        '.TH OUTRIDER 1 "" "Outrider" "User commands"',
        ".SH NAME", f"outrider \\- {escaped(dump['abstract'][0].lower() + dump['abstract'][1:].rstrip('.'))}",
        ".SH SYNOPSIS", ".B outrider run", "[\\-\\-config FILE] [\\-\\-state DIR] [\\-\\- COMMAND...]", ".br",
        ".B outrider", "COMMAND [OPTIONS]",
        ".SH COMMANDS", *commands(dump, ["outrider"])]
    return "\n".join(lines) + "\n" + FILES


def main():
    words = [word for word in sys.argv[1:] if word != "--check"]
    binary = words[0] if words else str(ROOT / "dist" / "outrider")
    text = page(binary)
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text() != text:
            sys.exit(f"{PAGE.relative_to(ROOT)} is not current: run dev/man.py {binary}")
        return
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)


main()
