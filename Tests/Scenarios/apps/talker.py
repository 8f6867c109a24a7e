"""Writes numbered lines: talker.py COUNT [PER_SECOND] [stay]. Even numbers to stdout, odd ones to stderr.

Without a rate, as fast as it goes. With `stay`, it then waits for TERM; it notes signals as lines.
"""

import os
import signal
import sys
import threading

total = int(sys.argv[1])
rate = float(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] != "stay" else 0
ended = threading.Event()


def note(number, frame):
    os.write(1, b"signal-%d-seen\n" % number)
    if number in (signal.SIGTERM, signal.SIGINT):
        ended.set()


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, note)

for position in range(total):
    os.write(1 + position % 2, b"line-%d-end\n" % position)
    if rate and ended.wait(1 / rate):
        break
if "stay" in sys.argv:
    os.write(1, b"talker-done\n")
    # In steps, so that a signal's handler runs soon.
    while not ended.wait(0.1):
        pass
