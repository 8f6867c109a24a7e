"""What idle connections cost in memory."""

import resource
import socket
import ssl
import sys
import threading

from server import BODY

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n"


def allow_files(wanted):
    """Lifts this process's limit of open files (and its children's), or says how."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"only {hard} files may be open: raise it to {wanted}, for example with 'ulimit -Hn {wanted}' as root")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def opened(server, context):
    """A connection that has made one request and keeps quiet since."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    if context:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(REQUEST)
    reply = b""
    while not reply.endswith(BODY.encode()):
        part = connection.recv(8192)
        if not part or len(reply) > 65536:
            sys.exit(f"{server.name}: no whole reply on an idle connection, only {reply[:200]!r}")
        reply += part
    return connection


def is_open(connection):
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def settled(server):
    """Memory once three looks, a quarter of a second apart, agree within 16 KiB; at the latest after 5 seconds."""
    pause, looks = threading.Event(), []
    for _ in range(20):
        looks.append(server.memory())
        private = [look.private for look in looks[-3:]]
        if len(private) == 3 and max(private) - min(private) <= 16:
            break
        pause.wait(0.25)
    return looks[-1]


def measure(server, count):
    """Memory of a server without connections, and with `count` that are idle."""
    context = None
    if server.accepts == "tls":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(20):  # what only the first requests take is no cost of a connection
        opened(server, context).close()
    before, connections = settled(server), []
    try:
        for _ in range(count):
            connections.append(opened(server, context))
        after = settled(server)
        left = sum(map(is_open, connections))
        if left < count:
            sys.exit(f"{server.name} closed {count - left} of {count} idle connections; its memory means nothing")
    finally:
        for connection in connections:
            connection.close()
    return {
        "rss 0": before.resident / 1024, "rss": after.resident / 1024,
        "private 0": before.private / 1024, "private": after.private / 1024,
        "each": (after.private - before.private) / count}
