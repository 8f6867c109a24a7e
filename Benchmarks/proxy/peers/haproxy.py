"""HAProxy: one thread, kept upstream connections shared by all clients, counters readable on a Unix socket."""

from server import PROXY_CORE, NotSupported, Server, command, free_port

HTTP = """
global
  nbthread 1
  maxconn 8192
  stats socket {directory}/stats
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option forwardfor
  retries 1
frontend f
  bind 127.0.0.1:{port}{bind}
  unique-id-format %{{+X}}o%ci%cp%Ts%rt
  unique-id-header X-Request-Id
  default_backend b
backend b
  server u 127.0.0.1:{upstream}{server}
"""
TCP = """
global
  nbthread 1
  maxconn 8192
  stats socket {directory}/stats
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server u 127.0.0.1:{upstream}
"""


def start(shape, upstream, directory, certificate=None):
    if shape.features:
        raise NotSupported("HAProxy writes no records to files by itself")
    directory.mkdir(parents=True)
    port = free_port()
    bind = {"tls": f" ssl crt {certificate and certificate.both}", "http2": " proto h2"}.get(shape.accepts, "")
    server = " proto h2" if shape.speaks == "http2" else ""
    text = TCP if shape.accepts == "tcp" else HTTP
    (directory / "haproxy.cfg").write_text(
        text.format(port=port, upstream=upstream, bind=bind, server=server, directory=directory))
    return Server(
        "HAProxy", PROXY_CORE, port, [command("haproxy"), "-db", "-f", directory / "haproxy.cfg"], directory,
        accepts=shape.accepts)
