"""Reads the shared memory as fast as it can: memory_reader.py REPORT LAST.

The fields `db.user` and `db.password` hold the same number; a read in which they differ is torn. At the value LAST the
report is written and the program waits for its end.
"""

import json
import os
import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "Examples" / "readers"))
import outrider_secrets  # noqa: E402

report, last = sys.argv[1], sys.argv[2]
memory, reads, torn, closed, seen = outrider_secrets.Secrets(), 0, 0, 0, []
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
while not ended.is_set():
    try:
        flags, _, values = memory.read()
    except outrider_secrets.Stale:
        continue
    if flags & outrider_secrets.CLOSED:
        closed += 1
        try:
            memory.open()
        except OSError:
            ended.wait(0.05)
        continue
    reads += 1
    user, password = values["db.user"].decode(), values["db.password"].decode()
    torn += user.rpartition("-")[2] != password.rpartition("-")[2]
    if not seen or seen[-1] != password:
        seen.append(password)
        with open(report + ".new", "w") as out:
            json.dump({"reads": reads, "torn": torn, "closed": closed, "seen": seen}, out)
        os.replace(report + ".new", report)
    if password == last:
        ended.wait()
