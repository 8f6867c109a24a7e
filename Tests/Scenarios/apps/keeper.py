"""Shows what secrets reached it: keeper.py REPORT_FILE [SECRET_FILE].

Writes {"env": {name: value}, "file": text, "hups": N} to REPORT_FILE at the start and at each HUP; prints the
secret from the environment variable SECRET once, plainly: redaction must hide it. Ends with TERM.
"""

import json
import os
import signal
import sys
import threading

report, file = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
hups, ended = 0, threading.Event()


def write():
    content = open(file).read() if file else None
    with open(report + ".new", "w") as out:
        names = ("SECRET", "SECOND")
        json.dump({"env": {n: os.environ[n] for n in names if n in os.environ}, "file": content, "hups": hups,
                   "pid": os.getpid()}, out)
    os.replace(report + ".new", report)


def on_hup(*_):
    global hups
    hups += 1
    write()


signal.signal(signal.SIGHUP, on_hup)
signal.signal(signal.SIGTERM, lambda *_: ended.set())
write()
if "SECRET" in os.environ:
    print("my secret is " + os.environ["SECRET"] + " indeed", flush=True)
    print(json.dumps({"message": "as json", "password": os.environ["SECRET"]}), flush=True)
print("keeper-started", flush=True)
while not ended.wait(0.1):
    pass
