"""Secrets of Outrider from shared memory (layout v1); the standard library is enough.

    secrets = Secrets()                     # OUTRIDER_SECRETS_PATH, OUTRIDER_SECRETS_FD or OUTRIDER_SECRETS_SOCKET
    secrets["db.password"]                  # bytes, always of one whole publication
    if secrets.wait(30): ...                # something was published
"""

import array
import mmap
import os
import socket
import struct
import time
import zlib

READY, STALE, CLOSED = 1, 2, 4


class Stale(Exception):
    """The writer died while it wrote; what was read before is still good."""


class Secrets:
    def __init__(self, descriptor=None):
        self.memory = None
        self.open(descriptor)

    def open(self, descriptor=None):
        """Opens the memory, or the one that took its place."""
        path, number = os.environ.get("OUTRIDER_SECRETS_PATH"), os.environ.get("OUTRIDER_SECRETS_FD")
        if descriptor is None and path:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if descriptor is None and self.memory and os.environ.get("OUTRIDER_SECRETS_SOCKET"):
            descriptor = ask(os.environ["OUTRIDER_SECRETS_SOCKET"])
        if descriptor is None and number:
            descriptor = os.dup(int(number))
        if descriptor is None:
            descriptor = ask(os.environ["OUTRIDER_SECRETS_SOCKET"])
        try:
            memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        if memory[:8] != b"OUTSEC\0\1":
            raise ValueError("this is no memory of Outrider's secrets, layout 1")
        self.memory, self.last = memory, None

    def seq(self):
        return struct.unpack_from("<I", self.memory, 16)[0]

    def read(self):
        """(flags, generation, {name: value}) of one publication; raises Stale after 10 ms without one."""
        end = time.monotonic() + 0.010
        while True:
            before = self.seq()
            if not before & 1:
                flags, generation, _, used, checksum, count = struct.unpack_from("<IQQIII", self.memory, 20)
                payload = self.memory[64:64 + used]
                if self.seq() == before and zlib.crc32(payload) == checksum:
                    self.last = before
                    return flags, generation, dict(records(payload, count))
            if time.monotonic() > end:
                raise Stale()

    def __getitem__(self, name):
        flags, _, values = self.read()
        if flags & CLOSED:
            self.open()
            flags, _, values = self.read()
        return values[name]

    def wait(self, seconds):
        """True when something was published since the last read. Looks a hundred times a second."""
        end = time.monotonic() + seconds
        while self.seq() == self.last:
            if time.monotonic() > end:
                return False
            time.sleep(0.010)
        return True


def records(payload, count):
    at = 0
    for _ in range(count):
        length, name, _, value, _, _, _ = struct.unpack_from("<IHHIIQQ", payload, at)
        start = at + 32
        yield payload[start:start + name].decode(), payload[start + name:start + name + value]
        at += length


def ask(path):
    """The memory's descriptor, handed over by the socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"GET /v1/memory HTTP/1.1\r\nHost: outrider\r\n\r\n")
        found = array.array("i")
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(found.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(data[:found.itemsize])
        if not found:
            raise OSError(f"{path} hands no memory over")
        return found[0]
