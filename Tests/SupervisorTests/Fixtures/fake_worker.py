"""A worker for the tests: speaks the frames on descriptor 3 and does what its JSON scenario says.

usage: fake_worker.py SCENARIO.json. Keys, all optional:
  app: argv            env: list           cwd, user, group: text     ready_fd: bool
  policy: {has_app, restart, signal, grace, delay, timeout, deadline}  (milliseconds)
  listen: [address]    ready: bool (True)  exit: code at once          fatal: code
  silent: bool (never outboundReady)       flush: bool (True)          drain: bool (True)
  on_start: [frame names]: actions sent after the app is ready
Everything it sees is a line in the file `log`; the app's output goes to the file `out`.
"""
import array, json, os, select, socket, struct, sys

scenario = json.load(open(sys.argv[1]))
channel = socket.socket(fileno=3)
log = open(scenario["log"], "a", buffering=1)
out = open(scenario["out"], "ab", buffering=0)


def note(text):
    log.write(text + "\n")


def text(value):
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw


def texts(values):
    return struct.pack("<I", len(values)) + b"".join(text(v) for v in values)


def optional(value):
    return b"\0" if value is None else b"\1" + text(value)


def send(kind, payload=b""):
    channel.sendall(struct.pack("<IBB", len(payload), kind, 0) + payload)


pending, descriptors = b"", []


def receive():
    """The next frame (kind, payload, descriptors), None at the end."""
    global pending, descriptors
    while True:
        if len(pending) >= 6:
            length, kind, count = struct.unpack("<IBB", pending[:6])
            if len(pending) >= 6 + length:
                payload, pending = pending[6:6 + length], pending[6 + length:]
                taken, descriptors = descriptors[:count], descriptors[count:]
                return kind, payload, taken
        data, ancillary, _, _ = channel.recvmsg(65536, socket.CMSG_SPACE(4 * 250))
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                values = array.array("i")
                values.frombytes(raw[:len(raw) - len(raw) % 4])
                descriptors += list(values)
        if not data:
            return None
        pending += data


def spec():
    return (texts(scenario["app"]) + texts(scenario.get("env", ["PATH=" + os.environ["PATH"]]))
            + optional(scenario.get("cwd")) + optional(scenario.get("user")) + optional(scenario.get("group"))
            + bytes([scenario.get("ready_fd", False)]))


pipes = set()


def pump(descriptor):
    """Copies what is there; forgets the pipe at its end."""
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return
    if data:
        out.write(data)
    else:
        pipes.discard(descriptor)
        os.close(descriptor)


def ready():
    send(10, bytes([1]) + text(""))
    for name in scenario.get("on_start", []):
        {"restart": lambda: send(12), "quit": lambda: send(16), "usr1": lambda: send(11, struct.pack("<i", 10)),
         "unready": lambda: send(10, b"\0" + text("probe failed"))}[name]()
    scenario["on_start"] = []


def take(kind, payload, fds):
    if kind == 1:
        note(f"bound {len(fds)}")
        for fd in fds:
            name = socket.socket(fileno=os.dup(fd)).getsockname()
            note("address " + (name if isinstance(name, str) else f"{name[0]} {name[1]}"))
    elif kind == 2:
        length, = struct.unpack("<I", payload[4:8])
        rest = payload[8 + length:]
        note(f"bindFailed {payload[8:8 + length].decode()} {rest[4:].decode()}")
        send(15, struct.pack("<i", 73))
    elif kind == 3:
        note("prepareApp")
        if scenario.get("answer", True):
            send(9, spec())
    elif kind == 4:
        pid, restarts = struct.unpack("<iI", payload)
        note(f"appStarted {pid} {restarts}")
        pipes.update(fds)
        if scenario.get("ready", True) and not scenario.get("ready_fd"):
            ready()
    elif kind == 5:
        note("appExited %d %d" % struct.unpack("<Bi", payload))
    elif kind == 6:
        note("appReadyByDescriptor")
    elif kind == 7:
        note("openInbound")
        if scenario.get("listen"):
            send(4, struct.pack("<I", 1))
    elif kind == 8:
        note("draining")
    elif kind == 9:
        note("closeInbound")
        if scenario.get("drain", True):
            send(13)
    elif kind == 10:
        note("finish")
        while pipes:
            for fd in select.select(list(pipes), [], [], 10)[0]:
                pump(fd)
        if scenario.get("flush", True):
            note("flushed")
            send(14)
    elif kind == 11:
        note("reload")
        send(17)
    elif kind == 12:
        note("state " + payload[4:].decode())
    elif kind == 13:
        pid, = struct.unpack("<i", payload[:4])
        length, = struct.unpack("<I", payload[4:8])
        note(f"inherit {pid} {payload[8:8 + length].decode()} {len(fds)}")
        pipes.update(fds)


note(f"worker {os.getpid()}")
send(1, struct.pack("<I", 1))
if "exit" in scenario:
    sys.exit(scenario["exit"])
if "fatal" in scenario:
    send(15, struct.pack("<i", scenario["fatal"]))
    sys.exit(1)
policy = scenario.get("policy", {})
send(2, bytes([policy.get("has_app", "app" in scenario)]) + text(policy.get("restart", "never"))
     + struct.pack("<i", policy.get("signal", 15))
     + b"".join(struct.pack("<q", policy.get(name, default)) for name, default in
                [("grace", 10000), ("delay", 0), ("timeout", 5000), ("deadline", 20000)]))
if scenario.get("listen"):
    send(3, struct.pack("<I", 1) + texts(scenario["listen"]))
if not scenario.get("silent"):
    send(8)
while True:
    reading = [channel] + ([] if scenario.get("hold") else list(pipes))
    for source in select.select(reading, [], [])[0]:
        if source is channel:
            frame = receive()
            while frame:
                take(*frame)
                complete = len(pending) >= 6 and len(pending) >= 6 + struct.unpack("<I", pending[:4])[0]
                if not complete:
                    break
                frame = receive()
            if frame is None:
                note("end")
                sys.exit(0)
        elif source in pipes:
            pump(source)
